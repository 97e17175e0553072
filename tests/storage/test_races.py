"""Two callers at once: exactly one outcome, and the same on every database."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from datetime import timedelta

import pytest

from jit_service.check import questions
from jit_service.domain.audit.event import Event, EventType
from jit_service.domain.caller import Caller
from jit_service.domain.errors import JitError, ReviewOverdue, TooManyActive, WrongState
from jit_service.domain.grants.grant import Grant, GrantState, Justification
from jit_service.domain.grants.more_time import MoreTime
from jit_service.domain.grants.request import Ask
from jit_service.domain.policies.diff import PolicyDraft
from jit_service.domain.policies.policy import BreakGlassRule, ExtensionRule, PrincipalSet
from jit_service.storage import Store, payload_of
from jit_service.use_cases import audit, grants, proposals
from jit_service.use_cases.grants import GrantAnswer
from tests import checking
from tests.conftest import HOUR, NOON, TICK, Clock
from tests.storage import elsewhere
from tests.storage.elsewhere import asking_for
from tests.storage.people import ADMIN, ALICE, BOB, CAROL, GATEWAY, add_policy, approve, ask, policy

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
    question = questions.question(GATEWAY, subject=ALICE.principal, action="read", resource="database/orders/eu")
    for _ in range(ROUNDS):
        grant = approve(store, ask(store))
        acknowledged = threading.Event()
        wrong: list[object] = []

        def check_on(acknowledged: threading.Event = acknowledged, wrong: list[object] = wrong) -> None:
            for _ in range(20):
                begun_after = acknowledged.is_set()
                if checking.check(store, GATEWAY, question).decision.allowed and begun_after:
                    wrong.append(begun_after)

        def revoke(grant: Grant = grant, acknowledged: threading.Event = acknowledged) -> None:
            grants.revoke(store, BOB, grant.name, comment="enough", etag="")
            acknowledged.set()

        at_once(check_on, revoke)

        assert not wrong
        assert not checking.check(store, GATEWAY, question).decision.allowed


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


def test_uses_are_counted_exactly_under_checks_at_once(store: Store) -> None:
    add_policy(store, max_uses=5, steps=())
    for _ in range(ROUNDS // 4):
        grant = ask(store)

        answers = at_once(*[asking_for(store, ALICE.principal)] * 16)

        assert (answers.count(True), answers.count(False)) == (5, 11)
        used = grants.get(store, ALICE, grant.name).grant
        assert (used.usage.count, used.is_used_up) == (5, True)
        grants.release(store, ALICE, grant.name, comment="", etag="")


def test_uses_are_counted_exactly_by_two_processes(store: Store) -> None:
    add_policy(store, max_uses=5, steps=(), max_child_depth=1)
    parent = ask(store)
    child = Ask(subject="service:job", resources=parent.resources, actions=parent.actions, parent=parent.name)
    grants.ask(store, ALICE, child)
    url = store.engine.url.render_as_string(hide_password=False)
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload([elsewhere.__name__])

    with ProcessPoolExecutor(
        2, mp_context=server, initializer=elsewhere.stand_at, initargs=(server.Barrier(2),)
    ) as pool:
        counted = [pool.submit(elsewhere.count_allowed, url, who, 12, NOON) for who in (ALICE.principal, "service:job")]
        allowed = sum(each.result(timeout=60) for each in counted)

    assert allowed == 5
    assert grants.get(store, ALICE, parent.name).grant.usage.count == 5
    assert (audit.verify(store).problem, audit.verify(store).event_count) == ("", 3 + 24)


def test_what_was_passed_on_takes_its_uses_from_above_exactly(store: Store) -> None:
    add_policy(store, max_uses=6, steps=(), max_child_depth=1)
    parent = ask(store)
    jobs = [f"service:job-{number}" for number in range(3)]
    for job in jobs:
        child = Ask(subject=job, resources=parent.resources, actions=parent.actions, parent=parent.name, max_uses=3)
        grants.ask(store, ALICE, child)

    answers = at_once(*[asking_for(store, job) for job in jobs for _ in range(4)])

    assert answers.count(True) == 6
    assert grants.get(store, ALICE, parent.name).grant.usage.count == 6


def test_no_check_of_what_was_passed_on_says_yes_after_its_parent_ended(store: Store) -> None:
    add_policy(store, steps=(), max_child_depth=1)
    for _ in range(ROUNDS // 2):
        parent = ask(store)
        child = Ask(subject="service:job", resources=parent.resources, actions=parent.actions, parent=parent.name)

        answers = at_once(
            lambda c=child: grants.ask(store, ALICE, c),
            lambda g=parent: grants.release(store, ALICE, g.name, comment="", etag=""),
        )

        # Either there is no child, or it ended with its parent.
        assert not isinstance(answers[1], JitError)
        assert asking_for(store, "service:job")() is False
        with store.snapshot() as snapshot:
            assert snapshot.live_children(parent.name) == []


def test_one_break_glass_at_once_with_the_end_of_its_deadline_is_judged_once(store: Store, clock: Clock) -> None:
    rule = BreakGlassRule(eligible=PrincipalSet(groups=("engineering",)), max_duration=HOUR, review_within=HOUR)
    add_policy(store, break_glass=rule)
    emergency = Ask(
        subject=ALICE.principal,
        resources=("database/orders/eu",),
        actions=("read",),
        break_glass=True,
        justification=Justification(text="fire"),
    )
    first = grants.ask(store, ALICE, emergency).grant
    clock.advance(HOUR)

    answers = at_once(
        lambda: grants.ask(store, ALICE, emergency),
        lambda: grants.complete_review(store, BOB, first.name, comment="fine", etag=""),
    )

    assert not isinstance(answers[1], JitError)
    assert isinstance(answers[0], ReviewOverdue | GrantAnswer)
    with store.snapshot() as snapshot:
        assert first.name not in {owed.name for owed in snapshot.owed_reviews(ALICE.person)}


def test_of_two_who_break_the_glass_at_once_the_last_place_is_for_one(store: Store) -> None:
    everybody = PrincipalSet(groups=("engineering",))
    add_policy(
        store,
        break_glass=BreakGlassRule(eligible=everybody, max_duration=HOUR, review_within=HOUR, max_unreviewed=1),
    )
    emergency = Ask(
        subject=ALICE.principal,
        resources=("database/orders/eu",),
        actions=("read",),
        break_glass=True,
        justification=Justification(text="fire"),
    )

    answers = at_once(*[lambda: grants.ask(store, ALICE, emergency)] * 2)

    assert sorted(type(answer).__name__ for answer in answers) == ["GrantAnswer", "TooManyUnreviewed"]


def test_two_extensions_at_once_leave_one(store: Store) -> None:
    add_policy(store, extension=ExtensionRule(max_extensions=9, max_total_duration=9 * HOUR))
    grant = approve(store, ask(store))

    answers = at_once(*[lambda: grants.extend(store, ALICE, grant.name, MoreTime(duration=HOUR), etag="")] * 2)

    assert [type(answer) for answer in answers].count(WrongState) == 1


def test_two_admins_approve_a_proposal_once(store: Store) -> None:
    applied = proposals.propose(store, ADMIN, [PolicyDraft(policy=policy())], prune=False, comment="")
    second, third = (ADMIN._replace(principal=f"user:{name}@example.com") for name in ("second", "third"))

    answers = at_once(
        *(lambda by=by: proposals.approve(store, by, applied.proposal, comment="", etag="") for by in (second, third))
    )

    assert [type(answer) for answer in answers].count(WrongState) == 1
    with store.snapshot() as snapshot:
        assert [found.name for found in snapshot.policies()] == ["policies/orders"]
    assert not audit.verify(store).problem


def test_a_watcher_misses_nothing_of_many_writers(store: Store) -> None:
    add_policy(store, steps=())
    with store.snapshot() as snapshot:
        start = snapshot.revision

    at_once(*(lambda i=i: ask(store, resource=f"database/orders/{i}") for i in range(16)))

    with store.snapshot() as snapshot:
        told = snapshot.changes(after=start, limit=100)
        assert [change.revision for change in told] == list(range(start + 1, start + 17))
        assert len({change.grant.name for change in told}) == 16


def test_records_that_several_threads_append_at_once_are_one_whole_chain(store: Store) -> None:
    """They have one connection for it: without turns, one's rollback would undo another's record, and not its head."""
    record = payload_of(Event(type=EventType.CALL_REFUSED, at=NOON, principal="user:p"))

    with ThreadPoolExecutor(8) as threads:
        for each in [threads.submit(store.append, [record], at=NOON) for _ in range(80)]:
            each.result(timeout=60)

    found = audit.verify(store)
    assert (found.event_count, found.problem) == (80, "")
