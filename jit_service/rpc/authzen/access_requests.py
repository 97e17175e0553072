"""The servicer of access requests over AuthZEN: decode, call, encode.

Experimental; see jit_service/use_cases/authzen_requests.py.

The draft answers some faults with problems (RFC 9457) and HTTP statuses that no gRPC status maps to. Here they are
ordinary answers, whose HTTP status envoy.yaml's Lua filter sets. They are recorded like every refusal.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import grpc
from google.api.httpbody_pb2 import HttpBody

from authzen.v1 import access_request_pb2
from authzen.v1.access_request_pb2_grpc import AccessRequestServiceServicer
from jit_service.domain.audit.refusal import About
from jit_service.domain.caller import Caller
from jit_service.domain.conditions.context import SOURCE_IP
from jit_service.domain.errors import (
    DenialNotBound,
    DenialOver,
    GrantNotFound,
    InvalidField,
    JitError,
    NotVisible,
    RequestIdReused,
    WrongState,
)
from jit_service.domain.grants.grant import Grant, GrantState, Justification
from jit_service.domain.grants.request import Ask
from jit_service.rpc.authzen import json_bodies as wire
from jit_service.rpc.authzen.i_json import Object, object_of
from jit_service.rpc.authzen.json_bodies import Submission
from jit_service.rpc.authzen.servicer import ACCESS_REQUEST_ENDPOINTS
from jit_service.rpc.interceptor import current_caller
from jit_service.storage import Store
from jit_service.use_cases import audit
from jit_service.use_cases.authzen_requests import AccessRequests
from jit_service.use_cases.grants import GrantAnswer
from jitaccess.naming import rfc3339

# The draft's problem types, with their HTTP status and title, by the class of error.
PROBLEMS: Final[dict[type[JitError], tuple[str, int, str]]] = {
    DenialNotBound: ("invalid_denial_binding", 400, "What is asked for is not bound to a denial"),
    DenialOver: ("expired_denial", 410, "The denial is too old"),
    RequestIdReused: ("duplicate_request", 409, "The Idempotency-Key was used for another request"),
    NotVisible: ("unknown_task", 404, "There is no such task"),
    GrantNotFound: ("unknown_task", 404, "There is no such task"),
    WrongState: ("invalid_task_state", 409, "The task is not in the state for that"),
}
_STATUS: Final = {
    GrantState.PENDING: "pending",
    GrantState.DENIED: "denied",
    GrantState.WITHDRAWN: "cancelled",
    GrantState.LAPSED: "expired",
}
_KEY_SPACE: Final = uuid.UUID("0a6f0a3c-6a44-4c5a-9a4e-5f0b3f1d2c77")
_MAX_KEY: Final = 256
_POLL_SECONDS: Final = "5"


class AccessRequestServicer(AccessRequestServiceServicer):
    """Access requests and their tasks by AuthZEN's API. Its endpoints are below `public_url`."""

    def __init__(self, store: Store, requests: AccessRequests, public_url: str) -> None:
        self._store = store
        self._requests = requests
        self._endpoint = public_url + ACCESS_REQUEST_ENDPOINTS["access_request_endpoint"]

    def CreateAccessRequest(
        self, request: access_request_pb2.CreateAccessRequestRequest, context: grpc.ServicerContext
    ) -> HttpBody:
        body = object_of(request.body)

        def create() -> HttpBody:
            submission = wire.submission(body)
            answer = self._requests.ask(
                _with_idempotency_key(current_caller(), context, body),
                submission.evaluation.denied,
                _ask(submission),
                token=submission.binding_token,
                until=submission.until,
            )
            task_body = self._task_body(answer)
            waits = task_body["task"]["status"] == "pending"
            location = ("location", task_body["task"]["status_endpoint"])
            context.send_initial_metadata(
                (("x-jit-status", "202" if waits else "201"), location, *_retry_after(task_body))
            )
            return wire.body_of(task_body)

        return self._answer_or_problem(context, create, _refusal_about(body))

    def GetAccessRequest(
        self, request: access_request_pb2.GetAccessRequestRequest, context: grpc.ServicerContext
    ) -> HttpBody:
        def get() -> HttpBody:
            task_body = self._task_body(self._requests.get(current_caller(), request.id))
            context.send_initial_metadata(_retry_after(task_body))
            return wire.body_of(task_body)

        return self._answer_or_problem(context, get, None)

    def CancelAccessRequest(
        self, request: access_request_pb2.CancelAccessRequestRequest, context: grpc.ServicerContext
    ) -> HttpBody:
        def cancel() -> HttpBody:
            comment = wire.comment(request.body)
            return wire.body_of(self._task_body(self._requests.cancel(current_caller(), request.id, comment=comment)))

        return self._answer_or_problem(context, cancel, About(grant=f"grants/{request.id}"))

    def _answer_or_problem(
        self, context: grpc.ServicerContext, answer: Callable[[], HttpBody], about: About | None
    ) -> HttpBody:
        """Returns the answer, or else records the refusal and returns the draft's problem for it."""
        try:
            return answer()
        except JitError as error:
            problem = PROBLEMS.get(type(error))
            if problem is None:
                raise
            if about is not None:
                audit.record_refusal(self._store, current_caller(), error, about)
            kind, status, title = problem
            context.send_initial_metadata((("x-jit-status", str(status)),))
            problem_body = {"type": f"urn:openid:authzen:access-request:error:{kind}", "title": title, "status": status}
            return wire.body_of(problem_body | {"detail": error.message}, "application/problem+json")

    def _task_body(self, answer: GrantAnswer) -> Object:
        grant, now = answer.grant, answer.at
        identifier = grant.name.removeprefix("grants/")
        status = _STATUS.get(grant.state(now), "approved")
        task: Object = {"id": identifier, "status": status, "status_endpoint": f"{self._endpoint}/{identifier}"}
        if status != "pending":
            return {"task": task} | ({"result": _result(grant, identifier)} if status == "approved" else {})
        if grant.request_expires_at is not None:
            task["expires_at"] = rfc3339.exact(grant.request_expires_at)
        task["links"] = {"cancel": f"{self._endpoint}/{identifier}:cancel"}
        return {"task": task}


