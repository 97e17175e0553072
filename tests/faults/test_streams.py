"""What the transports themselves promise of streams and of stopping, with handlers that show it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import grpc
import pytest

from jit_service.domain.caller import Caller
from jit_service.rpc.streams import StreamLimits, Streams
from jit_service.rpc.transport.native import Limits, NativeServer
from tests.faults.test_calls import SOON, eventually

CHUNK = b"x" * 65536
METHOD = "/t.T/Do"


class AsItIs(grpc.ServerInterceptor):
    """Lets every call through."""

    def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        return continuation(handler_call_details)


class Bare:
    """A server of one method, `/t.T/Do`, and a channel to it."""

    def __init__(self, transport: str, handler: Any, streams: Streams) -> None:
        self.server = native(handler, streams) if transport == "native" else grpcio(handler)
        port = self.server.add_insecure_port("127.0.0.1:0")
        self.server.start()
        self.target = f"127.0.0.1:{port}"


def native(handler: Any, streams: Streams) -> Any:
    limits = Limits(threads=4, waiting=64, streams=8, message_bytes=1 << 20, metadata_bytes=1 << 16)
    return NativeServer(
        limits,
        streams=streams.pool,
        interceptor=lambda _: AsItIs(),
        register=lambda server: server.add_registered_method_handlers("t.T", {"Do": handler}),
        register_behind=None,
        aside=frozenset(),
        batch_handlers=lambda _: {},
        share_port=False,
    )


def grpcio(handler: Any) -> Any:
    server = grpc.server(ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("t.T", {"Do": handler}),))
    return server


Build = Callable[[Any], Bare]


@pytest.fixture
def streams() -> Iterator[Streams]:
    streams = Streams(StreamLimits(2), stall_seconds=0.2)
    streams.start()
    yield streams
    streams.stop()


@pytest.fixture
def bare(transport: str, streams: Streams) -> Iterator[Build]:
    with ExitStack() as stack:

        def build(handler: Any) -> Bare:
            made = Bare(transport, handler, streams)
            stack.callback(lambda: made.server.stop(0).wait())
            return made

        yield build


def stream_of(do: Callable[[Any, Any], Any]) -> Any:
    return grpc.unary_stream_rpc_method_handler(do)


def test_a_stream_whose_client_does_not_read_ends_and_leaves_its_thread(bare: Build, streams: Streams) -> None:
    """Nothing is read, so only the service can end it; and then its handler ends, read or not."""
    ended = threading.Event()

    def endless(_: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        try:
            yield from streams.carry(context, iter(lambda: CHUNK, None), by=Caller(principal="user:alice"))
        finally:
            ended.set()

    server = bare(stream_of(endless))
    with grpc.insecure_channel(server.target) as channel:
        unread = channel.unary_stream(METHOD)(b"")

        assert ended.wait(SOON)
        with pytest.raises(grpc.RpcError) as cancelled:
            list(unread)
        assert cancelled.value.code() is grpc.StatusCode.CANCELLED


def test_what_is_sent_waits_for_who_reads(bare: Build) -> None:
    """A slow client holds the stream back; it is not put into memory without end."""
    sent = []

    def many(_: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        for number in range(2000):
            sent.append(number)
            yield CHUNK

    server = bare(stream_of(many))
    with grpc.insecure_channel(server.target) as channel:
        unread = channel.unary_stream(METHOD)(b"")
        next(unread)

        count = -1
        while count != len(sent):
            count = len(sent)
            time.sleep(0.5)
        assert count < 1000
        assert sum(1 for _ in unread) == 1999


def test_an_answer_that_is_given_just_before_the_server_stops_arrives(bare: Build) -> None:
    def answer_and_stop() -> str:
        servers = list[Bare]()

        def last(_: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
            # It is called once the status has been handed to the transport.
            context.add_callback(lambda: servers[0].server.stop(SOON))
            yield b"first"
            context.abort(grpc.StatusCode.ABORTED, "the end")

        servers.append(bare(stream_of(last)))
        with grpc.insecure_channel(servers[0].target) as channel, pytest.raises(grpc.RpcError) as ended:
            list(channel.unary_stream(METHOD)(b""))
        return str(ended.value.details())

    assert [answer_and_stop() for _ in range(10)] == ["the end"] * 10


def test_a_client_that_goes_ends_the_stream(bare: Build) -> None:
    ended = threading.Event()

    def waiting(_: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        context.add_callback(ended.set)
        yield b"first"
        assert ended.wait(SOON)
        assert not context.is_active()

    server = bare(stream_of(waiting))
    channel = grpc.insecure_channel(server.target)
    next(channel.unary_stream(METHOD)(b""))

    channel.close()

    assert ended.wait(SOON)


def test_every_message_arrives_in_order_and_then_the_end(bare: Build) -> None:
    def numbers(_: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        context.set_trailing_metadata((("x-end", "here"), ("x-end-bin", bytes(range(256)))))
        for number in range(3000):
            yield number.to_bytes(4, "big")

    server = bare(stream_of(numbers))
    with grpc.insecure_channel(server.target) as channel:
        call = channel.unary_stream(METHOD)(b"")
        seen = [int.from_bytes(message, "big") for message in call]

        assert seen == list(range(3000))
        assert dict(call.trailing_metadata()) == {"x-end": "here", "x-end-bin": bytes(range(256))}


def test_an_abort_in_mid_stream_has_its_details(bare: Build) -> None:
    def aborted(_: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        yield b"first"
        context.set_trailing_metadata((("why-bin", b"\xff\x00"),))
        context.abort(grpc.StatusCode.UNAUTHENTICATED, "enough – now")

    server = bare(stream_of(aborted))
    with grpc.insecure_channel(server.target) as channel:
        call = channel.unary_stream(METHOD)(b"")
        assert next(call) == b"first"
        with pytest.raises(grpc.RpcError) as refused:
            next(call)

        assert (refused.value.code(), refused.value.details()) == (grpc.StatusCode.UNAUTHENTICATED, "enough – now")
        assert dict(refused.value.trailing_metadata()) == {"why-bin": b"\xff\x00"}


def test_an_answer_that_is_ready_when_the_server_stops_arrives(bare: Build) -> None:
    """Again and again, since what could lose it is a race."""
    for _ in range(10):
        entered, go = threading.Event(), threading.Event()

        def wait(_: bytes, context: Any, entered: Any = entered, go: Any = go) -> bytes:
            entered.set()
            assert go.wait(SOON)
            return CHUNK

        server = bare(grpc.unary_unary_rpc_method_handler(wait))
        with grpc.insecure_channel(server.target) as channel:
            call = channel.unary_unary(METHOD).future(b"", timeout=SOON)
            assert entered.wait(SOON)
            stopped = server.server.stop(SOON)
            go.set()

            assert call.result() == CHUNK
            assert stopped.wait(SOON)


def test_a_call_that_does_not_end_does_not_hold_the_stop(bare: Build) -> None:
    go, over = threading.Event(), threading.Event()

    def endless(_: bytes, context: grpc.ServicerContext) -> bytes:
        context.add_callback(over.set)
        assert go.wait(SOON * 2)
        return b""

    server = bare(grpc.unary_unary_rpc_method_handler(endless))
    with grpc.insecure_channel(server.target) as channel:
        call = channel.unary_unary(METHOD).future(b"")
        assert eventually(lambda: not call.done())
        time.sleep(0.2)

        stopped = server.server.stop(0.1)

        assert stopped.wait(SOON)
        assert call.exception(SOON) is not None
        assert over.wait(SOON)
    go.set()
