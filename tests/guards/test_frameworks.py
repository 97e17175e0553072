"""What is each framework's own: routes, methods and streams that nobody named, and how a refusal looks there."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import grpc
import pytest
from fastapi import Depends, FastAPI, WebSocket
from fastapi.testclient import TestClient
from google.protobuf.wrappers_pb2 import StringValue
from starlette.websockets import WebSocketDisconnect

from examples.guards import orders_asgi, orders_grpc
from jitaccess import Internal, InvalidArgument, Misconfigured, PermissionDenied
from jitaccess.guards import Guard, Incoming, Passage, fixed_subject
from jitaccess.guards.asgi import PASSAGE, WEBSOCKET, GuardMiddleware, Route
from jitaccess.guards.fastapi import protect, require
from jitaccess.guards.grpc import AsyncGuardInterceptor, GuardInterceptor, current_passage
from jitaccess.guards.jobs import guarded
from jitaccess.guards.need import Template
from jitaccess.testing import MemoryService
from jitaccess.v1 import grant_pb2
from tests.guards.doors import aio_port, of_grpc, sent, served

ALICE = "user:alice@example.com"


@pytest.fixture
def jit() -> MemoryService:
    jit = MemoryService()
    jit.grant(ALICE, "database/orders/*", "rows.*")
    return jit


@pytest.fixture
def guard(jit: MemoryService) -> Guard:
    return Guard.by_check(jit.client, subject=fixed_subject(ALICE))


# Templates


@pytest.mark.parametrize(
    ("resource", "action"),
    [
        ("database/{region}-orders", "read"),
        ("database/{a}{b}", "read"),
        ("{type}/orders", "read"),
        ("{all}", "read"),
        ("database", "read"),
        ("database/{}", "read"),
        ("database/{region", "read"),
        ("database/{region:path}", "read"),
        ("database/*", "read"),
        ("database/../x", "read"),
        ("database//x", "read"),
        ("", "read"),
        ("database/orders", "{verb}"),
        ("database/orders", ""),
        ("database/orders", "*"),
        ("database/orders", "a..b"),
    ],
)
def test_a_template_that_could_mean_more_is_refused_at_once(resource: str, action: str) -> None:
    with pytest.raises(Misconfigured):
        Template(resource, action)


@pytest.mark.parametrize("value", [None, True, 1.5, b"eu", ["eu"], {"eu": 1}, object()])
def test_a_value_that_is_no_text_is_no_parameter(value: object) -> None:
    with pytest.raises(Misconfigured):
        Template("database/{region}", "read").need({"region": value})


@pytest.mark.parametrize(
    "value", ["", ".", "..", "a/b", "/", "*", "**", "a*", "%2F", "a\\b", " a", "a\n", "\u200b", "\u0430lice"]
)
def test_a_value_that_is_not_one_segment_is_none(value: str) -> None:
    with pytest.raises(InvalidArgument):
        Template("database/{region}", "read").need({"region": value})


def test_a_template_is_filled_by_name() -> None:
    template = Template("database/{a}/x/{b.c}/{id}", "read")

    need = template.need({"a": "e\u0301", "b.c": 7, "id": UUID(int=1), "other": "y"})

    assert need.resource == "database/\u00e9/x/7/00000000-0000-0000-0000-000000000001"


def test_a_parameter_that_is_missing_lets_nobody_through(guard: Guard) -> None:
    template = Template("database/orders/{region}", "rows.read")

    for values in ({}, {"Region": "eu"}, {"region": None}):
        with pytest.raises(Internal, match="misconfigured") as refused:
            guard.admit(Incoming(), template, values)
        assert refused.value.reason == "TEMPLATE_PARAMETER_MISSING"
        with pytest.raises(Internal):
            asyncio.run(guard.admit_async(Incoming(), template, values))


@pytest.mark.parametrize(
    "passage",
    [
        None,
        True,
        object(),
        Passage(subject=ALICE, action="rows.read", resource="database/orders/us", grant="grants/g", expire_time=None),
    ],
)
def test_what_is_no_passage_for_this_lets_nobody_through(passage: Any) -> None:
    class Judge:
        def judge(self, *_: Any) -> Any:
            return passage

        async def judge_async(self, *_: Any) -> Any:
            return passage

    template = Template("database/orders/{region}", "rows.read")

    with pytest.raises(Internal):
        Guard(Judge()).admit(Incoming(), template, {"region": "eu"})
    with pytest.raises(Internal):
        asyncio.run(Guard(Judge()).admit_async(Incoming(), template, {"region": "eu"}))


# FastAPI


def test_a_route_without_the_parameter_is_closed(guard: Guard) -> None:
    app = FastAPI()
    protect(app, guard)

    @app.get("/orders/{area}", dependencies=[Depends(require("database/orders/{region}", "rows.read"))])
    async def read(area: str) -> str:
        return area

    assert TestClient(app).get("/orders/eu").status_code == 500


def test_an_app_that_nobody_protects_is_closed() -> None:
    app = FastAPI()

    @app.get("/orders", dependencies=[Depends(require("database/orders", "rows.read"))])
    async def read() -> str:
        return "rows"

    answer = TestClient(app).get("/orders")

    assert (answer.status_code, answer.json()["detail"]["code"]) == (500, 13)


def test_a_route_may_have_a_guard_of_its_own(guard: Guard, jit: MemoryService) -> None:
    app = FastAPI()
    protect(app, Guard.by_check(jit.client, subject=fixed_subject("user:nobody")))
    own = Depends(require("database/orders/{region}", "rows.read", guard=guard))

    @app.get("/orders/{region}", dependencies=[own])
    async def read(region: str) -> str:
        return region

    @app.get("/others/{region}", dependencies=[Depends(require("database/orders/{region}", "rows.read"))])
    async def others(region: str) -> str:
        return region

    assert TestClient(app).get("/orders/eu").status_code == 200
    assert TestClient(app).get("/others/eu").status_code == 403


def test_a_path_parameter_of_many_segments_is_refused(guard: Guard) -> None:
    app = FastAPI()
    protect(app, guard)
    reached: list[str] = []

    @app.get("/orders/{region:path}", dependencies=[Depends(require("database/orders/{region}", "rows.read"))])
    async def read(region: str) -> None:
        reached.append(region)

    with served(app) as port:
        for path in ("a/b", "a%2Fb", "..", "%2e%2e", "a%2F..", "*", "%2A", "**", "", "a%5Cb"):
            status, body, _ = sent(port, "GET", f"/orders/{path}")
            assert (status, body["details"][0]["reason"]) == (403, "INVALID_FIELD"), path
        assert not reached
        assert sent(port, "GET", "/orders/eu")[0] == 200


def test_a_websocket_is_closed_before_it_opens(guard: Guard, jit: MemoryService) -> None:
    app = FastAPI()
    protect(app, guard)
    reached: list[str] = []

    @app.websocket("/orders/{region}", dependencies=[Depends(require("database/orders/{region}", "rows.read"))])
    async def read(socket: WebSocket, region: str) -> None:
        reached.append(region)
        await socket.accept()
        await socket.send_text("rows")

    client = TestClient(app)
    with client.websocket_connect("/orders/eu") as socket:
        assert socket.receive_text() == "rows"
    jit.is_away = True
    for region in ("eu", "*"):
        with pytest.raises(WebSocketDisconnect), client.websocket_connect(f"/orders/{region}"):
            pass
    assert reached == ["eu"]


# ASGI


@pytest.mark.parametrize(
    ("verb", "path"),
    [
        ("DELETE", "/orders/eu/rows"),
        ("HEAD", "/orders/eu/rows"),
        ("GET", "/orders/eu/rows/"),
        ("GET", "/orders/eu"),
        ("GET", "/Orders/eu/rows"),
        ("GET", "//orders/eu/rows"),
        ("GET", "/orders//rows"),
        ("GET", "/x/../orders/eu/rows"),
        ("GET", "/healthz/../orders/eu/rows"),
        ("GET", "/healthz/"),
        ("GET", "/healthz%2F..%2Forders/eu/rows"),
        ("GET", "/healthz%00"),
        ("GET", "/orders%2Feu/rows"),
        ("GET", "/orders/e%2Fu/rows"),
        ("GET", "/%68ealthz%2e"),
        ("GET", "/orders\\eu\\rows"),
        ("POST", "/healthz"),
        ("GET", "/"),
    ],
)
def test_a_route_that_nobody_named_is_closed(guard: Guard, verb: str, path: str) -> None:
    with served(orders_asgi.create_app(guard)) as port:
        status, _, _ = sent(port, verb, path)

    assert status == 403


def test_a_route_that_is_left_open_by_name_is_open(guard: Guard, jit: MemoryService) -> None:
    jit.is_away = True
    with served(orders_asgi.create_app(guard)) as port:
        assert sent(port, "GET", "/healthz")[:2] == (200, {"status": "ok"})
        assert sent(port, "GET", "/healthz?a=b%2Fc")[0] == 200
        assert sent(port, "GET", "/orders/eu/rows")[0] == 503


def test_of_two_routes_that_match_both_must_let_through(jit: MemoryService, guard: Guard) -> None:
    jit.grant(ALICE, "database/all", "rows.*")
    middleware = GuardMiddleware(
        orders_asgi.application,
        guard=guard,
        routes=[
            Route("GET", "/orders/{region}", "database/orders/{region}", "rows.read"),
            Route("GET", "/orders/all", "database/all", "rows.read"),
            Route("GET", "/orders/none", "database/none", "rows.read"),
        ],
    )
    with served(middleware) as port:
        assert sent(port, "GET", "/orders/all")[0] == 200
        assert sent(port, "GET", "/orders/none")[0] == 403


def test_a_route_that_lacks_what_its_resource_takes_up_is_refused_at_once() -> None:
    with pytest.raises(Misconfigured, match="region"):
        Route("GET", "/orders/{area}", "database/orders/{region}", "rows.read")


def run(app: Any, scope: dict[str, Any]) -> list[Any]:
    told: list[Any] = []

    async def send(message: Any) -> None:
        told.append(message)

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    asyncio.run(app(scope, receive, send))
    return told


def test_a_websocket_route_is_asked_about_too(guard: Guard) -> None:
    reached: list[Any] = []

    async def app(scope: Any, *_: Any) -> None:
        reached.append(scope[PASSAGE])

    route = Route(WEBSOCKET, "/orders/{region}", "database/orders/{region}", "rows.read")
    middleware = GuardMiddleware(app, guard=guard, routes=[route])
    scope = {"type": "websocket", "path": "/orders/eu", "headers": []}

    assert run(middleware, scope) == []
    assert run(middleware, scope | {"path": "/orders/eu/x"})[0]["type"] == "websocket.close"
    assert run(middleware, scope | {"path": "/orders/*"}) == [
        {"type": "websocket.close", "code": 1008, "reason": "INVALID_FIELD"}
    ]
    assert [passage.subject for passage in reached] == [ALICE]


def test_below_a_mount_the_path_within_it_counts(guard: Guard) -> None:
    app = orders_asgi.create_app(guard)
    scope = {"type": "http", "method": "GET", "path": "/api/orders/eu/rows", "root_path": "/api", "headers": []}

    assert run(app, scope)[0]["status"] == 200
    assert run(app, scope | {"root_path": "/ap"})[0]["status"] == 403
    assert run(app, scope | {"root_path": ""})[0]["status"] == 403


def test_the_lifespan_of_an_app_is_not_a_call(guard: Guard) -> None:
    reached: list[str] = []

    async def app(scope: Any, *_: Any) -> None:
        reached.append(scope["type"])

    run(GuardMiddleware(app, guard=guard, routes=[]), {"type": "lifespan"})

    assert reached == ["lifespan"]


# gRPC


@pytest.fixture(params=["sync", "aio"])
def channel(request: pytest.FixtureRequest, guard: Guard) -> Iterator[grpc.Channel]:
    if request.param == "aio":
        with aio_port(guard) as port, grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel
        return
    server, port = orders_grpc.create_server(guard)
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel
    server.stop(None).wait()


def test_a_method_that_nobody_named_is_closed(channel: grpc.Channel) -> None:
    told = of_grpc(channel, "DropAll", "eu", [])

    assert (told.through, told.code, told.reason) == (False, "PERMISSION_DENIED", "METHOD_UNKNOWN")


def test_a_stream_of_answers_is_asked_about_before_its_first(channel: grpc.Channel, jit: MemoryService) -> None:
    assert of_grpc(channel, "ReadRows", "eu", []).answer == ["eu-1", "eu-2"]
    jit.is_away = True
    told = of_grpc(channel, "ReadRows", "eu", [])

    assert (told.through, told.code) == (False, "UNAVAILABLE")


def test_the_handler_knows_who_calls_and_only_while_it_handles(channel: grpc.Channel, jit: MemoryService) -> None:
    grant = of_grpc(channel, "CreateRow", "eu", []).answer

    assert jit.get(grant).subject == ALICE
    assert current_passage() is None


def _interceptor(guard: Guard, handler: Any, resource: str) -> Any:
    interceptor = GuardInterceptor(guard, {"/a.B/C": (resource, "rows.read")}, unguarded=["/a.B/Open", "/a.B/C"])

    class Details:
        method = "/a.B/C"

    return interceptor.intercept_service(lambda _: handler, Details())


class Context:
    """A server's context that is aborted as gRPC's is."""

    def __init__(self) -> None:
        self.code: Any = None

    def invocation_metadata(self) -> tuple[()]:
        return ()

    def peer(self) -> str:
        return "ipv4:127.0.0.1:4711"

    def set_trailing_metadata(self, _: Any) -> None: ...

    def abort(self, code: Any, _: str) -> None:
        self.code = code
        raise RuntimeError


def test_a_stream_of_requests_fills_no_parameter(guard: Guard) -> None:
    reached: list[Any] = []
    handler = grpc.stream_unary_rpc_method_handler(lambda requests, _: reached.append(requests))
    context = Context()

    with pytest.raises(RuntimeError):
        _interceptor(guard, handler, "database/orders/{value}").stream_unary(iter([StringValue(value="eu")]), context)
    assert (context.code, reached) == (grpc.StatusCode.INTERNAL, [])

    _interceptor(guard, handler, "database/orders/eu").stream_unary(iter([]), Context())
    assert len(reached) == 1


def test_a_field_within_a_field_is_found_by_its_path(guard: Guard) -> None:
    handler = grpc.unary_unary_rpc_method_handler(lambda request, _: request)
    request = grant_pb2.RequestGrantRequest(justification={"ticket": "eu"})

    found = _interceptor(guard, handler, "database/orders/{justification.ticket}").unary_unary(request, Context())
    assert found is request
    # The thread goes on to other calls.
    assert current_passage() is None
    for path in ("justification.none", "ticket", "justification", "justification.ticket.x", "resources"):
        context = Context()
        with pytest.raises(RuntimeError):
            _interceptor(guard, handler, f"database/orders/{{{path}}}").unary_unary(request, context)
        assert context.code is grpc.StatusCode.INTERNAL


def test_a_method_that_is_guarded_and_left_open_is_guarded(guard: Guard, jit: MemoryService) -> None:
    jit.is_away = True
    handler = grpc.unary_unary_rpc_method_handler(lambda request, _: request)
    context = Context()

    with pytest.raises(RuntimeError):
        _interceptor(guard, handler, "database/orders/eu").unary_unary(StringValue(), context)

    assert context.code is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(
    ("method", "resource", "fault"),
    [
        ("RequestGrant", "database/{subjekt}", "has no field subjekt"),
        ("RequestGrant", "database/{justification.none}", "has no field justification.none"),
        ("RequestGrant", "database/{subject.x}", "has no field subject.x"),
        ("RequestGrants", "database/x", "no such method"),
    ],
)
@pytest.mark.parametrize("kind", [GuardInterceptor, AsyncGuardInterceptor])
def test_a_method_or_field_that_the_service_has_not_is_refused_before_it_starts(
    guard: Guard, kind: Any, method: str, resource: str, fault: str
) -> None:
    with pytest.raises(Misconfigured, match=fault):
        kind(guard, {f"/jitaccess.v1.GrantService/{method}": (resource, "read")})


# Jobs


def test_a_job_raises_and_does_not_run(guard: Guard, jit: MemoryService) -> None:
    ran: list[str] = []

    @guarded(guard, "database/orders/{region}", "rows.purge")
    def purge(region: str = "eu", *, dry: bool = False) -> str:
        ran.append(region)
        return f"{region} {dry}"

    assert purge(dry=True) == "eu True"
    with pytest.raises(PermissionDenied):
        purge("a/b")
    for grant in list(jit._grants):
        jit.revoke(grant)
    with pytest.raises(PermissionDenied) as refused:
        purge("eu")
    assert (refused.value.reason, ran) == ("REVOKED", ["eu"])


def test_a_job_tells_its_guard_what_it_was_called_with(jit: MemoryService) -> None:
    guard = Guard.by_check(jit.client, subject=lambda incoming: incoming.source.arguments["who"])

    @guarded(guard, "database/orders/eu", "rows.purge")
    def purge(who: str) -> str:
        return who

    assert purge(ALICE) == ALICE
    with pytest.raises(PermissionDenied):
        purge("user:mallory@example.com")


def test_what_would_run_later_or_lacks_a_parameter_cannot_be_guarded(guard: Guard) -> None:
    def rows(region: str) -> Iterator[str]:
        yield region

    async def more(region: str) -> Any:
        yield region

    for job in (rows, more, lambda area: area):
        with pytest.raises(Misconfigured):
            guarded(guard, "database/orders/{region}", "rows.read")(job)  # type: ignore[arg-type]


def test_a_disconnect_is_what_a_websocket_client_sees(guard: Guard) -> None:
    app = GuardMiddleware(orders_asgi.application, guard=guard, routes=[])

    with pytest.raises(WebSocketDisconnect), TestClient(app).websocket_connect("/orders/eu"):  # type: ignore[arg-type]
        pass


# What it takes


def test_guards_need_no_framework_and_no_tokens_but_their_own() -> None:
    program = """
import sys

for absent in ("fastapi", "starlette", "jwt", "cryptography"):
    sys.modules[absent] = None
import jitaccess, jitaccess.guards, jitaccess.guards.asgi, jitaccess.guards.grpc, jitaccess.guards.jobs
from jitaccess.testing.memory import MemoryService

guard = jitaccess.guards.Guard.by_check(MemoryService().client, subject=jitaccess.guards.fixed_subject("user:a"))
try:
    jitaccess.guards.jobs.guarded(guard, "a/b", "c")(print)()
except jitaccess.PermissionDenied as refused:
    print(refused.reason)
"""

    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)

    assert ran.stdout == "NO_GRANT\n", ran.stderr
