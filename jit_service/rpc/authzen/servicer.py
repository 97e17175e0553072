"""The servicer of AuthZEN's Authorization API 1.0: decode, call, encode. Decisions are those of Check and Search."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import grpc
from google.api.httpbody_pb2 import HttpBody

from authzen.v1 import authorization_pb2
from authzen.v1.authorization_pb2_grpc import AuthorizationServiceServicer
from jit_service.check import checker as access
from jit_service.check import questions, search
from jit_service.check.checker import Checker
from jit_service.check.questions import RefusedItem
from jit_service.check.recording import CheckResult
from jit_service.check.search import Searcher, SearchPage
from jit_service.domain.audit.refusal import About
from jit_service.domain.caller import Caller
from jit_service.domain.checks.decision import Question
from jit_service.domain.checks.search import SearchMatch, Side
from jit_service.domain.errors import InvalidField, JitError, NoPublicUrl
from jit_service.rpc.authzen import json_bodies as wire
from jit_service.rpc.authzen.i_json import Object, object_of
from jit_service.rpc.authzen.json_bodies import Evaluation, PageRequest
from jit_service.rpc.errors import http_status
from jit_service.rpc.interceptor import current_caller
from jit_service.rpc.quota import Quota
from jit_service.use_cases.authzen_requests import AccessRequests, ApprovalStatus
from jitaccess.naming import rfc3339

ENDPOINTS: Final = {
    "access_evaluation_endpoint": "/access/v1/evaluation",
    "access_evaluations_endpoint": "/access/v1/evaluations",
    "search_subject_endpoint": "/access/v1/search/subject",
    "search_resource_endpoint": "/access/v1/search/resource",
    "search_action_endpoint": "/access/v1/search/action",
}
# Experimental, as in jit_service/use_cases/authzen_requests.py.
ACCESS_REQUEST_ENDPOINTS: Final = {
    "access_request_endpoint": "/access/v1/requests",
    "jwks_uri": "/.well-known/jwks.json",
}
CAPABILITY: Final = "urn:openid:authzen:capability:access-request"
_MAX_CACHED: Final = 300
# The answer to an invalid name in one of these is no. Any other invalid field makes the request invalid.
_NAMES: Final = frozenset({"subject", "action", "resource"})


class AuthzenServicer(AuthorizationServiceServicer):
    """Decisions by AuthZEN's API. Its endpoints are below `public_url`, which is empty if it is not known."""

    def __init__(
        self, checker: Checker, searcher: Searcher, requests: AccessRequests, public_url: str, quota: Quota
    ) -> None:
        self._quota = quota
        self._checker = checker
        self._searcher = searcher
        self._requests = requests
        self._public_url = public_url

    def Evaluate(self, request: authorization_pb2.EvaluateRequest, context: grpc.ServicerContext) -> HttpBody:
        return wire.body_of(self._evaluate(current_caller(), wire.evaluation(object_of(request.body))))

    def EvaluateAll(self, request: authorization_pb2.EvaluateAllRequest, context: grpc.ServicerContext) -> HttpBody:
        caller = current_caller()
        batch = wire.batch(object_of(request.body), limit=access.MAX_ITEMS)
        if isinstance(batch, Evaluation):
            return wire.body_of(self._evaluate(caller, batch))
        # The interceptor has counted the call as one.
        self._quota.demand(caller, writes=False, weight=len(batch.items) - 1)
        items = [_question(caller, item) for item in batch.items]
        stops_at = {"deny_on_first_deny": False, "permit_on_first_permit": True}.get(batch.semantic)
        answers = (
            self._checker.check_many(caller, items) if stops_at is None else self._check_until(caller, items, stops_at)
        )
        decisions = [self._answer(item, answer) for item, answer in zip(batch.items, answers, strict=False)]
        return wire.body_of({"evaluations": decisions})

    def SearchSubject(self, request: authorization_pb2.SearchSubjectRequest, context: grpc.ServicerContext) -> HttpBody:
        body = object_of(request.body)
        evaluation = wire.subject_search(body)
        return self._search(evaluation, Side.SUBJECT, wire.page(body), evaluation.subject.subject_of)

    def SearchResource(
        self, request: authorization_pb2.SearchResourceRequest, context: grpc.ServicerContext
    ) -> HttpBody:
        body = object_of(request.body)
        evaluation = wire.resource_search(body)
        return self._search(evaluation, Side.RESOURCE, wire.page(body), evaluation.resource.resource_of)

    def SearchAction(self, request: authorization_pb2.SearchActionRequest, context: grpc.ServicerContext) -> HttpBody:
        body = object_of(request.body)
        evaluation = wire.action_search(body)
        return self._search(evaluation, Side.ACTION, wire.page(body), lambda name: {"name": name})

    def GetConfiguration(
        self, request: authorization_pb2.GetConfigurationRequest, context: grpc.ServicerContext
    ) -> HttpBody:
        if not self._public_url:
            raise NoPublicUrl("the service does not know its URL: no token_issuer is set")
        context.send_initial_metadata((("cache-control", f"public, max-age={_MAX_CACHED}"),))
        endpoints = {name: self._public_url + path for name, path in (ENDPOINTS | ACCESS_REQUEST_ENDPOINTS).items()}
        return wire.body_of({"policy_decision_point": self._public_url, **endpoints, "capabilities": [CAPABILITY]})

    def _evaluate(self, caller: Caller, evaluation: Evaluation) -> Object:
        item = _question(caller, evaluation)
        if isinstance(item, Question):
            return self._answer(evaluation, self._checker.check(caller, item))
        if not _is_name_fault(item.error):
            raise item.error
        return _decision(self._checker.check_many(caller, [item])[0])

    def _answer(self, evaluation: Evaluation | InvalidField, answer: CheckResult | JitError) -> Object:
        """Returns the decision. A no says how to request access, and the status of an approval that the caller sent."""
        decision = _decision(answer)
        if isinstance(evaluation, InvalidField) or isinstance(answer, JitError):
            return decision
        context: Object = decision["context"]
        if (hint := self._requests.hint(evaluation.denied, answer)) is not None:
            context["access_request"] = {
                "endpoint": self._public_url + ACCESS_REQUEST_ENDPOINTS["access_request_endpoint"],
                "expires_at": rfc3339.exact(hint.expires_at),
                "binding_token": hint.binding_token,
                "display": {"title": "Request access", "description": ", ".join(answer.requestable)},
            }
        if evaluation.approval_id is not None:
            context |= _approval_status(
                evaluation.approval_id, self._requests.approval_status(evaluation.approval_id, answer)
            )
            if context.get("next_action") == "request" and hint is None:
                context["next_action"] = "none"
        return decision | {"context": context}

    def _check_until(
        self, caller: Caller, items: Sequence[Question | RefusedItem], stops_at: bool
    ) -> list[CheckResult | JitError]:
        """Checks the items one by one, up to the first whose answer is `stops_at`; it does not check the rest."""
        answers: list[CheckResult | JitError] = []
        for item in items:
            answer = self._checker.check_many(caller, [item])[0]
            answers.append(answer)
            if _is_allowed(answer) is stops_at:
                break
        return answers

    def _search(
        self, evaluation: Evaluation, side: Side, page: PageRequest, entity: Callable[[str], Object]
    ) -> HttpBody:
        caller = current_caller()
        limit, token = _page(page)
        try:
            query, within = _search_query(caller, evaluation, side)
        except InvalidField as fault:
            if not _is_name_fault(fault):
                raise
            self._checker.check_many(caller, [RefusedItem(error=fault, about=evaluation.about)])
            return wire.body_of({"page": {"next_token": "", "count": 0}, "results": []})
        found = self._searcher.search(caller, query, page_size=limit, page_token=token, within=within)
        return wire.body_of(_page_body(found, limit, entity))


