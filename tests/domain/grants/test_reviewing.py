"""The order of the rules of a review: what a caller that breaks several of them is told, and what is judged as now."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from jit_service.domain.audit.event import Event
from jit_service.domain.caller import Caller
from jit_service.domain.conditions.signal import Signals
from jit_service.domain.errors import (
    InvalidField,
    JitError,
    Locked,
    NotApprover,
    NotEligible,
    NotYours,
    PolicyNoLongerAllows,
    StaleEtag,
    Unsatisfiable,
)
from jit_service.domain.grants import lock, reviewing
from jit_service.domain.grants.grant import Grant, GrantState
from jit_service.domain.grants.lock import NO_LOCKS, Locks, NewLock, Target
from jit_service.domain.grants.more_time import MoreTime
from jit_service.domain.grants.reviewing import FIRST, ReviewRules, Shown
from jit_service.domain.grants.terms import AS_ASKED, Edits
from jit_service.domain.policies.policy import Policy
from tests.domain.factories import (
    ALICE,
    BOB,
    HOUR,
    NOON,
    TICK,
    admin,
    alice,
    approved,
    bob,
    carol,
    countered,
    dave,
    erin,
    extending,
    in_place_of,
    pending,
    policy,
    step,
)

NARROWED = policy(resources=("http/**",))
SHORTER = policy(max_duration=HOUR / 2, default_duration=HOUR / 2)


def rules(under: Policy | None = None, *others: Policy, locks: Locks = NO_LOCKS) -> ReviewRules:
    under = under or policy()
    return ReviewRules(policy=under, policies=[under, *others], locks=locks)


def locked(principal: str = ALICE) -> Locks:
    new = NewLock(target=Target(principal=principal), comment="stolen laptop")
    return Locks([lock.create(new, lock_name="locks/l1", by=admin(), now=NOON)])


def approve(
    grant: Grant, edits: Edits = AS_ASKED, *, by: Caller | None = None, now: ReviewRules, shown: Shown = FIRST
) -> Grant:
    return reviewing.approve(grant, edits, rules=now, by=by or bob(), comment="", now=NOON, shown=shown)[0]


def deny(grant: Grant, *, by: Caller | None = None, now: ReviewRules, shown: Shown = FIRST) -> Grant:
    return reviewing.deny(grant, rules=now, by=by or bob(), comment="no", now=NOON, shown=shown)[0]


def counter(grant: Grant, *, by: Caller | None = None, now: ReviewRules, **edits: Any) -> Grant:
    return reviewing.counter(grant, Edits(**edits), rules=now, by=by or bob(), comment="", now=NOON)[0]


def accept(grant: Grant, *, by: Caller | None = None, now: ReviewRules) -> Grant:
    return reviewing.accept(grant, rules=now, by=by or alice(), comment="", now=NOON)[0]


def extend(grant: Grant, *, by: Caller | None = None, now: ReviewRules) -> Grant:
    return reviewing.extend(grant, MoreTime(duration=HOUR), rules=now, by=by or alice(), now=NOON)[0]


# Approving


def test_whoever_may_not_approve_learns_nothing_of_what_waits() -> None:
    with pytest.raises(NotApprover):
        approve(pending(), by=dave(), now=rules(), shown=Shown(extension_round=7))


def test_whoever_may_not_approve_learns_nothing_of_whether_the_request_could_pass() -> None:
    with pytest.raises(NotApprover):
        approve(pending(), by=dave(), now=rules(NARROWED))


def test_an_approval_of_another_request_is_refused_before_its_edits_are_looked_at() -> None:
    with pytest.raises(StaleEtag):
        approve(pending(), Edits(duration=99 * HOUR), now=rules(), shown=Shown(extension_round=7))


def test_an_edit_that_gives_too_much_is_refused_before_the_request_is_judged_again() -> None:
    with pytest.raises(InvalidField) as refused:
        approve(pending(), Edits(duration=99 * HOUR), now=rules(NARROWED))

    assert refused.value.field == "duration"


def test_what_is_approved_is_judged_by_the_policy_as_it_is_now() -> None:
    with pytest.raises(PolicyNoLongerAllows):
        approve(pending(), now=rules(NARROWED))


def test_what_is_given_is_judged_and_not_what_was_asked_for() -> None:
    given = approve(pending(), Edits(duration=HOUR / 4), now=rules(SHORTER))

    assert (given.state(NOON), given.duration) == (GrantState.ACTIVE, HOUR / 4)
    assert given.reviews[0].terms == given.terms


def test_whether_anybody_is_locked_is_asked_before_the_policies() -> None:
    with pytest.raises(Locked):
        approve(pending(), now=rules(NARROWED, locks=locked()))


# Denying


def test_whoever_may_not_deny_learns_nothing_of_what_waits() -> None:
    with pytest.raises(NotApprover):
        deny(pending(), by=dave(), now=rules(), shown=Shown(extension_round=7))


def test_a_denial_of_another_request_is_refused() -> None:
    with pytest.raises(StaleEtag):
        deny(pending(), now=rules(), shown=Shown(extension_round=7))


def test_a_request_that_could_not_pass_any_more_can_be_denied() -> None:
    assert deny(pending(), now=rules(NARROWED, locks=locked())).state(NOON) is GrantState.DENIED


# Offers


def test_whoever_may_not_offer_learns_nothing_of_whether_the_request_could_pass() -> None:
    with pytest.raises(NotApprover):
        counter(pending(), by=dave(), now=rules(NARROWED), duration=HOUR / 2)


def test_an_offer_that_could_not_be_accepted_now_is_refused() -> None:
    with pytest.raises(PolicyNoLongerAllows):
        counter(pending(), now=rules(NARROWED), duration=HOUR / 2)


def test_an_offer_is_judged_by_the_terms_that_it_offers() -> None:
    assert counter(pending(), now=rules(SHORTER), duration=HOUR / 4).offer is not None


def test_whoever_was_offered_nothing_learns_nothing_of_whether_it_could_pass() -> None:
    with pytest.raises(NotYours):
        accept(countered(pending(), duration=HOUR / 2), by=dave(), now=rules(NARROWED))


def test_an_accepted_offer_is_judged_by_the_policies_of_now() -> None:
    offered = countered(pending(), duration=HOUR / 2)

    with pytest.raises(PolicyNoLongerAllows):
        accept(offered, now=rules(NARROWED))
    assert accept(offered, now=rules()).duration == HOUR / 2


def test_an_accepted_offer_is_judged_by_the_terms_that_were_offered() -> None:
    offered = countered(pending(), duration=HOUR / 4)

    assert accept(offered, now=rules(SHORTER)).duration == HOUR / 4


# More time


def faults(grant: Grant, now: ReviewRules, *, by: Caller | None = None) -> type[JitError]:
    with pytest.raises(JitError) as refused:
        extend(grant, by=by, now=now)
    return refused.type


def test_more_time_is_refused_by_the_first_rule_that_it_breaks() -> None:
    unsatisfiable = extending(steps=(step(principals=(ALICE,)),))
    nobody_left = rules(unsatisfiable, locks=locked())
    narrowed = rules(extending(resources=("http/**",)), locks=locked())

    assert faults(approved(), narrowed, by=dave()) is NotYours
    assert faults(approved(), narrowed) is NotEligible
    assert faults(approved(), nobody_left) is Locked
    assert faults(approved(), rules(unsatisfiable)) is Unsatisfiable


def test_more_time_that_breaks_no_rule_waits_for_its_steps() -> None:
    longer = extend(approved(), now=rules(extending()))

    assert longer.extension is not None
    assert longer.expires_at == NOON + HOUR
    assert longer.state(NOON + HOUR - TICK) is GrantState.ACTIVE


# Locks and what was shown


def test_a_lock_on_who_passed_a_step_holds_for_every_decision() -> None:
    under = policy(steps=(step("owners"), step("security")))
    passed = approve(pending(under), now=rules(under))
    locks = locked(BOB)

    for decide in (
        lambda by: approve(passed, by=by, now=rules(under, locks=locks)),
        lambda by: deny(passed, by=by, now=rules(under, locks=locks)),
        lambda by: counter(passed, by=by, now=rules(under, locks=locks), duration=HOUR / 2),
    ):
        with pytest.raises(NotApprover, match="waits for step 1"):
            decide(carol())
        assert decide(erin())


def test_a_denial_of_the_locked_does_not_count() -> None:
    under = policy(steps=(replace(step("owners"), denials_needed=2),))
    once = deny(pending(under), now=rules(under))

    assert deny(once, by=erin(), now=rules(under, locks=locked(BOB))).state(NOON) is GrantState.PENDING
    assert deny(once, by=erin(), now=rules(under)).state(NOON) is GrantState.DENIED


def test_an_approval_of_the_locked_does_not_count_beside_another_or_an_offer() -> None:
    under = policy(steps=(step("owners", needed=2),))
    once = approve(pending(under), now=rules(under))
    offered = counter(once, by=erin(), now=rules(under), duration=HOUR / 2)

    assert approve(once, by=erin(), now=rules(under, locks=locked(BOB))).state(NOON) is GrantState.PENDING
    assert accept(offered, now=rules(under, locks=locked(BOB))).state(NOON) is GrantState.PENDING
    assert accept(offered, now=rules(under)).state(NOON) is GrantState.ACTIVE


def test_the_etag_that_was_read_names_more_time_as_well_as_its_round() -> None:
    longer = extend(approved(), now=rules(extending()))

    for decide in (approve, deny):
        assert decide(longer, now=rules(extending()), shown=Shown(etag="read"))
        with pytest.raises(InvalidField, match="extension_round"):
            decide(longer, now=rules(extending()), shown=FIRST)


def test_an_offer_in_anothers_place_is_accepted_while_the_delegation_can_be_used() -> None:
    offered = counter(pending(), by=in_place_of(dave(), bob()), now=rules(), duration=HOUR / 2)

    def taken(*delegations: str) -> Event:
        return reviewing.accept(offered, rules=rules(), by=alice(), comment="fine", now=NOON, delegations=delegations)[
            1
        ]

    assert taken("delegations/d0").message == "fine"
    with pytest.raises(NotApprover):
        taken()


def test_new_terms_that_pass_the_waiting_step_are_given_by_who_found_it_waiting() -> None:
    long = replace(step("owners"), condition='duration > duration("30m")')
    under = policy(steps=(long, step("security")))

    given = approve(pending(under), Edits(duration=HOUR / 2), now=rules(under))

    assert [review.step for review in given.reviews] == [0]
    assert given.state(NOON) is GrantState.PENDING


def test_a_reviewer_is_judged_by_the_signals_of_now() -> None:
    judging = replace(step("owners"), condition='signals.open && reviewer.principal != ""')
    under = policy(steps=(judging,))

    def as_now(is_open: bool) -> ReviewRules:
        return replace(rules(under), signals=Signals(live={"open": is_open}))

    for decide in (approve, deny):
        assert decide(pending(under), now=as_now(True))
        with pytest.raises(NotApprover, match="may not decide"):
            decide(pending(under), now=as_now(False))
    assert counter(pending(under), now=as_now(True), duration=HOUR / 2)
    with pytest.raises(NotApprover, match="may not decide"):
        counter(pending(under), now=as_now(False), duration=HOUR / 2)


def test_a_step_is_needed_again_where_the_policy_has_no_conditions_any_more() -> None:
    under = policy(steps=(step("owners"), step("security")))

    given = approve(replace(pending(under), skipped=frozenset({0})), now=rules(under))

    assert given.reviews[0].step == 0
