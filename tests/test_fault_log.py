"""What fails alike again and again fills no log, and what is over is said."""

from __future__ import annotations

import logging
from datetime import timedelta

import pytest

from jit_service.background import BackgroundThread
from jit_service.domain.errors import StoreUnavailable
from jit_service.fault_log import COUNT_SECONDS, FaultLog


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_what_fails_alike_is_told_once_and_then_that_it_is_over(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    faults = FaultLog(logging.getLogger(__name__), "nothing is swept")

    for _ in range(300):
        faults.failed(StoreUnavailable("away"))
    faults.succeeded()
    faults.succeeded()

    assert told(caplog) == [
        "nothing is swept for now: away",
        "recovered after 300 faults (nothing is swept)",
    ]


def test_another_fault_is_told_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    faults = FaultLog(logging.getLogger(__name__), "nothing is swept")

    for fault in (StoreUnavailable("away"), ValueError("odd"), ValueError("odd"), StoreUnavailable("away")):
        faults.failed(fault)

    assert told(caplog) == ["nothing is swept for now: away", "nothing is swept", "nothing is swept for now: away"]
    assert [record.exc_info is not None for record in caplog.records] == [False, True, False]


def test_what_goes_on_is_counted_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    clock = iter([100.0, 101.0, 100.0 + COUNT_SECONDS])
    faults = FaultLog(logging.getLogger(__name__), "nothing is swept", clock=lambda: next(clock))

    for _ in range(3):
        faults.failed(StoreUnavailable("away"))

    assert told(caplog) == [
        "nothing is swept for now: away",
        "nothing is swept for now (3 faults so far): away",
    ]


def test_a_thread_that_fails_at_every_interval_logs_one_traceback(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    class Failing(BackgroundThread):
        left = 50

        def work(self) -> None:
            self.left -= 1
            if self.left:
                raise ValueError("always")
            self.stopping.set()

    thread = Failing(name="failing", interval=timedelta(), undone="nothing is done")
    thread.start()
    thread.join(10)

    assert told(caplog) == ["nothing is done", "recovered after 49 faults (nothing is done)"]
