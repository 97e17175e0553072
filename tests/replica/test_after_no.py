"""When the service is asked after a no of the replica's own: few at a time, and not while it is away."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from jitaccess import CheckReason, LocalReason
from jitaccess.errors import Unavailable
from jitaccess.replica.after_no import AT_ONCE, AfterNo


class Time:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def may_ask(after_no: AfterNo) -> bool:
    with after_no.asking() as now:
        return now


def test_only_a_no_of_which_the_replica_is_sure_is_asked_again_and_only_where_that_is_wanted() -> None:
    wanted, unwanted = AfterNo(wanted=True), AfterNo(wanted=False)

    assert wanted.is_worth(CheckReason.NO_GRANT)
    assert wanted.is_worth(CheckReason.DENIED_BY_POLICY)
    assert not any(wanted.is_worth(reason) for reason in (CheckReason.ALLOWED, LocalReason.STALE))
    assert not unwanted.is_worth(CheckReason.NO_GRANT)


def test_few_wait_for_the_service_at_a_time() -> None:
    after_no = AfterNo(wanted=True)

    with ExitStack() as waiting:
        assert all(waiting.enter_context(after_no.asking()) for _ in range(AT_ONCE))
        assert not may_ask(after_no)
    assert may_ask(after_no)


def test_after_a_fault_nobody_asks_for_five_seconds() -> None:
    time = Time()
    after_no = AfterNo(wanted=True, clock=time)

    with after_no.asking():
        raise Unavailable("the service is away")
    answers = []
    for time.now in (0.0, 4.9, 5.0):
        answers.append(may_ask(after_no))

    assert answers == [False, False, True]


def test_a_fault_of_the_program_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        with AfterNo(wanted=True).asking():
            raise ZeroDivisionError
