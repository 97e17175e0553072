"""The revision barrier: who passes has seen every commit that was acknowledged before it came."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from jit_service.check import Barrier
from jit_service.domain.errors import StoreUnavailable


class Looking:
    """A look that a test holds back. `begun` counts those that began, `seen` what the last one brought."""

    def __init__(self) -> None:
        self.store = 0
        self.seen = -1
        self.begun = 0
        self.reading = threading.Semaphore(0)
        self.go_on = threading.Semaphore(0)

    def __call__(self) -> None:
        self.begun += 1
        read = self.store
        self.reading.release()
        assert self.go_on.acquire(timeout=10)
        self.seen = read


class Turn:
    """The barrier's lock, which counts who has come to it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.came = 0

    def acquire(self, timeout: float) -> bool:
        self.came += 1
        return self._lock.acquire(timeout=timeout)

    def release(self) -> None:
        self._lock.release()


def counted(look: Callable[[], None]) -> tuple[Barrier, Turn]:
    barrier, turn = Barrier(look, wait_seconds=10), Turn()
    barrier._turn = turn  # type: ignore[assignment]
    return barrier, turn


def until(condition: Callable[[], bool]) -> None:
    tick = threading.Event()
    for _ in range(2000):
        if condition():
            return
        tick.wait(0.005)
    raise AssertionError("it never came so far")


def test_who_passes_has_seen_what_was_committed_before() -> None:
    look = Looking()
    barrier = Barrier(look, wait_seconds=10)
    look.store = 7
    look.go_on.release()

    barrier.pass_()

    assert look.seen == 7


def test_a_look_that_had_begun_does_not_count_for_who_comes_later() -> None:
    look = Looking()
    barrier, turn = counted(look)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(barrier.pass_)
        assert look.reading.acquire(timeout=10)
        look.store = 1  # Committed and acknowledged while the first look is on its way back.
        second = pool.submit(lambda: (barrier.pass_(), look.seen)[1])
        until(lambda: turn.came == 2)
        look.go_on.release(2)
        first.result(timeout=10)

        assert second.result(timeout=10) == 1


def test_one_look_serves_all_who_wait() -> None:
    look = Looking()
    barrier, turn = counted(look)
    with ThreadPoolExecutor(9) as pool:
        first = pool.submit(barrier.pass_)
        assert look.reading.acquire(timeout=10)
        others = [pool.submit(barrier.pass_) for _ in range(8)]
        until(lambda: turn.came == 9)
        look.go_on.release(2)
        for each in (first, *others):
            each.result(timeout=10)

    assert look.begun == 2


def test_a_look_that_fails_lets_nobody_through() -> None:
    def fails() -> None:
        raise StoreUnavailable("away")

    barrier = Barrier(fails, wait_seconds=10)

    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            barrier.pass_()


def test_who_waited_for_a_look_that_failed_looks_again() -> None:
    looks: list[str] = []
    begun, go_on = threading.Event(), threading.Event()

    def look() -> None:
        looks.append("look")
        if len(looks) == 1:
            begun.set()
            assert go_on.wait(timeout=10)
        if len(looks) == 2:
            raise StoreUnavailable("away")

    barrier, turn = counted(look)
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(barrier.pass_)
        assert begun.wait(timeout=10)
        others = [pool.submit(barrier.pass_) for _ in range(2)]
        until(lambda: turn.came == 3)
        go_on.set()
        first.result(timeout=10)
        faults = [other.exception(timeout=10) for other in others]

    # One made the look that failed; it did not count for the other, which made its own.
    assert sorted(type(fault).__name__ for fault in faults) == ["NoneType", "StoreUnavailable"]
    assert len(looks) == 3


def test_nobody_waits_for_ever_for_a_look() -> None:
    look = Looking()
    barrier = Barrier(look, wait_seconds=0.05)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(barrier.pass_)
        assert look.reading.acquire(timeout=10)

        with pytest.raises(StoreUnavailable):
            barrier.pass_()

        look.go_on.release()
        first.result(timeout=10)
