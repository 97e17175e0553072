"""What reviewers and admins are told before they act is what then happens."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from jit_service.domain.caller import Caller
from jit_service.domain.conditions.signal import Signal
from jit_service.domain.errors import InvalidField, PolicyNoLongerAllows, StalePlan, TooManyActive
from jit_service.domain.grants.grant import GrantState, Justification
from jit_service.domain.grants.request import Ask
from jit_service.domain.grants.terms import Edits
from jit_service.domain.policies.policy import BreakGlassRule, Policy, PrincipalSet, Step
from jit_service.storage import Store
from jit_service.use_cases import bulk_revocation, grants, policies, signals
from jit_service.use_cases.bulk_revocation import GrantSelector
from jit_service.use_cases.grants import GrantView
from tests.conftest import HOUR, NOON, TICK
from tests.storage.people import ADMIN, ALICE, BOB, add_policy, ask

ENGINEERS = PrincipalSet(groups=("engineering",))
ON_CALL = BreakGlassRule(eligible=ENGINEERS, max_duration=HOUR, review_within=HOUR)


# A duration that a reviewer chose


@pytest.mark.parametrize("act", [grants.approve, grants.counter])
def test_a_reviewer_is_told_that_it_chose_less_than_the_policy_gives(store: Store, act: object) -> None:
    add_policy(store, min_duration=HOUR / 2)
    asked = ask(store, duration=HOUR)

    with pytest.raises(InvalidField) as refused:
        act(store, BOB, asked.name, comment="", etag="", edits=Edits(duration=HOUR / 2 - TICK))  # type: ignore[operator]

    assert refused.value.field == "duration"
    act(store, BOB, asked.name, comment="", etag="", edits=Edits(duration=HOUR / 2))  # type: ignore[operator]


@pytest.mark.parametrize("edits", [Edits(), Edits(actions=("read",)), Edits(duration=HOUR)])
def test_what_was_asked_for_is_the_policys_to_refuse_not_the_reviewers_fault(store: Store, edits: Edits) -> None:
    stored = add_policy(store)
    asked = ask(store, duration=HOUR)
    _raise_minimum(store, stored)

    with pytest.raises(PolicyNoLongerAllows):
        grants.approve(store, BOB, asked.name, comment="", etag="", edits=edits)


def test_an_offer_below_a_minimum_that_came_after_it_is_not_the_requesters_fault(store: Store) -> None:
    stored = add_policy(store)
    asked = ask(store, duration=2 * HOUR)
    grants.counter(store, BOB, asked.name, comment="", etag="", edits=Edits(duration=HOUR))
    _raise_minimum(store, stored)

    with pytest.raises(PolicyNoLongerAllows):
        grants.accept_offer(store, ALICE, asked.name, comment="", etag="")


def _raise_minimum(store: Store, stored: Policy) -> None:
    def change(policy: Policy) -> Policy:
        return replace(policy, min_duration=2 * HOUR + TICK, default_duration=timedelta())

    policies.update(store, ADMIN, stored.name, etag="", change=change)


# The plan of a bulk revocation


def test_a_plan_names_all_that_would_end(store: Store) -> None:
    add_policy(store, steps=(), max_child_depth=2)
    top = ask(store)
    child = grants.ask(store, ALICE, passed_on(top.name, "service:job")).grant
    other = ask(store, resource="database/orders/us")
    by_subject = GrantSelector(subject=ALICE.principal)

    plan = bulk_revocation.plan(store, by_subject)
    done = bulk_revocation.execute(store, ADMIN, by_subject, plan_id=plan.id, comment="leak")

    assert [grant.name for grant in plan.grants] == sorted([top.name, child.name, other.name])
    assert [grant.name for grant in done.grants] == [grant.name for grant in plan.grants]
    assert {grant.state(done.at) for grant in done.grants} == {GrantState.REVOKED}


def test_a_plan_is_stale_once_more_would_end_with_it(store: Store) -> None:
    add_policy(store, steps=(), max_child_depth=2)
    top = ask(store)
    by_subject = GrantSelector(subject=ALICE.principal)
    plan = bulk_revocation.plan(store, by_subject)

    child = grants.ask(store, ALICE, passed_on(top.name, "service:job")).grant

    with pytest.raises(StalePlan):
        bulk_revocation.execute(store, ADMIN, by_subject, plan_id=plan.id, comment="leak")
    assert grants.get(store, ADMIN, child.name).grant.end is None


def test_what_ends_with_what_it_came_from_says_so_also_where_it_matches_itself(store: Store) -> None:
    add_policy(store, steps=(), max_child_depth=2)
    tops = [ask(store) for _ in range(4)]
    children = [ask(store, parent=top.name) for top in tops]
    by_subject = GrantSelector(subject=ALICE.principal)

    plan = bulk_revocation.plan(store, by_subject)
    done = bulk_revocation.execute(store, ADMIN, by_subject, plan_id=plan.id, comment="leak")

    said = {grant.name: grant.end.comment for grant in done.grants if grant.end}
    assert {said[top.name] for top in tops} == {"leak"}
    assert all("came from it" in said[child.name] for child in children)


def passed_on(parent: str, to: str) -> Ask:
    return Ask(subject=to, resources=("database/orders/eu",), actions=("read",), parent=parent)


# Emergencies


def test_an_emergency_is_not_kept_out_by_what_waits(store: Store) -> None:
    add_policy(store, break_glass=ON_CALL, max_active_per_subject=1)
    ask(store)
    now = Ask(
        subject=ALICE.principal,
        resources=("database/orders/eu",),
        actions=("read",),
        justification=Justification(text="down"),
        break_glass=True,
    )

    assert grants.preview(store, ALICE, now).grant.emergency
    taken = grants.ask(store, ALICE, now)

    assert taken.grant.state(taken.at) is GrantState.ACTIVE
    with pytest.raises(TooManyActive):
        ask(store)


# The inbox


def test_an_inbox_has_what_can_be_approved_now_also_after_a_signal_has_changed(store: Store) -> None:
    security = Step(approvers=PrincipalSet(groups=("security",)), condition="signals.incident")
    add_policy(store, steps=(security, Step(approvers=PrincipalSet(groups=("owners",)))))
    erin = Caller(principal="user:erin@example.com", groups=frozenset({"security"}))
    set_incident(store, value=False)
    ask(store)

    for is_on, bobs, erins in ((False, 1, 0), (True, 0, 1), (False, 1, 0)):
        set_incident(store, value=is_on)
        assert (len(inbox(store, BOB)), len(inbox(store, erin))) == (bobs, erins)


def set_incident(store: Store, *, value: bool) -> None:
    put = Signal(name="signals/incident", value=value, expires_at=NOON + HOUR)
    signals.put(store, ADMIN, put, etag="")


def inbox(store: Store, by: Caller) -> list[str]:
    page = grants.list_page(
        store, by, view=GrantView.REVIEWABLE, filter_text="", order_by="", page_size=10, page_token=""
    )
    return [grant.name for grant in page.grants]