def _question(caller: Caller, evaluation: Evaluation | InvalidField) -> Question | RefusedItem:
    if isinstance(evaluation, InvalidField):
        return RefusedItem(error=evaluation, about=About())
    try:
        return questions.question(
            caller,
            subject=evaluation.subject.subject,
            action=evaluation.action.name,
            resource=evaluation.resource.resource,
            asserted=evaluation.asserted,
        )
    except JitError as error:
        return RefusedItem(error=error, about=evaluation.about)


def _search_query(caller: Caller, evaluation: Evaluation, side: Side) -> tuple[search.SearchQuery, str]:
    """Returns the query, and the prefix of every name to be found: the type, if the search is for one type."""
    subject, resource = evaluation.subject.subject, evaluation.resource.resource
    query = search.search_query(
        caller,
        subject="" if side is Side.SUBJECT else subject,
        action=evaluation.action.name,
        resource="" if side is Side.RESOURCE else resource,
        asserted=evaluation.asserted,
    )
    return query, {Side.SUBJECT: subject, Side.RESOURCE: resource, Side.ACTION: ""}[side]


def _is_name_fault(error: JitError) -> bool:
    return isinstance(error, InvalidField) and error.field in _NAMES


def _is_allowed(answer: CheckResult | JitError) -> bool:
    return isinstance(answer, CheckResult) and answer.decision.allowed