def _result(grant: Grant, identifier: str) -> Object:
    """Returns the result of an approved task. The approval ends with its grant, and gives no access by itself."""
    ends_at = grant.end.at if grant.end is not None else grant.expires_at
    if ends_at is None:
        raise AssertionError("an approved grant without its end")
    return {"mode": "reevaluate", "approval": {"id": identifier, "approved_until": rfc3339.exact(ends_at)}}


def _retry_after(task_body: Object) -> tuple[tuple[str, str], ...]:
    return (("retry-after", _POLL_SECONDS),) if task_body["task"]["status"] == "pending" else ()


def _ask(submission: Submission) -> Ask:
    evaluation = submission.evaluation
    return Ask(
        subject=evaluation.subject.subject,
        resources=(evaluation.resource.resource,),
        actions=(evaluation.action.name,),
        justification=Justification(text=submission.justification, ticket=submission.ticket),
        # The denied check may name another address of the subject; a request counts from the address that we see.
        context={key: value for key, value in evaluation.denied.context.items() if key != SOURCE_IP},
        break_glass=submission.emergency,
    )


def _refusal_about(body: Object) -> About:
    """Returns what the call was about, as far as its body tells."""
    try:
        return wire.evaluation(body).about
    except InvalidField:
        return About()


def _with_idempotency_key(caller: Caller, context: grpc.ServicerContext, body: Object) -> Caller:
    """Returns the caller with its Idempotency-Key as the request_id. Keys of different callers never collide.

    Two bodies are the same request if they are the same JSON, apart from spaces and order; the draft leaves that open.
    """
    keys = [str(value) for key, value in context.invocation_metadata() if key == "idempotency-key"]
    if not keys:
        return caller
    if len(keys) > 1 or not 1 <= len(keys[0]) <= _MAX_KEY:
        raise InvalidField("idempotency-key", f"must be one text of 1 to {_MAX_KEY} characters")
    request_id = str(uuid.uuid5(_KEY_SPACE, f"{caller.principal}\0{keys[0]}"))
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    return caller._replace(origin=replace(caller.origin, request_id=request_id), request_digest=digest)
