"""Signals, ensure and bulk revocation, on every database."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from jit_service.check import questions
from jit_service.domain.checks.decision import Reason
from jit_service.domain.conditions.signal import Signal
from jit_service.domain.errors import ConditionNotMet, LostRace, PolicyNoLongerAllows, StalePlan
from jit_service.domain.grants.grant import GrantState
from jit_service.domain.grants.request import Ask
from jit_service.domain.policies.policy import Policy
from jit_service.storage import Store
from jit_service.use_cases import audit, bulk_revocation, grants, signals
from jit_service.use_cases.bulk_revocation import GrantSelector
from tests import checking
from tests.conftest import HOUR, Clock
from tests.domain.test_sown_bugs import Twin, demand_caught
from tests.storage.people import ADMIN, ALICE, GATEWAY, add_policy, approve, ask, policy
from tests.storage.test_races import at_once


def put(store: Store, clock: Clock, value: Any, *, lasts: timedelta = HOUR) -> Signal:
    wanted = Signal(name="signals/incident", value=value, expires_at=clock() + lasts)
    return signals.put(store, ADMIN, wanted, etag="").signal


@pytest.mark.parametrize("value", ["on", True, 0, 2.5, [1, "a"], {"a": {"b": "\u00e9"}}])
def test_a_signal_reads_back_as_it_was_set(store: Store, clock: Clock, value: Any) -> None:
    saved = put(store, clock, value)

    assert signals.get(store, saved.name).signal == saved
    assert saved.value == value


def test_a_signal_changes_the_very_next_check(store: Store, clock: Clock) -> None:
    add_policy(store, check_condition="signals.incident == 'on'")
    approve(store, ask(store))
    question = questions.question(GATEWAY, subject=ALICE.principal, action="read", resource="database/orders/eu")

    def reason() -> Reason:
        return checking.check(store, GATEWAY, question).decision.reason

    assert reason() is Reason.CONDITION_ERROR
    put(store, clock, "on", lasts=timedelta(minutes=1))
    assert reason() is Reason.ALLOWED
    clock.advance(timedelta(minutes=1))
    assert reason() is Reason.SIGNAL_STALE
    signals.delete(store, ADMIN, "signals/incident", etag="")
    assert reason() is Reason.CONDITION_ERROR


def request_condition_sees_it(store: Store, clock: Clock) -> None:
    add_policy(store, request_condition="signals.incident == 'on'")
    put(store, clock, "on")
    asked = ask(store)
    put(store, clock, "off")

    with pytest.raises(PolicyNoLongerAllows):
        approve(store, asked)
    with pytest.raises(ConditionNotMet):
        ask(store, resource="database/orders/us")


def step_condition_sees_it(store: Store, clock: Clock) -> None:
    always, incident = policy().steps[0], replace(policy().steps[0], condition="signals.incident == 'on'")
    add_policy(store, steps=(always, incident))
    put(store, clock, "off")
    asked = ask(store)
    put(store, clock, "on")

    assert asked.skipped == {1}
    assert approve(store, asked).state(clock()) is GrantState.PENDING


SEEN = {"request": request_condition_sees_it, "step": step_condition_sees_it}
UNREAD = [
    ("request", "bool(self.request_condition) or", ""),
    ("step", "any(step.condition for step in self.steps)", "False"),
]


@pytest.mark.parametrize("which", SEEN)
def test_a_signal_changes_what_is_asked_for_and_approved_next(store: Store, clock: Clock, which: str) -> None:
    SEEN[which](store, clock)


@pytest.mark.parametrize(("which", "sound", "bug"), UNREAD, ids=SEEN)
def test_no_twin_that_leaves_signals_unread_survives(
    store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch, which: str, sound: str, bug: str
) -> None:
    read = Policy.__dict__["has_request_conditions"].fget

    demand_caught(Twin(which, read, sound, bug, lambda: SEEN[which](store, clock)), monkeypatch)


def test_a_signal_that_changed_since_it_was_read_is_not_deleted(store: Store, clock: Clock) -> None:
    from jit_service.domain.conditions import signal

    stale = put(store, clock, "on")
    put(store, clock, "off")

    with pytest.raises(LostRace), store.transaction() as tx:
        tx.delete_signal(stale, signal.deletion_event(stale, by=ADMIN, now=tx.now))

    assert signals.get(store, stale.name).signal.value == "off"


def test_ensuring_at_once_asks_once(store: Store) -> None:
    add_policy(store)
    wanted = Ask(subject=ALICE.principal, resources=("database/orders/eu",), actions=("read",), duration=HOUR)

    answers = at_once(*[lambda: grants.ensure(store, ALICE, wanted).grant.name] * 6)

    assert len(set(answers)) == 1


def test_a_plan_ends_just_the_grants_it_named(store: Store) -> None:
    add_policy(store)
    ended = [approve(store, ask(store, resource=f"database/orders/{n}", labels={"team": "a"})) for n in range(3)]
    other = approve(store, ask(store, labels={"team": "b"}))
    selector = GrantSelector(subject=ALICE.principal, labels={"team": "a"})
    plan = bulk_revocation.plan(store, selector)
    assert {grant.name for grant in plan.grants} == {grant.name for grant in ended}

    approve(store, ask(store, labels={"team": "a"}))
    with pytest.raises(StalePlan):
        bulk_revocation.execute(store, ADMIN, selector, plan_id=plan.id, comment="leak")
    fresh = bulk_revocation.plan(store, selector)
    done = bulk_revocation.execute(store, ADMIN, selector, plan_id=fresh.id, comment="leak")

    assert len(done.grants) == 4
    assert {grant.state(done.at) for grant in done.grants} == {GrantState.REVOKED}
    read = grants.get(store, ALICE, other.name)
    assert read.grant.state(read.at) is GrantState.ACTIVE
    assert not audit.verify(store).problem
