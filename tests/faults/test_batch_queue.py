"""What the native transport promises of calls that are answered together, whatever becomes of those who answer."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from jit_service.domain.errors import StoreUnavailable
from jit_service.rpc.admission import Call
from jit_service.rpc.transport.check_batch import Answer, BatchHandler
from jit_service.rpc.transport.native import Limits, NativeServer
from tests.faults.test_calls import SOON, eventually
from tests.faults.test_streams import AsItIs

METHOD, BESIDE = "/t.T/Do", "/t.T/Beside"
Ask = Callable[..., bytes]


@contextmanager
def lane(together: BatchHandler, *, waiting: int = 64, seen: list[NativeServer] | None = None) -> Iterator[Ask]:
    """A server, put into `seen`, whose `Do` is answered together, or else by itself: `alone` and the request."""
    handlers = {
        "Do": grpc.unary_unary_rpc_method_handler(lambda request, _: b"alone " + request),
        "Beside": grpc.unary_unary_rpc_method_handler(lambda request, _: request),
    }
    with ThreadPoolExecutor(1) as streams:
        server = NativeServer(
            Limits(threads=2, waiting=waiting, streams=1, message_bytes=100, metadata_bytes=1 << 16),
            streams=streams,
            interceptor=lambda _: AsItIs(),
            register=lambda to: to.add_registered_method_handlers("t.T", handlers),
            register_behind=None,
            aside=frozenset(),
            batch_handlers=lambda _: {METHOD: together},
            share_port=False,
        )
        if seen is not None:
            seen.append(server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:

            def ask(request: bytes, method: str = METHOD, timeout: float = SOON) -> bytes:
                answer: bytes = channel.unary_unary(method)(request, timeout=timeout)
                return answer

            yield ask
        server.stop(None).wait(SOON)


def many(ask: Ask, count: int) -> list[bytes]:
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(ask, [b"%d" % number for number in range(count)]))


class Held:
    """Answers together, but not before it is told to go on."""

    def __init__(self) -> None:
        self.began, self.go_on = threading.Event(), threading.Event()
        self.sizes: list[int] = []

    def __call__(self, calls: Sequence[Call]) -> Sequence[Answer]:
        self.sizes.append(len(calls))
        self.began.set()
        assert self.go_on.wait(SOON)
        return [b"together " + call.payload for call in calls]


def test_calls_that_wait_are_answered_together() -> None:
    held = Held()
    with lane(held) as ask, ThreadPoolExecutor(9) as pool:
        first = pool.submit(ask, b"first")
        assert held.began.wait(SOON)
        others = [pool.submit(ask, b"%d" % number) for number in range(8)]
        assert ask(b"meanwhile", BESIDE) == b"meanwhile"
        # What is answered beside it came later than they did, on the same connection.
        held.go_on.set()

        assert first.result(SOON) == b"together first"
        assert [other.result(SOON) for other in others] == [b"together %d" % number for number in range(8)]
    assert (held.sizes[0], sum(held.sizes)) == (1, 9)


def test_one_who_comes_after_a_crowd_does_not_wait_for_it_to_come_back() -> None:
    held = Held()
    with lane(held) as ask, ThreadPoolExecutor(20) as pool:
        first = pool.submit(ask, b"first")
        assert held.began.wait(SOON)
        others = [pool.submit(ask, b"%d" % number) for number in range(19)]
        eventually(lambda: pool._work_queue.empty())
        assert ask(b"meanwhile", BESIDE) == b"meanwhile"
        held.go_on.set()
        assert [each.result(SOON) for each in (first, *others)]

        assert ask(b"late") == b"together late"
    assert held.sizes[0] == 1
    assert max(held.sizes) >= 8


@pytest.mark.skipif(not hasattr(os, "SCHED_BATCH"), reason="this system knows no such policy")
def test_only_the_threads_of_the_network_are_patient() -> None:
    with lane(lambda calls: [b""] * len(calls)):
        policies = {
            task.joinpath("comm").read_text().strip(): os.sched_getscheduler(int(task.name))
            for task in Path("/proc/self/task").iterdir()
        }

    assert policies.pop("grpc-native-io") == os.SCHED_BATCH
    assert set(policies.values()) == {os.SCHED_OTHER}


def test_what_it_leaves_is_answered_alone() -> None:
    def even(calls: Sequence[Call]) -> Sequence[Answer]:
        return [b"together" if int(call.payload) % 2 == 0 else None for call in calls]

    with lane(even) as ask:
        assert many(ask, 6) == [b"together", b"alone 1", b"together", b"alone 3", b"together", b"alone 5"]


def test_a_refusal_has_its_status_and_reason() -> None:
    with lane(lambda calls: [StoreUnavailable("away") for _ in calls]) as ask:
        with pytest.raises(grpc.RpcError) as refused:
            ask(b"1")

    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "grpc-status-details-bin" in dict(refused.value.trailing_metadata())


@pytest.mark.parametrize("wrong", [lambda _: 1 / 0, lambda _: [], lambda calls: [b"x"] * (len(calls) + 1)])
def test_a_fault_of_it_leaves_each_call_to_be_answered_alone_and_the_next_too(wrong: BatchHandler) -> None:
    broken = True

    def together(calls: Sequence[Call]) -> Sequence[Answer]:
        return wrong(calls) if broken else [b"together"] * len(calls)

    with lane(together) as ask:
        assert ask(b"1").startswith((b"alone", b"x"))
        broken = False
        assert ask(b"2") == b"together"


def test_a_call_that_was_given_up_is_not_answered_and_leaves_nothing() -> None:
    held, seen = Held(), list[NativeServer]()

    def under_way() -> int:
        return sum(len(listener.calls) for listener in seen[0]._listeners)

    with lane(held, seen=seen) as ask, ThreadPoolExecutor(1) as pool:
        first = pool.submit(ask, b"first")
        assert held.began.wait(SOON)
        with pytest.raises(grpc.RpcError) as given_up:
            ask(b"second", timeout=0.2)
        assert eventually(lambda: under_way() == 1)
        held.go_on.set()

        assert given_up.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert first.result(SOON) == b"together first"
        assert ask(b"third") == b"together third"
        assert sum(held.sizes) == 2
        assert eventually(lambda: under_way() == 0)


def test_more_than_may_wait_are_refused_and_the_others_are_served_meanwhile() -> None:
    held = Held()
    with lane(held, waiting=2) as ask, ThreadPoolExecutor(9) as pool:
        first = pool.submit(ask, b"first")
        assert held.began.wait(SOON)
        others = [pool.submit(ask, b"other") for _ in range(8)]
        assert eventually(lambda: sum(other.done() for other in others) == 6)
        assert ask(b"beside", BESIDE) == b"beside"
        held.go_on.set()

        assert first.result(SOON)
        refused = [other.exception() for other in others if other.exception() is not None]
    assert {fault.code() for fault in refused if isinstance(fault, grpc.RpcError)} == {
        grpc.StatusCode.RESOURCE_EXHAUSTED
    }
    assert len(refused) == 6