def _decision(answer: CheckResult | JitError) -> Object:
    """Returns the decision. An error is a no with the error in its context."""
    if isinstance(answer, JitError):
        if _is_name_fault(answer):
            return {"decision": False, "context": {"reason": "NO_GRANT", "message": answer.message}}
        error = {"status": http_status(answer), "reason": answer.reason, "message": answer.message}
        return {"decision": False, "context": {"error": error}}
    context: Object = {
        "evaluation_id": answer.decision_id,
        "evaluated_at": rfc3339.exact(answer.at),
        "reason": answer.decision.reason.value,
        "message": answer.decision.message,
        "revision": str(answer.revision),
    }
    grant = answer.decision.grant
    if answer.decision.allowed and grant is not None and grant.expires_at is not None:
        context |= {"grant": grant.name, "expires_at": rfc3339.exact(grant.expires_at)}
    return {"decision": answer.decision.allowed, "context": context}


def _approval_status(approval_id: str, worth: ApprovalStatus) -> Object:
    if not worth.reason:
        ends = {"approved_until": rfc3339.exact(worth.approved_until)} if worth.approved_until else {}
        return {"approval": {"id": approval_id, **ends}}
    status: Object = {"reason": worth.reason, "next_action": worth.next_action}
    return status | ({"retry_after": worth.pause} if worth.pause else {})


def _page(page: PageRequest) -> tuple[int, str]:
    """Returns the limit and the service's own token. A page token also holds the limit of the pages before."""
    if not page.token:
        return page.limit, ""
    digits, _, token = page.token.partition(".")
    if not digits.isascii() or not digits.isdecimal() or len(digits) > 10 or not token:
        raise InvalidField("page.token", "is not one that the service gave")
    if page.limit and page.limit != int(digits):
        raise InvalidField("page.limit", f"is {page.limit}; it was {int(digits)} for the page before")
    return int(digits), token


def _page_body(page: SearchPage, limit: int, entity: Callable[[str], Object]) -> Object:
    names = [one for one in page.found if not one.is_pattern]
    patterns = [_pattern_body(one) for one in page.found if one.is_pattern]
    token = f"{limit}.{page.next_page_token}" if page.next_page_token else ""
    context: Object = {"evaluated_at": rfc3339.exact(page.at), "revision": str(page.revision)}
    if patterns:
        context["patterns"] = patterns
    return {
        "page": {"next_token": token, "count": len(names)},
        "context": context,
        "results": [entity(one.name) for one in names],
    }


def _pattern_body(found: SearchMatch) -> Object:
    """A pattern is not an entity, so it stands beside the results, for clients that can read it."""
    return {"pattern": found.name, "exceptions": list(found.excepted)}
