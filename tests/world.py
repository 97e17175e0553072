"""A whole service for tests: real gRPC, real Envoy, real tokens, and a clock that only the test moves.

One world serves a test session's worker. Tests keep out of each other's way by people, groups and resources of their
own: every `Story` has its own.
"""

from __future__ import annotations

import base64
import http.client
import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import quote, urlencode

import grpc
from google.api.annotations_pb2 import http as http_rule
from google.api.httpbody_pb2 import HttpBody
from google.protobuf import descriptor_pool
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2, status_pb2
from sqlalchemy import make_url

import tests.contract  # noqa: F401 (fills the descriptor pool)
from jit_service.background import BackgroundThread
from jit_service.domain.caller import Role
from jit_service.runtime.audit_compactor import AuditCompactor
from jit_service.runtime.dev_issuer import DevIssuer
from jit_service.runtime.envoy import Envoy, render
from jit_service.runtime.service import Service
from jit_service.settings import Address, Settings
from jit_service.storage.migrate import migrate
from jit_service.use_cases.unauthenticated_calls import INTERVAL, UnauthenticatedCalls
from tests.conftest import Clock, migrated

Thread = TypeVar("Thread", bound=BackgroundThread)
GRANTS = "/jitaccess.v1.GrantService/"
ACCESS = "/jitaccess.v1.AccessService/"
POLICIES = "/jitaccess.v1.PolicyService/"
SIGNALS = "/jitaccess.v1.SignalService/"
AUDIT = "/jitaccess.v1.AuditService/"
TOKENS = "/jitaccess.v1.TokenService/"
DELEGATIONS = "/jitaccess.v1.DelegationService/"
LOCKS = "/jitaccess.v1.LockService/"
FORM = "application/x-www-form-urlencoded"
HTTP_OF = {
    "INVALID_ARGUMENT": 400,
    "DEADLINE_EXCEEDED": 504,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "PERMISSION_DENIED": 403,
    "RESOURCE_EXHAUSTED": 429,
    "FAILED_PRECONDITION": 400,
    "ABORTED": 409,
    "UNAVAILABLE": 503,
    "UNAUTHENTICATED": 401,
}


