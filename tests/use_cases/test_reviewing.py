"""Reviewing through the use cases: what is judged anew, and what a delegation or an emergency changes."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from jit_service.check import questions
from jit_service.domain.caller import Caller
from jit_service.domain.conditions.signal import Signal
from jit_service.domain.errors import NotApprover, ReviewOverdue, TooManyUnreviewed
from jit_service.domain.grants.delegation import NewDelegation
from jit_service.domain.grants.grant import Grant, GrantState, Justification
from jit_service.domain.grants.request import Ask
from jit_service.domain.grants.terms import Edits
from jit_service.domain.person import Person
from jit_service.domain.policies.policy import BreakGlassRule, PrincipalSet, Step
from jit_service.storage import Store
from jit_service.use_cases import delegations, grants, policies, signals
from jit_service.use_cases.grants import GrantView
from tests import checking
from tests.conftest import HOUR, NOON, TICK, Clock
from tests.storage.people import ADMIN, ALICE, BOB, CAROL, DAVE, add_policy, ask

ERIN = Caller(principal="user:erin@example.com", groups=frozenset({"security"}))
SECURITY_IN_AN_INCIDENT = (
    Step(approvers=PrincipalSet(groups=("security",)), condition="signals.incident"),
    Step(approvers=PrincipalSet(groups=("owners",))),
)
ALL: dict[str, Any] = {"filter_text": "", "order_by": "", "page_size": 0, "page_token": ""}
ON_CALL = BreakGlassRule(
    eligible=PrincipalSet(groups=("engineering",)), max_duration=HOUR, review_within=timedelta(hours=2)
)


def incident(store: Store, value: bool) -> None:
    signals.put(store, ADMIN, Signal(name="signals/incident", value=value, expires_at=NOON + 24 * HOUR), etag="")


def approve(store: Store, grant: Grant, by: Caller) -> GrantState:
    answer = grants.approve(store, by, grant.name, comment="", etag="")
    return answer.grant.state(answer.at)


def emergency(store: Store, **changes: Any) -> Grant:
    facts: dict[str, Any] = {
        "subject": ALICE.principal,
        "resources": ("database/orders/eu",),
        "actions": ("read",),
        "justification": Justification(text="down"),
        "break_glass": True,
    }
    return grants.ask(store, ALICE, Ask(**(facts | changes))).grant


# Steps that are needed now


def test_a_step_that_is_needed_by_now_is_decided_first(store: Store) -> None:
    add_policy(store, steps=SECURITY_IN_AN_INCIDENT)
    incident(store, value=False)
    asked = ask(store)
    incident(store, value=True)

    with pytest.raises(NotApprover):
        approve(store, asked, BOB)
    assert approve(store, asked, ERIN) is GrantState.PENDING
    assert approve(store, asked, BOB) is GrantState.ACTIVE


def test_a_step_that_is_no_longer_needed_is_not_waited_for(store: Store) -> None:
    add_policy(store, steps=SECURITY_IN_AN_INCIDENT)
    incident(store, value=True)
    asked = ask(store)
    incident(store, value=False)

    assert approve(store, asked, BOB) is GrantState.ACTIVE


def test_who_edits_so_that_its_own_step_is_not_needed_has_approved_all_the_same(store: Store) -> None:
    security = Step(approvers=PrincipalSet(groups=("security",)))
    owners = Step(approvers=PrincipalSet(groups=("owners",)), condition='duration > duration("30m")')
    for steps, after in (((owners, security), GrantState.PENDING), ((owners,), GrantState.ACTIVE)):
        add_policy(store, name=f"policies/p{len(steps)}", resources=(f"p{len(steps)}/**",), steps=steps)
        asked = ask(store, resource=f"p{len(steps)}/x", duration=HOUR)

        given = grants.approve(store, BOB, asked.name, comment="", etag="", edits=Edits(duration=HOUR / 2))

        assert given.grant.state(given.at) is after
    assert (
        approve(store, grants.list_page(store, ERIN, view=GrantView.REVIEWABLE, **ALL).grants[0], ERIN)
        is GrantState.ACTIVE
    )


def test_an_edit_that_needs_an_earlier_step_first_is_refused(store: Store) -> None:
    short = Step(approvers=PrincipalSet(groups=("security",)), condition='duration <= duration("30m")')
    add_policy(store, steps=(short, Step(approvers=PrincipalSet(groups=("owners",)))))
    asked = ask(store, duration=HOUR)

    with pytest.raises(NotApprover):
        grants.approve(store, BOB, asked.name, comment="", etag="", edits=Edits(duration=HOUR / 2))


def test_who_decides_a_step_that_is_needed_by_now_may_deny_and_offer(store: Store) -> None:
    add_policy(store, steps=SECURITY_IN_AN_INCIDENT)
    incident(store, value=False)
    asked = ask(store)
    incident(store, value=True)

    grants.counter(store, ERIN, asked.name, comment="", etag="", edits=Edits(duration=TICK))
    denied = grants.deny(store, ERIN, asked.name, comment="", etag="")

    assert denied.grant.state(denied.at) is GrantState.DENIED


# Offers by a delegate


def test_a_delegates_offer_is_accepted_while_the_delegation_lasts(store: Store, clock: Clock) -> None:
    add_policy(store)
    delegations.create(store, BOB, NewDelegation(delegate=DAVE.principal, expires_at=NOON + HOUR))
    asked = ask(store)
    grants.counter(store, DAVE, asked.name, comment="", etag="", edits=Edits(duration=TICK))

    clock.advance(HOUR - TICK)
    taken = grants.accept_offer(store, ALICE, asked.name, comment="", etag="")

    assert taken.grant.state(taken.at) is GrantState.ACTIVE


def test_a_delegates_offer_ends_with_the_delegation(store: Store, clock: Clock) -> None:
    add_policy(store)
    lent = delegations.create(store, BOB, NewDelegation(delegate=DAVE.principal, expires_at=NOON + HOUR)).delegation
    first, second = ask(store), ask(store)
    for asked in (first, second):
        grants.counter(store, DAVE, asked.name, comment="", etag="", edits=Edits(duration=TICK))

    delegations.delete(store, BOB, lent.name, etag="")
    with pytest.raises(NotApprover):
        grants.accept_offer(store, ALICE, first.name, comment="", etag="")
    clock.advance(HOUR)
    with pytest.raises(NotApprover):
        grants.accept_offer(store, ALICE, second.name, comment="", etag="")


def test_a_delegate_reviews_until_exactly_the_delegations_end(store: Store, clock: Clock) -> None:
    add_policy(store, approvals=2)
    delegations.create(
        store, BOB, NewDelegation(delegate=DAVE.principal, starts_at=NOON + TICK, expires_at=NOON + HOUR)
    )
    first, second = ask(store), ask(store)

    clock.advance(TICK)
    assert approve(store, first, DAVE) is GrantState.PENDING
    clock.advance(HOUR - TICK)
    with pytest.raises(Exception, match="may not see"):
        approve(store, second, DAVE)


# Emergencies


def test_an_overdue_review_stops_the_next_emergency(store: Store, clock: Clock) -> None:
    add_policy(store, break_glass=ON_CALL)
    taken = emergency(store)

    clock.advance(2 * HOUR - TICK)
    emergency(store)
    clock.advance(TICK)
    with pytest.raises(ReviewOverdue, match=taken.name):
        emergency(store)
    assert ask(store)

    grants.complete_review(store, CAROL, taken.name, comment="seen", etag="")
    assert emergency(store).emergency


def test_two_uses_may_wait_for_their_review_and_no_third_is_taken(store: Store) -> None:
    add_policy(store, break_glass=ON_CALL)
    one, two = emergency(store), emergency(store)

    with pytest.raises(TooManyUnreviewed, match=one.name):
        emergency(store)
    with store.snapshot() as snapshot:
        owed = snapshot.owed_reviews(Person(ALICE.principal.replace("alice", "Alice")))
    assert {grant.name for grant in owed} == {one.name, two.name}


def test_an_emergency_is_not_answered_with_a_request_that_waits(store: Store) -> None:
    add_policy(store, break_glass=ON_CALL)
    waiting = ask(store)
    again = Ask(
        subject=ALICE.principal,
        resources=("database/orders/eu",),
        actions=("read",),
        justification=Justification(text="down"),
        break_glass=True,
    )

    first = grants.ensure(store, ALICE, again)
    second = grants.ensure(store, ALICE, again)

    assert first.grant.state(first.at) is GrantState.ACTIVE
    assert (first.grant.name != waiting.name, second.grant.name) == (True, first.grant.name)


# What is passed on


def test_what_ends_above_ends_all_below_at_once(store: Store) -> None:
    add_policy(store, steps=(), max_child_depth=2, eligible=PrincipalSet(groups=("engineering",)))
    first = ask(store)
    bot = Caller(principal="service:bot")
    second = ask(store, parent=first.name, caller=ALICE)
    child = grants.ask(
        store,
        ALICE,
        Ask(subject=bot.principal, resources=first.resources, actions=first.actions, parent=second.name),
    ).grant
    question = questions.question(bot, subject=bot.principal, action="read", resource="database/orders/eu")
    assert checking.check(store, bot, question).decision.allowed

    grants.release(store, ALICE, first.name, comment="", etag="")

    assert not checking.check(store, bot, question).decision.allowed
    for name in (second.name, child.name):
        read = grants.get(store, ALICE, name)
        assert read.grant.state(read.at) is GrantState.REVOKED


def test_a_policy_that_allows_no_more_passing_on_leaves_what_was_passed_on(store: Store) -> None:
    stored = add_policy(store, steps=(), max_child_depth=1)
    first = ask(store)
    child = ask(store, parent=first.name)

    policies.update(store, ADMIN, stored.name, etag="", change=lambda policy: replace(policy, max_child_depth=0))

    read = grants.get(store, ALICE, child.name)
    assert read.grant.state(read.at) is GrantState.ACTIVE


def test_of_grants_that_allow_the_same_the_first_by_name_is_used(store: Store) -> None:
    add_policy(store, steps=(), max_uses=9)
    names = sorted(ask(store).name for _ in range(5))
    question = questions.question(ALICE, subject=ALICE.principal, action="read", resource="database/orders/eu")

    used = [checking.check(store, ALICE, question).decision.grant for _ in range(3)]

    assert [grant.name for grant in used if grant] == names[:1] * 3


def test_of_grants_that_ended_at_once_the_first_by_name_explains(store: Store) -> None:
    add_policy(store, steps=())
    first, *others = sorted((ask(store) for _ in range(5)), key=lambda grant: grant.name)
    for grant in others:
        grants.revoke(store, ALICE, grant.name, comment="over", etag="")
    grants.release(store, ALICE, first.name, comment="", etag="")
    question = questions.question(ALICE, subject=ALICE.principal, action="read", resource="database/orders/eu")

    decision = checking.check(store, ALICE, question).decision

    assert decision.grant is not None
    assert decision.grant.name == first.name
