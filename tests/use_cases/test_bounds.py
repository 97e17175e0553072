"""What one caller may make all others carry: each bound at its edge, and what the end of many costs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlmodel import col, select

from jit_service.domain.audit.event import SERVICE
from jit_service.domain.bounds import BOUNDS, Bounds
from jit_service.domain.caller import Caller, Origin
from jit_service.domain.errors import (
    InvalidField,
    JitError,
    StoreUnavailable,
    TooManyChildren,
    TooManyDelegations,
    TooManyPending,
)
from jit_service.domain.grants.delegation import NewDelegation
from jit_service.domain.grants.grant import Grant, GrantState
from jit_service.domain.grants.request import Ask
from jit_service.runtime import sweeper
from jit_service.storage import Store
from jit_service.storage.head import Head
from jit_service.storage.tables import GrantChangeRow
from jit_service.use_cases import bulk_revocation, delegations, grants
from jit_service.use_cases.bulk_revocation import GrantSelector
from tests.conftest import HOUR, NOON, TICK, Clock
from tests.domain.test_sown_bugs import Twin, sown
from tests.storage.people import ADMIN, ALICE, BOB, DAVE, add_policy, approve, ask
from tests.storage.test_races import asking_for, at_once

# A request for one resource of so many more characters, and to read it, has as many bytes as it may.
EDGE = 1000 - len("read") - len("database/orders/")
FEW = Bounds(pending=2, children=3, given=2, held=3, pattern_bytes=1000)


def pend(store: Store, caller: Caller = ALICE, **changes: object) -> Grant:
    facts: dict[str, object] = {"subject": caller.principal, "resources": ("database/orders/eu",), "actions": ("read",)}
    return grants.ask(store, caller, Ask(**(facts | changes)), bounds=FEW).grant  # type: ignore[arg-type]


def pass_on(store: Store, parent: Grant, job: str, *, by: Caller = ALICE) -> Grant:
    wanted = Ask(subject=job, resources=parent.resources, actions=parent.actions, parent=parent.name)
    return grants.ask(store, by, wanted, bounds=FEW).grant


def delegate(store: Store, by: Caller, to: str) -> object:
    return delegations.create(store, by, NewDelegation(delegate=to, expires_at=NOON + HOUR), bounds=FEW)


# Requests that wait


def test_a_requester_has_only_so_many_requests_that_wait(store: Store) -> None:
    add_policy(store)
    first = pend(store)
    pend(store)

    with pytest.raises(TooManyPending, match="has 2 requests that wait"):
        pend(store)

    grants.withdraw(store, ALICE, first.name, comment="", etag="")
    pend(store)


def test_what_is_decided_or_has_lapsed_waits_no_more(store: Store, clock: Clock) -> None:
    add_policy(store)
    approve(store, pend(store))
    pend(store)
    waiting = pend(store)

    clock.now = waiting.request_expires_at - TICK
    with pytest.raises(TooManyPending):
        pend(store)
    clock.advance(TICK)

    pend(store)


def test_the_requests_of_one_requester_keep_nobody_else_out(store: Store) -> None:
    add_policy(store)
    pend(store)
    pend(store)

    pend(store, ALICE._replace(principal="user:ann@example.com"))


def test_what_needs_no_decision_waits_for_none(store: Store) -> None:
    add_policy(store, steps=())

    assert [pend(store).state(NOON) for _ in range(4)] == [GrantState.ACTIVE] * 4


def test_two_at_once_do_not_both_take_the_last_place(store: Store) -> None:
    add_policy(store)
    pend(store)

    answers = at_once(*[lambda: pend(store)] * 4)

    assert sum(isinstance(answer, TooManyPending) for answer in answers) == 3


def test_a_dry_run_says_that_there_are_too_many(store: Store) -> None:
    add_policy(store)
    pend(store)
    pend(store)
    wanted = Ask(subject=ALICE.principal, resources=("database/orders/eu",), actions=("read",))

    with pytest.raises(TooManyPending):
        grants.preview(store, ALICE, wanted, bounds=FEW)


@pytest.mark.parametrize(("length", "is_taken"), [(EDGE, True), (EDGE + 1, False)])
def test_a_request_has_only_so_many_bytes_of_patterns(store: Store, length: int, is_taken: bool) -> None:
    add_policy(store)
    resources = ("database/orders/" + "x" * length,)

    if is_taken:
        assert pend(store, resources=resources).resources == resources
    else:
        with pytest.raises(InvalidField, match="1001 bytes; at most 1000") as refused:
            pend(store, resources=resources)
        assert refused.value.field == "resources"


# What is passed on


def test_only_so_many_live_grants_come_from_one_at_any_depth(store: Store) -> None:
    add_policy(store, steps=(), max_child_depth=3)
    root = ask(store)
    job = Caller(principal="service:job")
    child = pass_on(store, root, job.principal)
    pass_on(store, child, "service:task", by=job)
    last = pass_on(store, root, "service:other")

    for parent, by in ((root, ALICE), (child, job)):
        with pytest.raises(TooManyChildren, match=f"3 live grants came from {root.name}"):
            pass_on(store, parent, "service:more", by=by)

    grants.release(store, Caller(principal="service:other"), last.name, comment="", etag="")
    pass_on(store, root, "service:more")


def test_the_end_of_a_parent_is_committed_before_that_of_its_children(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever revokes waits for one grant, however many came from it; below it nothing is allowed from then on."""
    add_policy(store, steps=(), max_child_depth=1)
    root = ask(store)
    child = pass_on(store, root, "service:job")
    check = asking_for(store, "service:job")
    assert check() is True

    def away(*_: object, **__: object) -> bool:
        assert grants.get(store, ADMIN, root.name).grant.state(NOON) is GrantState.REVOKED
        assert check() is False
        raise StoreUnavailable("the store is away")

    monkeypatch.setattr(grants, "_end_some", away)
    revoked = grants.revoke(store, ADMIN, root.name, comment="leak", etag="").grant

    assert revoked.state(NOON) is GrantState.REVOKED
    assert grants.get(store, ADMIN, child.name).grant.end is None


