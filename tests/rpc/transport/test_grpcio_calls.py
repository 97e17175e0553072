"""Calls on grpcio that are answered in batches: each gets its own answer, as if it had been alone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import pytest

from jit_service.domain.errors import StoreUnavailable
from jit_service.rpc.admission import Call
from jit_service.rpc.transport.check_batch import Answer
from jit_service.rpc.transport.grpcio_calls import CallsInterceptor

METHOD = "/test.Service/Ask"
MOST = 30
_PATIENCE = 20.0


class Asked:
    """Answers batches as the test says, and calls by themselves with `alone:` before the request."""

    def __init__(self) -> None:
        self.batches: list[list[bytes]] = []
        self.answer: Callable[[Call], Answer] = lambda call: b"together:" + call.payload
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self.has_begun = threading.Event()

    def together(self, calls: Sequence[Call]) -> Sequence[Answer]:
        self.batches.append([call.payload for call in calls])
        self.has_begun.set()
        assert self.may_go_on.wait(_PATIENCE)
        return [self.answer(call) for call in calls]

    def alone(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        if request == b"refused":
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "not you")
        return b"alone:" + request


class Served:
    """A grpcio server with one method, and a channel to it."""

    def __init__(self, asked: Asked) -> None:
        self.pool = ThreadPoolExecutor(2)
        self.calls = CallsInterceptor({METHOD: asked.together}, self.pool, most=MOST)
        self.server = grpc.server(self.pool, interceptors=[self.calls])
        handlers = {"Ask": grpc.unary_unary_rpc_method_handler(asked.alone)}
        self.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Service", handlers),))
        port = self.server.add_insecure_port("127.0.0.1:0")
        self.server.start()
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        self.ask = self.channel.unary_unary(METHOD)

    def begin(self, *requests: bytes, timeout: float | None = _PATIENCE) -> list[Any]:
        return [self.ask.future(request, timeout=timeout) for request in requests]


@pytest.fixture
def asked() -> Asked:
    return Asked()


@pytest.fixture
def served(asked: Asked) -> Iterator[Served]:
    served = Served(asked)
    yield served
    asked.may_go_on.set()
    served.channel.close()
    served.server.stop(0).wait()
    served.calls.close()


@contextmanager
def held(asked: Asked, served: Served) -> Iterator[None]:
    """Calls that come within wait for their batch, since the one before is not answered yet."""
    asked.may_go_on.clear()
    # What was answered before has set it, and calls that come before the first is taken would share its batch.
    asked.has_begun.clear()
    (first,) = served.begin(b"first")
    assert asked.has_begun.wait(_PATIENCE)
    yield
    asked.may_go_on.set()
    first.result()


def waiting_for(served: Served, count: int) -> None:
    """Returns when so many calls wait, beside the batch that is being answered."""
    (calls,) = served.calls.calls
    while len(calls.queue) < count:
        threading.Event().wait(0.001)


def test_calls_that_wait_are_answered_together_and_each_gets_its_own(asked: Asked, served: Served) -> None:
    """There are two threads, and more calls wait at once."""
    with held(asked, served):
        calls = served.begin(*(b"%d" % number for number in range(20)))
        waiting_for(served, 20)

    assert [call.result() for call in calls] == [b"together:%d" % number for number in range(20)]
    assert len(asked.batches) == 2
    assert sorted(asked.batches[1]) == sorted(b"%d" % number for number in range(20))


def test_more_calls_than_may_wait_are_refused_and_those_that_wait_are_answered(asked: Asked, served: Served) -> None:
    """grpcio's own bound counts no call that waits without a thread, so that a flood would fill the memory."""
    with held(asked, served):
        calls = served.begin(*(b"%d" % number for number in range(MOST - 1)))
        waiting_for(served, MOST - 1)
        with pytest.raises(grpc.RpcError) as refused:
            served.ask(b"one more", timeout=_PATIENCE)

    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "grpc-status-details-bin" in dict(refused.value.trailing_metadata())
    assert [call.result() for call in calls] == [b"together:%d" % number for number in range(MOST - 1)]
    assert served.ask(b"later", timeout=_PATIENCE) == b"together:later"