@dataclass(frozen=True)
class Person:
    """Somebody who can call."""

    principal: str
    groups: tuple[str, ...] = ()
    roles: tuple[Role, ...] = ()
    log_in: dict[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Outcome:
    """An answer: its message, or the error as google.rpc.Status tells it."""

    code: str
    message: Any = None
    text: str = ""
    reason: str = ""
    fields: tuple[str, ...] = ()
    details: tuple[str, ...] = ()
    metadata: dict[str, str] = field(default_factory=dict)


class World:
    """The running service, with what a test needs to call it."""

    def __init__(self, directory: Path, clock: Clock, url: str, **settings: Any) -> None:
        self.clock = clock
        self.issuer = DevIssuer(directory)
        usual = {
            "data_dir": directory,
            "database_url": url,
            "sweep_interval": timedelta(days=1),
            "token_issuer": "https://jit.example.com",
        }
        self.settings = Settings.load(**(usual | settings))
        self.settings = self.settings.with_issuer(self.issuer.issuer())
        make_database(self.settings.store_url)
        self.service = Service(self.settings, clock=clock)
        self.grpc = self.service.listen(Address("127.0.0.1", 0))
        self.passing = self.service.listen_passing(Address("127.0.0.1", 0))
        socket = directory / "s.sock"
        self.service.listen_unix(socket)
        self.service.start()
        # By the machine's time they would append to the log, and merge it, in the midst of somebody's test.
        (self._unauthenticated,) = self._threads(UnauthenticatedCalls)
        for thread in (self._unauthenticated, *self._threads(AuditCompactor)):
            thread.stop()
        self.envoy = Envoy(
            render(http=Address("127.0.0.1", 0), upstream=socket, directory=directory), directory=directory
        )
        self.http = self.envoy.start(timeout=30)
        self.channel = grpc.insecure_channel(str(self.grpc))

    def stop(self) -> None:
        self.channel.close()
        self.envoy.stop()
        self.service.stop()

    def _threads(self, kind: type[Thread]) -> list[Thread]:
        return [thread for thread in self.service.gauges.threads if isinstance(thread, kind)]

    def settle(self) -> None:
        """Moves on to a whole second, and records the refused calls that have been counted until then.

        Tokens, whose times are whole seconds, begin and end there with nothing left over.
        """
        self.clock.advance(INTERVAL)
        self.clock.to_whole_second()
        self._unauthenticated.work()

    def token(self, person: Person) -> str:
        return self.issuer.token(
            person.principal,
            groups=person.groups,
            roles=person.roles,
            now=self.clock(),
            ttl=timedelta(hours=1),
            log_in=person.log_in,
        )


class Grpc:
    """Calls over gRPC."""

    name = "grpc"

    def __init__(self, world: World) -> None:
        self._world = world

    def call(self, method: str, body: dict[str, Any] | Message, *, token: str | None, **metadata: str) -> Outcome:
        request, answers = messages_of(method)
        message = body if isinstance(body, Message) else ParseDict(body, request())
        return self.send(method, message.SerializeToString(), answers, token=token, **metadata)

    def send(
        self, method: str, data: bytes, answers: Callable[[bytes], Message], *, token: str | None, **metadata: str
    ) -> Outcome:
        """Sends bytes as they are. Of a stream the first answer counts."""
        is_stream = _descriptor_of(method).server_streaming
        stub = (self._world.channel.unary_stream if is_stream else self._world.channel.unary_unary)(
            method,
            request_serializer=lambda raw: raw,
            response_deserializer=answers.FromString,  # type: ignore[attr-defined]
        )
        headers = [(key.replace("_", "-"), value) for key, value in metadata.items()]
        if token is not None:
            headers.append(("authorization", f"Bearer {token}"))
        try:
            answer = stub(data, metadata=headers, timeout=20)
            return Outcome("OK", _first_of(answer) if is_stream else answer)
        except grpc.RpcError as error:
            return of_error(error)


class Rest:
    """Calls over REST, through Envoy, as the method's google.api.http says."""

    name = "rest"

    def __init__(self, world: World) -> None:
        self._world = world

    def call(self, method: str, body: dict[str, Any] | Message, *, token: str | None, **metadata: str) -> Outcome:
        given = MessageToDict(body) if isinstance(body, Message) else body
        headers = {key.replace("_", "-"): value for key, value in metadata.items()}
        verb, path, content = rest_call(method, given)
        if content is not None and (raw := _raw_body(method, given)) is not None:
            headers["content-type"], content = raw
        status, answer = self.send(verb, path, content, token=token, headers=headers)
        if status == 200 and messages_of(method)[1] is HttpBody:
            return Outcome("OK", HttpBody(content_type="application/json", data=json.dumps(answer).encode()))
        if status == 200:
            return Outcome("OK", ParseDict(answer, messages_of(method)[1]()))
        told = ParseDict(answer, status_pb2.Status())
        code = code_name(told.code)
        assert HTTP_OF.get(code, 500) == status, f"{code} came as HTTP {status}"
        refused = refusal(code, told.message, told)
        request = messages_of(method)[0].DESCRIPTOR
        # One expectation holds for all surfaces. tests/rest/test_json_names.py has what REST says.
        return replace(refused, fields=tuple(_declared(path, request) for path in refused.fields))

    def send(
        self,
        verb: str,
        path: str,
        content: str | bytes | None,
        *,
        token: str | None,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, Any]:
        """Sends the request as it is. Returns the HTTP status and the JSON of the answer, which must be JSON."""
        connection = http.client.HTTPConnection(self._world.http.host, self._world.http.port, timeout=20)
        sent = {"content-type": "application/json", **(headers or {})}
        if token is not None:
            sent["authorization"] = f"Bearer {token}"
        try:
            connection.request(verb, path, body=content, headers=sent)
            response = connection.getresponse()
            text = response.read()
            assert response.headers["content-type"] == "application/json", (response.status, text[:200])
            return response.status, json.loads(text)
        finally:
            connection.close()


def _declared(path: str, message: Any) -> str:
    """Returns a path of JSON names in the names of the proto, as far as it is one of fields."""
    found: list[str] = []
    for part in path.split("."):
        name, bracket, index = part.partition("[")
        field = message.fields_by_camelcase_name.get(name) if message is not None else None
        found.append(part if field is None else field.name + bracket + index)
        is_map = field is not None and field.message_type is not None and field.message_type.GetOptions().map_entry
        message = None if field is None or is_map else field.message_type
    return ".".join(found)


def form(token: str, **more: str) -> dict[str, Any]:
    """Returns the request of a method that takes a form with a token, in JSON."""
    text = urlencode({"token": token} | more)
    return {"body": {"contentType": FORM, "data": base64.b64encode(text.encode()).decode()}}


def _raw_body(method: str, given: dict[str, Any]) -> tuple[str, str] | None:
    """Returns content type and body as they go over HTTP, where the method takes a body as it is."""
    field: Any = messages_of(method)[0].DESCRIPTOR.fields_by_name.get("body")
    if field is None or field.message_type.full_name != "google.api.HttpBody":
        return None
    body = given.get("body", {})
    return body.get("contentType", ""), base64.b64decode(body.get("data", "")).decode()


class Surface(Protocol):
    """A way to call."""

    name: str

    def call(self, method: str, body: dict[str, Any] | Message, *, token: str | None, **metadata: str) -> Outcome:
        """Calls, and returns what came of it."""


@dataclass
class Story:
    """People, groups and resources that no other test has, and a policy between them."""

    world: World
    surface: Surface
    id: str = field(default_factory=lambda: uuid.uuid4().hex[:12])

    def __post_init__(self) -> None:
        self.engineers, self.owners, self.security = f"eng-{self.id}", f"own-{self.id}", f"sec-{self.id}"
        self.alice = Person(f"user:alice-{self.id}@example.com", (self.engineers,))
        self.bob = Person(f"user:bob-{self.id}@example.com", (self.engineers, self.owners))
        self.ben = Person(f"user:ben-{self.id}@example.com", (self.owners,))
        self.carol = Person(f"user:carol-{self.id}@example.com", (self.security,))
        self.dave = Person(f"user:dave-{self.id}@example.com")
        self.gateway = Person(f"service:gateway-{self.id}", roles=(Role.CHECKER,))
        self.auditor = Person(f"user:auditor-{self.id}@example.com", roles=(Role.AUDITOR,))
        self.admin = Person(f"user:admin-{self.id}@example.com", roles=(Role.ADMIN,))
        self.responder = Person(f"user:responder-{self.id}@example.com", roles=(Role.RESPONDER,))
        self.root = Person(f"user:root-{self.id}@example.com", roles=(Role.ADMIN,))
        self.resource = f"database/{self.id}/eu"

    def call(self, person: Person | None, method: str, body: dict[str, Any] | Message, **metadata: str) -> Outcome:
        token = self.world.token(person) if person is not None else None
        return self.surface.call(method, body, token=token, **metadata)

    def must(self, person: Person, method: str, body: dict[str, Any] | Message) -> Any:
        """Calls, and returns the answer, which must be one."""
        outcome = self.call(person, method, body)
        assert outcome.code == "OK", outcome
        return outcome.message

    def policy(self, suffix: str = "write", **changes: Any) -> dict[str, Any]:
        """Returns a policy in JSON: one approval of the owners, at most four hours."""
        document: dict[str, Any] = {
            "name": f"policies/p{self.id}-{suffix}",
            "eligible": {"groups": [self.engineers]},
            "resources": [f"database/{self.id}/**"],
            "actions": ["read", "write", "rows.*"],
            "minDuration": "60s",
            "defaultDuration": "3600s",
            "maxDuration": "14400s",
            "requestTtl": "28800s",
            "steps": [{"displayName": "owners", "approvers": {"groups": [self.owners]}, "approvalsNeeded": 1}],
        }
        return {key: value for key, value in (document | changes).items() if value is not None}

    def create_policy(self, suffix: str = "write", **changes: Any) -> Any:
        return self.must(self.admin, POLICIES + "CreatePolicy", {"policy": self.policy(suffix, **changes)})

    def asks(self, person: Person | None = None, **changes: Any) -> Any:
        body = {"resources": [self.resource], "actions": ["read"]} | changes
        return self.must(person or self.alice, GRANTS + "RequestGrant", body)

    def approves(self, person: Person, grant: Any, **changes: Any) -> Any:
        return self.must(person, GRANTS + "ApproveGrant", {"name": grant.name} | changes)

    def granted(self, **changes: Any) -> Any:
        """Returns an active grant of alice's."""
        return self.approves(self.bob, self.asks(**changes))

    def signals(self, name: str, value: Any, *, lasts: timedelta = timedelta(hours=1)) -> Any:
        """Sets a signal of this story's own."""
        expires = (self.world.clock() + lasts).isoformat().replace("+00:00", "Z")
        signal = {"name": f"signals/{name}_{self.id}", "value": value, "expireTime": expires}
        return self.must(self.admin, SIGNALS + "SetSignal", {"signal": signal})

    def locks(self, person: Person | None = None, *, by: Person | None = None, **changes: Any) -> Any:
        """Locks the person, or what is given instead."""
        target = {"principal": person.principal} if person is not None else {}
        return self.must(by or self.responder, LOCKS + "CreateLock", {"lock": {"comment": "left", **target, **changes}})

    def question(self, **changes: Any) -> dict[str, Any]:
        return {"subject": self.alice.principal, "action": "read", "resource": self.resource} | changes

    def check(self, person: Person | None = None, **changes: Any) -> Any:
        return self.must(person or self.gateway, ACCESS + "CheckAccess", self.question(**changes))

    def audit(self, text: str) -> list[Any]:
        """Returns the records that the filter finds, oldest first."""
        body = {"filter": text, "orderBy": "seq", "pageSize": 1000}
        return list(self.must(self.auditor, AUDIT + "ListAuditEvents", body).audit_events)


def rest_call(method: str, body: dict[str, Any]) -> tuple[str, str, str | None]:
    """Returns verb, path and content of the REST call that means the same."""
    rule = _descriptor_of(method).GetOptions().Extensions[http_rule]
    verb = rule.WhichOneof("pattern")
    template, rest = getattr(rule, verb), json.loads(json.dumps(body))
    if "{" in template:
        before, _, tail = template.partition("{")
        variable, _, after = tail.partition("}")
        holder, *path = rest, *variable.partition("=")[0].split(".")
        for part in path[:-1]:
            holder = holder[part]
        template = before + quote(str(holder.pop(path[-1], "")), safe="/") + after
    content = None
    if rule.body == "*":
        content, rest = json.dumps(rest), {}
    elif rule.body:
        content = json.dumps(rest.pop(rule.body, {}))
    query = urlencode({key: str(value).lower() if isinstance(value, bool) else value for key, value in rest.items()})
    return verb.upper(), template + (f"?{query}" if query else ""), content


@contextmanager
def running_world(directory: Path, clock: Clock, url: str, **settings: Any) -> Iterator[World]:
    """Runs a world, with settings of its own."""
    world = World(directory, clock, url, **settings)
    try:
        yield world
    finally:
        world.stop()


def make_database(url: str) -> None:
    """Migrates the database; a new one of SQLite is a copy of one that was."""
    path = make_url(url).database
    if url.startswith("sqlite:///") and path and not Path(path).exists():
        Path(path).write_bytes(migrated())
    migrate(url)


def _descriptor_of(method: str) -> Any:
    return descriptor_pool.Default().FindMethodByName(method.strip("/").replace("/", "."))  # type: ignore[no-untyped-call]


def _first_of(answers: Any) -> Any:
    try:
        return next(answers)
    finally:
        answers.cancel()


def messages_of(method: str) -> tuple[type[Message], type[Message]]:
    """Returns the messages of a method: what is asked, and what is answered."""
    descriptor = _descriptor_of(method)
    return GetMessageClass(descriptor.input_type), GetMessageClass(descriptor.output_type)


def code_name(number: int) -> str:
    """Returns the name of a status code: `NOT_FOUND`."""
    return next(code.name for code in grpc.StatusCode if code.value[0] == number)


def of_error(error: Any) -> Outcome:
    """Returns the outcome that gRPC raises."""
    trailers = dict(error.trailing_metadata() or ())
    status = status_pb2.Status.FromString(trailers.get("grpc-status-details-bin", b""))
    return refusal(error.code().name, error.details() or "", status)


def refusal(code: str, text: str, status: Any) -> Outcome:
    """Returns the outcome that a google.rpc.Status tells."""
    reason, fields, metadata = "", (), {}
    for detail in status.details:
        info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        if detail.Unpack(info):
            assert info.domain == "jitaccess"
            reason, metadata = info.reason, dict(info.metadata)
        elif detail.Unpack(bad):
            fields = tuple(violation.field for violation in bad.field_violations)
    kinds = tuple(detail.type_url.rpartition("/")[2] for detail in status.details)
    return Outcome(code, text=text, reason=reason, fields=fields, details=kinds, metadata=metadata)