def test_what_is_left_of_an_end_that_was_cut_short_is_ended_by_the_sweeper(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_policy(store, steps=(), max_child_depth=2)
    root = ask(store)
    job = Caller(principal="service:job")
    child = pass_on(store, root, job.principal)
    task = pass_on(store, child, "service:task", by=job)
    monkeypatch.setattr(grants, "end_below", lambda *_, **__: None)
    grants.revoke(store, ADMIN, root.name, comment="leak", etag="")

    while sweeper.record_run_out(store):
        pass

    for below in (child, task):
        end = grants.get(store, ADMIN, below.name).grant.end
        assert end is not None
        assert (end.state, end.by) == (GrantState.REVOKED, SERVICE)


def test_the_end_of_many_is_recorded_in_transactions_of_a_few(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    add_policy(store, steps=(), max_child_depth=1)
    root = ask(store)
    children = [pass_on(store, root, f"service:job-{number}") for number in range(3)]
    monkeypatch.setattr(grants, "END_TOGETHER", 2)
    commits: list[Head] = []
    store.on_commit(commits.append)

    grants.revoke(store, ADMIN, root.name, comment="leak", etag="")

    assert len(commits) == 3
    states = {grants.get(store, ADMIN, child.name).grant.state(NOON) for child in children}
    assert states == {GrantState.REVOKED}


def test_a_bulk_revocation_ends_what_came_from_what_it_ends(store: Store) -> None:
    add_policy(store, steps=(), max_child_depth=1)
    root = ask(store)
    child = pass_on(store, root, "service:job")
    by_subject = GrantSelector(subject=ALICE.principal)
    plan = bulk_revocation.plan(store, by_subject)

    done = bulk_revocation.execute(store, ADMIN, by_subject, plan_id=plan.id, comment="leak")

    assert {grant.name for grant in done.grants} == {root.name, child.name}
    stored = grants.get(store, ADMIN, child.name).grant
    told = next(grant for grant in done.grants if grant.name == child.name)
    assert stored.end == told.end


# Delegations


def test_a_delegator_gives_only_so_many_delegations(store: Store, clock: Clock) -> None:
    delegate(store, BOB, "user:one@example.com")
    delegate(store, BOB, "user:two@example.com")

    with pytest.raises(TooManyDelegations, match="has given 2 delegations"):
        delegate(store, BOB, "user:three@example.com")

    clock.advance(HOUR)
    delegations.create(
        store, BOB, NewDelegation(delegate="user:three@example.com", expires_at=NOON + 2 * HOUR), bounds=FEW
    )


def test_nobody_fills_the_hands_of_another_without_end(store: Store) -> None:
    for number in range(3):
        delegate(store, BOB._replace(principal=f"user:b{number}@example.com"), DAVE.principal)

    with pytest.raises(TooManyDelegations, match=f"{DAVE.principal} has 3 delegations"):
        delegate(store, BOB, DAVE.principal)


def test_a_delegation_that_was_ended_takes_no_place(store: Store) -> None:
    first = delegations.create(
        store, BOB, NewDelegation(delegate="user:one@example.com", expires_at=NOON + HOUR), bounds=FEW
    )
    delegate(store, BOB, "user:two@example.com")
    delegations.delete(store, BOB, first.delegation.name, etag="")

    delegate(store, BOB, "user:three@example.com")


# What is kept


def test_a_use_leaves_what_it_changed_and_no_copy_of_the_grant(store: Store) -> None:
    add_policy(store, steps=(), max_uses=9)
    grant = ask(store, context={"note": "x" * 10_000})
    check = asking_for(store, ALICE.principal)

    for _ in range(3):
        assert check()

    with store.snapshot() as snapshot:
        kept = snapshot._session.exec(select(GrantChangeRow).order_by(col(GrantChangeRow.revision))).all()
        assert [set(row.document) for row in kept[1:]] == [{"usage", "expires_at"}] * 3
        told = snapshot.changes(after=grant.revision, limit=9)
        assert [change.grant.usage.count for change in told] == [1, 2, 3]
        assert {change.grant.context["note"] for change in told} == {"x" * 10_000}
        assert [change.grant.usage.count for change in snapshot.changes_of(ALICE.principal)] == [0, 1, 2, 3]
        second = snapshot.grant_at(grant.name, told[1].revision)
        assert second is not None
        assert second.usage.count == 2
        # A watcher that takes its stream up again begins in the midst of the uses.
        assert [change.grant.usage.count for change in snapshot.changes(after=told[1].revision, limit=9)] == [3]


def test_a_change_leaves_out_defaults_and_is_read_as_it_was(store: Store) -> None:
    add_policy(store)

    grant = pend(store)

    with store.snapshot() as snapshot:
        [kept] = snapshot._session.exec(select(GrantChangeRow).where(col(GrantChangeRow.grant_name) == grant.name))
        assert not {"labels", "usage", "offer", "end", "reviews"} & set(kept.document)
        assert snapshot.grant_at(grant.name, grant.revision) == grant


def test_an_answer_is_given_again_for_a_day_and_no_longer(store: Store, clock: Clock) -> None:
    add_policy(store)
    origin = Origin(request_id="0b0e7d02-55f7-4c1b-9a52-2f1a57a0c0de")
    sender = ALICE._replace(origin=origin, request_digest="digest")
    first = ask(store, caller=sender)

    clock.advance(sweeper.KEPT)
    assert sweeper.forget_replays(store) is False
    assert ask(store, caller=sender).name == first.name

    clock.advance(TICK)
    assert sweeper.forget_replays(store, sweeper.KEPT + TICK) is False
    assert sweeper.forget_replays(store) is True
    assert sweeper.forget_replays(store) is False
    assert ask(store, caller=sender).name != first.name


def test_what_is_not_set_is_what_the_documents_say() -> None:
    assert Bounds(pending=20, children=100, given=50, held=100, pattern_bytes=32 * 1024) == BOUNDS


Test = Callable[[Store], None]
TWINS: list[tuple[Twin, Test]] = [
    (Twin("one more that waits", Bounds.demand_pending, ">= self.pending", "> self.pending", lambda: None),
     test_a_requester_has_only_so_many_requests_that_wait),
    (Twin("one child more", Bounds.demand_child, ">= self.children", "> self.children", lambda: None),
     test_only_so_many_live_grants_come_from_one_at_any_depth),
    (Twin("children of a child are not counted", grants._judge_child, "root = child.chain[0]", "root = parent.name",
          lambda: None), test_only_so_many_live_grants_come_from_one_at_any_depth),
    (Twin("any number in one hand", Bounds.demand_delegation, "held >= self.held", "False", lambda: None),
     test_nobody_fills_the_hands_of_another_without_end),
    (Twin("bytes are not counted", Bounds.demand_patterns, "size > self.pattern_bytes", "False", lambda: None),
     lambda store: test_a_request_has_only_so_many_bytes_of_patterns(store, EDGE + 1, False)),
]  # fmt: skip


@pytest.mark.parametrize(("twin", "caught_by"), TWINS, ids=lambda value: getattr(value, "name", ""))
def test_no_twin_survives(twin: Twin, caught_by: Test, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(twin.function, "__code__", sown(twin))

    with pytest.raises((AssertionError, pytest.fail.Exception, JitError)):
        caught_by(store)