def test_calls_that_were_answered_or_given_up_count_no_more(asked: Asked, served: Served) -> None:
    asked.answer = lambda call: None if call.payload == b"odd" else b"together"
    for _ in range(MOST):
        assert served.ask(b"odd", timeout=_PATIENCE) == b"alone:odd"
        assert served.ask(b"even", timeout=_PATIENCE) == b"together"
    with held(asked, served):
        gone = served.begin(*[b"gone"] * (MOST - 1))
        waiting_for(served, MOST - 1)
        for call in gone:
            call.cancel()

    assert served.ask(b"later", timeout=_PATIENCE) == b"together"


def test_calls_that_could_not_be_taken_count_no_more(
    asked: Asked, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.ask(b"x", timeout=_PATIENCE)
    (calls,) = served.calls.calls
    with monkeypatch.context() as broken:
        broken.setattr(calls, "_shown", lambda _: 1 // 0)
        for _ in range(MOST + 1):
            with pytest.raises(grpc.RpcError) as failed:
                served.ask(b"x", timeout=_PATIENCE)
            assert failed.value.code() is grpc.StatusCode.INTERNAL

    assert served.ask(b"later", timeout=_PATIENCE) == b"together:later"


def test_a_call_that_has_no_answer_in_its_batch_is_answered_alone(asked: Asked, served: Served) -> None:
    asked.answer = lambda call: None if call.payload == b"odd" else b"together"

    odd, other = served.begin(b"odd", b"other")

    assert (odd.result(), other.result()) == (b"alone:odd", b"together")


def test_a_refusal_of_the_plain_way_is_the_calls(asked: Asked, served: Served) -> None:
    asked.answer = lambda _: None

    with pytest.raises(grpc.RpcError) as refused:
        served.ask(b"refused", timeout=_PATIENCE)

    assert (refused.value.code(), refused.value.details()) == (grpc.StatusCode.PERMISSION_DENIED, "not you")


def test_an_error_of_the_batch_is_told_with_its_details(asked: Asked, served: Served) -> None:
    asked.answer = lambda _: StoreUnavailable("the store does not answer")

    with pytest.raises(grpc.RpcError) as failed:
        served.ask(b"x", timeout=_PATIENCE)

    assert (failed.value.code(), failed.value.details()) == (grpc.StatusCode.UNAVAILABLE, "the store does not answer")
    assert "grpc-status-details-bin" in dict(failed.value.trailing_metadata())


def test_a_batch_that_fails_leaves_each_call_to_itself(asked: Asked, served: Served) -> None:
    asked.answer = lambda _: 1 // 0  # type: ignore[assignment, return-value]

    calls = served.begin(b"a", b"b")

    assert [call.result() for call in calls] == [b"alone:a", b"alone:b"]


def test_what_nobody_waits_for_any_more_is_not_answered(asked: Asked, served: Served) -> None:
    with held(asked, served):
        gone, stays = served.begin(b"gone", b"stays")
        waiting_for(served, 2)
        gone.cancel()
        # The server hears of it in time: a call that comes after it on the same connection is there.
        (after,) = served.begin(b"after")
        waiting_for(served, 3)

    assert (stays.result(), after.result()) == (b"together:stays", b"together:after")
    assert b"gone" not in asked.batches[1]


def test_another_method_is_unimplemented(served: Served) -> None:
    with pytest.raises(grpc.RpcError) as unknown:
        served.channel.unary_unary("/test.Service/Other")(b"", timeout=_PATIENCE)

    assert unknown.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_its_threads_end_with_it(asked: Asked, served: Served) -> None:
    served.ask(b"x", timeout=_PATIENCE)
    (thread,) = (found for found in threading.enumerate() if found.name == "batch" and _serves(found, asked))

    served.calls.close()

    thread.join(_PATIENCE)
    assert not thread.is_alive()


def _serves(thread: threading.Thread, asked: Asked) -> bool:
    target: Any = getattr(thread, "_target", None)
    return target is not None and target.__self__._handler == asked.together
