"""Each kind of guard as one door: a call comes, and either its handler runs or it is told why not."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import uvicorn
from google.protobuf.wrappers_pb2 import StringValue
from google.rpc import error_details_pb2, status_pb2

from examples.guards import nightly, orders_asgi, orders_grpc, orders_http
from jitaccess import JitError
from jitaccess.guards import Guard
from jitaccess.guards.jobs import guarded

CODES = {7: "PERMISSION_DENIED", 16: "UNAUTHENTICATED", 14: "UNAVAILABLE", 13: "INTERNAL"}
STATUS = {"PERMISSION_DENIED": 403, "UNAUTHENTICATED": 401, "UNAVAILABLE": 503, "INTERNAL": 500}


@dataclass(frozen=True)
class Told:
    """What came of a call: the handler's answer, or why it did not run."""

    through: bool
    code: str = ""
    reason: str = ""
    message: str = ""
    metadata: dict[str, str] | None = None
    answer: Any = None


Call = Callable[..., Told]
"""Calls with a region, and a bearer token where `token` gives one."""


def refused(status: status_pb2.Status) -> Told:
    [detail] = status.details
    info = error_details_pb2.ErrorInfo()
    assert detail.Unpack(info)
    assert info.domain == "jitaccess"
    return Told(False, CODES[status.code], info.reason, status.message, dict(info.metadata))


@contextmanager
def served(app: Any) -> Iterator[int]:
    """Serves an ASGI app over real HTTP, and yields its port."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until = time.monotonic() + 20
    while not server.started and time.monotonic() < until:
        time.sleep(0.005)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(20)


def sent(port: int, verb: str, path: str, headers: list[tuple[str, str]] | None = None) -> tuple[int, Any, Any]:
    """Sends a path as it is. Returns status, JSON, and headers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.putrequest(verb, path)
        for name, value in headers or ():
            connection.putheader(name, value)
        connection.endheaders()
        response = connection.getresponse()
        return response.status, json.loads(response.read() or b"null"), response.headers
    finally:
        connection.close()


def of_http(status: int, body: Any) -> Told:
    if status == 200:
        return Told(True, answer=body)
    [detail] = body["details"]
    assert detail["@type"] == "type.googleapis.com/google.rpc.ErrorInfo"
    told = Told(False, CODES[body["code"]], detail["reason"], body["message"], detail.get("metadata", {}))
    assert STATUS[told.code] == status
    return told


def bearer(token: str | None) -> list[tuple[str, str]]:
    return [] if token is None else [("authorization", f"Bearer {token}")]


@contextmanager
def http_door(create: Callable[[Guard], Any], guard: Guard) -> Iterator[Call]:
    with served(create(guard)) as port:

        def call(region: str = "eu", token: str | None = None) -> Told:
            status, body, headers = sent(port, "POST", f"/orders/{region}/rows", bearer(token))
            assert (headers["www-authenticate"] == "Bearer") is (status == 401)
            assert headers["content-type"] == "application/json"
            return of_http(status, body)

        yield call


@contextmanager
def fastapi_door(guard: Guard) -> Iterator[Call]:
    with http_door(orders_http.create_app, guard) as call:
        yield call


@contextmanager
def asgi_door(guard: Guard) -> Iterator[Call]:
    with http_door(orders_asgi.create_app, guard) as call:
        yield call


@contextmanager
def grpc_door(guard: Guard) -> Iterator[Call]:
    server, port = orders_grpc.create_server(guard)
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield lambda region="eu", token=None: of_grpc(channel, "CreateRow", region, bearer(token))
    server.stop(None).wait()


@contextmanager
def aio_door(guard: Guard) -> Iterator[Call]:
    with aio_port(guard) as port, grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield lambda region="eu", token=None: of_grpc(channel, "CreateRow", region, bearer(token))


@contextmanager
def aio_port(guard: Guard) -> Iterator[int]:
    """A grpc.aio server in a loop of its own thread."""
    ready: list[tuple[int, asyncio.AbstractEventLoop, asyncio.Event]] = []
    started = threading.Event()

    async def main() -> None:
        server, port = orders_grpc.create_async_server(guard)
        await server.start()
        over = asyncio.Event()
        ready.append((port, asyncio.get_running_loop(), over))
        started.set()
        await over.wait()
        await server.stop(None)

    thread = threading.Thread(target=lambda: asyncio.run(main()), daemon=True)
    thread.start()
    assert started.wait(20)
    [(port, loop, over)] = ready
    yield port
    loop.call_soon_threadsafe(over.set)
    thread.join(20)


def of_grpc(channel: grpc.Channel, method: str, region: str, metadata: list[tuple[str, str]]) -> Told:
    streams = method == "ReadRows"
    kind = channel.unary_stream if streams else channel.unary_unary
    stub = kind(
        f"/{orders_grpc.SERVICE}/{method}",
        request_serializer=StringValue.SerializeToString,
        response_deserializer=StringValue.FromString,
    )
    try:
        answer = stub(StringValue(value=region), metadata=metadata, timeout=20)
        return Told(True, answer=[row.value for row in answer] if streams else answer.value)
    except grpc.RpcError as error:
        status: Any = error
        trailers = dict(status.trailing_metadata() or ())
        told = refused(status_pb2.Status.FromString(trailers["grpc-status-details-bin"]))
        assert told.code == status.code().name
        return told


@contextmanager
def job_door(guard: Guard) -> Iterator[Call]:
    purge = nightly.create_purge(guard)
    yield lambda region="eu", _token=None: of_job(lambda: purge(region))


@contextmanager
def async_job_door(guard: Guard) -> Iterator[Call]:
    @guarded(guard, "database/orders/{region}", "rows.purge")
    async def purge(region: str) -> str:
        return f"purged {region}"

    yield lambda region="eu", _token=None: of_job(lambda: asyncio.run(purge(region)))


def of_job(run: Callable[[], Any]) -> Told:
    try:
        return Told(True, answer=run())
    except JitError as error:
        return Told(False, error.code, error.reason, error.message, dict(error.metadata))


DOORS: dict[str, Any] = {
    "fastapi": fastapi_door,
    "asgi": asgi_door,
    "grpc": grpc_door,
    "grpc.aio": aio_door,
    "job": job_door,
    "async job": async_job_door,
}
ON_A_LOOP = ("fastapi", "asgi", "grpc.aio", "async job")
