"""Calls on grpcio: none has a thread before its message has come, and each ends as grpcio would end it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import grpc
import pytest
from grpc import _server as grpcio
from grpc._cython import cygrpc  # type: ignore[attr-defined]

from jit_service.rpc.transport.grpcio_messages import Call, MessageFirst, Silent, is_supported

METHOD = "/test.Service/Ask"
MOST = 3
_PATIENCE = 20.0


class Served:
    """A grpcio server with one method of one thread, and a channel to it."""

    def __init__(self) -> None:
        self.pool = ThreadPoolExecutor(1)
        self.silent = Silent(MOST)
        self.then = lambda call: self.pool.submit(call.run)
        behaviour: Any = partial(self._answer)
        behaviour.experimental_thread_pool = MessageFirst(METHOD, self.silent, lambda call: self.then(call))
        handler = grpc.unary_unary_rpc_method_handler(behaviour, request_deserializer=self._decoded)
        self.server = grpc.server(self.pool)
        self.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Service", {"Ask": handler}),))
        port = self.server.add_insecure_port("127.0.0.1:0")
        self.server.start()
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        self.ask = partial(self.channel.unary_unary(METHOD), timeout=_PATIENCE)
        self.answered: list[bytes] = []
        self._spoken = threading.Event()

    def begin_silently(self) -> Any:
        """Begins a call that sends its headers, and no message until `close`."""

        def none() -> Iterator[bytes]:
            self._spoken.wait()
            yield from ()

        waiting = len(self.silent)
        call = self.channel.stream_unary(METHOD).future(none(), timeout=_PATIENCE)
        while not call.done() and len(self.silent) == waiting < MOST:
            threading.Event().wait(0.001)
        return call

    def close(self) -> None:
        self._spoken.set()
        self.channel.close()
        self.server.stop(0).wait()

    def _answer(self, request: bytes, _: grpc.ServicerContext) -> bytes:
        self.answered.append(request)
        return b"answer to " + request

    def _decoded(self, data: bytes) -> bytes:
        if data == b"garbage":
            raise ValueError("nobody can decode this")
        return data


@pytest.fixture
def served() -> Iterator[Served]:
    served = Served()
    yield served
    served.close()


def test_the_installed_grpcio_has_what_it_rests_on() -> None:
    """Where this fails, grpcio has changed: calls are still right, each has a thread at once, and checks cost twice."""
    assert is_supported()


@pytest.mark.parametrize(
    ("of", "name", "changed"),
    [
        (grpcio, "_status", lambda *_: None),
        (grpcio, "_unary_response_in_pool", lambda *_: None),
        (grpcio, "_stream_response_in_pool", lambda *_: None),
        (grpcio, "_possibly_finish_call", None),
        (grpcio, "_status", None),
        (grpcio._Context, "__annotations__", {}),
    ],
    ids=[
        "another signature",
        "another way to answer alone",
        "another way to stream",
        "another way to finish",
        "no such function",
        "another context",
    ],
)
def test_another_grpcio_is_recognised(of: Any, name: str, changed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(of, name, changed)

    assert not is_supported()


def test_a_grpcio_that_reads_otherwise_is_recognised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(cygrpc, "ReceiveMessageOperation")

    assert not is_supported()


def test_calls_that_send_no_message_keep_none_out(served: Served) -> None:
    for _ in range(MOST):
        served.begin_silently()

    assert served.ask(b"x") == b"answer to x"


def test_of_too_many_silent_calls_the_first_is_refused(served: Served) -> None:
    first, *others = [served.begin_silently() for _ in range(MOST + 1)]

    assert first.exception(_PATIENCE).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "grpc-status-details-bin" in dict(first.trailing_metadata())
    assert not any(call.done() for call in others)
    assert served.ask(b"x") == b"answer to x"


def test_a_call_that_is_silent_no_more_leaves_room(served: Served) -> None:
    for _ in range(2 * MOST):
        served.begin_silently().cancel()
        served.ask(b"x")

    assert len(served.silent) == 0


def test_a_call_that_ends_without_a_message_is_told_so(served: Served) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        served.channel.stream_unary(METHOD)(iter(()), timeout=_PATIENCE)

    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert "requires exactly one request message" in refused.value.details()
    assert served.answered == []


def test_a_message_that_nobody_can_decode_is_refused(served: Served) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        served.ask(b"garbage")

    assert (refused.value.code(), refused.value.details()) == (
        grpc.StatusCode.INTERNAL,
        "Exception deserializing request!",
    )
    assert served.ask(b"x") == b"answer to x"


def test_a_call_that_was_cancelled_before_it_has_a_thread_is_not_made(served: Served) -> None:
    taken: list[Call] = []
    has_come = threading.Event()
    run = served.then

    def keep(call: Call) -> None:
        taken.append(call)
        has_come.set()

    served.then = keep  # type: ignore[assignment]
    call = served.channel.unary_unary(METHOD).future(b"gone", timeout=_PATIENCE)
    assert has_come.wait(_PATIENCE)
    call.cancel()
    while taken[0].context.is_active():
        threading.Event().wait(0.001)

    run(taken[0]).result(_PATIENCE)

    assert served.answered == []


def test_a_fault_in_taking_a_call_ends_that_call_alone(served: Served) -> None:
    run, served.then = served.then, lambda _: 1 // 0  # type: ignore[assignment, return-value]
    with pytest.raises(grpc.RpcError) as failed:
        served.ask(b"x")
    served.then = run

    assert failed.value.code() is grpc.StatusCode.INTERNAL
    assert "division" not in failed.value.details()
    assert served.ask(b"y") == b"answer to y"
