"""Two callers at once: exactly one outcome, and the same on every database."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from jit_service import access, audit, grants
from jit_service.domain.caller import Caller
from jit_service.domain.errors import JitError, TooManyActive, WrongState
from jit_service.domain.grant import Grant, GrantState
from jit_service.storage import Store
from tests.conftest import HOUR, TICK, Clock
from tests.storage.people import ALICE, BOB, CAROL, GATEWAY, add_policy, approve, ask

ROUNDS = 12


def at_once(*calls: Callable[[], object]) -> list[object]:
    """Runs the calls from one starting line, each on a thread. Returns answers and refusals in their order."""
    line = threading.Barrier(len(calls))

    def run(call: Callable[[], object]) -> object:
        line.wait()
        try:
            return call()
        except JitError as refusal:
            return refusal

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def approving(store: Store, grant: Grant, by: Caller) -> Callable[[], object]:
    return lambda: grants.approve(store, by, grant.name, comment="", etag="")


def state(store: Store, grant: Grant) -> GrantState:
    read = grants.get(store, ALICE, grant.name)
    return read.grant.state(read.at)


def test_two_approvals_at_once_count_as_two(store: Store) -> None:
    add_policy(store, approvals=2)
    for _ in range(ROUNDS):
        grant = ask(store)

        answers = at_once(approving(store, grant, BOB), approving(store, grant, CAROL))

        assert not [answer for answer in answers if isinstance(answer, JitError)]
        assert state(store, grant) is GrantState.ACTIVE
    assert not audit.verify(store).problem


def test_one_approver_twice_at_once_counts_as_one(store: Store) -> None:
    add_policy(store, approvals=2)
    for _ in range(ROUNDS):
        grant = ask(store)

        answers = at_once(approving(store, grant, BOB), approving(store, grant, BOB))

        assert len([answer for answer in answers if isinstance(answer, JitError)]) == 1
        assert state(store, grant) is GrantState.PENDING


def test_approve_against_withdraw_has_one_winner(store: Store) -> None:
    add_policy(store)
    for _ in range(ROUNDS):
        grant = ask(store)

        answers = at_once(
            approving(store, grant, BOB), lambda g=grant: grants.withdraw(store, ALICE, g.name, comment="", etag="")
        )

        refused = [answer for answer in answers if isinstance(answer, JitError)]
        assert len(refused) == 1
        assert isinstance(refused[0], WrongState)
        won_by_approval = isinstance(answers[1], JitError)
        assert state(store, grant) is (GrantState.ACTIVE if won_by_approval else GrantState.WITHDRAWN)


def test_revoke_against_release_ends_it_once(store: Store) -> None:
    add_policy(store)
    for _ in range(ROUNDS):
        grant = approve(store, ask(store))

        answers = at_once(
            lambda g=grant: grants.revoke(store, BOB, g.name, comment="enough", etag=""),
            lambda g=grant: grants.release(store, ALICE, g.name, comment="", etag=""),
        )

        assert len([answer for answer in answers if isinstance(answer, WrongState)]) == 1


@pytest.mark.parametrize(("late_by", "approved"), [(-TICK, True), (timedelta(), False)])
def test_no_approval_commits_at_the_deadline(store: Store, clock: Clock, late_by: timedelta, approved: bool) -> None:
    """The clock is read after the lock is held (I9): time that passes while waiting for it counts."""
    add_policy(store)
    grant = ask(store)

    with ThreadPoolExecutor(1) as pool:
        with store.transaction():
            pending = pool.submit(at_once, approving(store, grant, BOB))
            clock.now = grant.request_expires_at + late_by
        (answer,) = pending.result()

    assert isinstance(answer, JitError) is not approved
    assert state(store, grant) is (GrantState.ACTIVE if approved else GrantState.LAPSED)


def test_no_check_that_begins_after_a_revoke_is_acknowledged_says_yes(store: Store) -> None:
    add_policy(store)
    question = access.question(GATEWAY, subject=ALICE.principal, action="read", resource="database/orders/eu")
    for _ in range(ROUNDS):
        grant = approve(store, ask(store))
        acknowledged = threading.Event()
        wrong: list[object] = []

        def check_on(acknowledged: threading.Event = acknowledged, wrong: list[object] = wrong) -> None:
            for _ in range(20):
                begun_after = acknowledged.is_set()
                if access.check(store, GATEWAY, question).decision.allowed and begun_after:
                    wrong.append(begun_after)

        def revoke(grant: Grant = grant, acknowledged: threading.Event = acknowledged) -> None:
            grants.revoke(store, BOB, grant.name, comment="enough", etag="")
            acknowledged.set()

        at_once(check_on, revoke)

        assert not wrong
        assert not access.check(store, GATEWAY, question).decision.allowed


def test_many_writers_leave_no_gap_in_the_log(store: Store) -> None:
    add_policy(store)

    at_once(*(lambda i=i: ask(store, resource=f"database/orders/{i}", duration=HOUR) for i in range(16)))

    verified = audit.verify(store)
    assert not verified.problem
    assert verified.event_count == 17


def test_two_requests_at_once_do_not_both_take_the_last_place(store: Store) -> None:
    add_policy(store, max_active_per_subject=1)
    for number in range(ROUNDS):
        line = [lambda n=number, i=i: ask(store, resource=f"database/orders/{n}/{i}") for i in range(2)]

        answers = at_once(*line)

        refused = [answer for answer in answers if isinstance(answer, JitError)]
        assert [type(refusal) for refusal in refused] == [TooManyActive]
        (grant,) = (answer for answer in answers if isinstance(answer, Grant))
        grants.withdraw(store, ALICE, grant.name, comment="", etag="")
