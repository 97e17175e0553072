"""What other policies would answer to a check of grants, as if these had been given under them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from jit_service.domain.checks import what_if
from jit_service.domain.checks.decision import Question, Reason
from jit_service.domain.checks.evidence import Evidence
from jit_service.domain.checks.what_if import Outcome, RequestOutcome
from jit_service.domain.conditions.signal import Signals
from jit_service.domain.errors import NotEligible
from jit_service.domain.grants import children, misfit, request
from jit_service.domain.grants.grant import GrantState
from jit_service.domain.policies.policy import Policy, PrincipalSet
from tests.domain.factories import (
    ALICE,
    BOT,
    HOUR,
    NOON,
    alice,
    approved,
    ask,
    breakable,
    deny_policy,
    named,
    pending,
    policy,
    question,
)
from tests.domain.grants.test_break_glass import broken

DEEP = policy(steps=(), max_child_depth=1)


def test_a_grant_would_stand_under_policies_that_would_have_given_it() -> None:
    grant = approved()

    assert what_if.regrant(grant, [policy(name="policies/a"), policy()]) == grant
    tightened = what_if.regrant(grant, [policy(check_condition="signals.window")])
    assert tightened == replace(grant, check_condition="signals.window")


@pytest.mark.parametrize(
    "other",
    [
        policy(name="policies/a"),
        policy(disabled=True),
        policy(deleted_at=NOON),
        policy(resources=("database/users/**",)),
        policy(actions=("write",)),
        policy(eligible=PrincipalSet(groups=("sales",))),
    ],
    ids=["gone", "disabled", "deleted", "other resources", "other actions", "for others"],
)
def test_a_grant_would_not_stand_under_policies_that_would_not_have_given_it(other: Policy) -> None:
    assert what_if.regrant(approved(), [other]) is None


def test_what_was_passed_on_would_stand_as_deep_as_the_policy_lets_it() -> None:
    child = replace(approved(), chain=("grants/a",), subject=BOT)

    misfit.demand_given_under(child, DEEP)
    misfit.demand_given_under(replace(child, chain=("grants/a", "grants/b")), replace(DEEP, max_child_depth=2))
    for under in (policy(), replace(DEEP, disabled=True), replace(DEEP, resources=("http/**",))):
        with pytest.raises(NotEligible):
            misfit.demand_given_under(child, under)
    with pytest.raises(NotEligible, match=f"policies/orders would not let {ALICE} have grants/g7"):
        misfit.demand_given_under(replace(child, chain=("grants/a", "grants/b")), DEEP)


def test_what_was_taken_in_an_emergency_would_stand_by_the_rule_for_emergencies() -> None:
    grant = broken()

    misfit.demand_given_under(grant, breakable())
    with pytest.raises(NotEligible):
        misfit.demand_given_under(grant, replace(breakable(), break_glass=None))
    with pytest.raises(NotEligible):
        misfit.demand_given_under(replace(grant, emergency=None), breakable())


def test_a_check_is_answered_as_if_all_had_been_given_under_these_policies() -> None:
    grant = approved()

    def reason(*policies: Policy, at: Any = NOON, asked: Question | None = None) -> Reason:
        return what_if.answer(asked or question(), grants=[grant], evidence=Evidence(policies=policies, now=at)).reason

    assert reason(policy()) is Reason.ALLOWED
    assert reason(policy(), at=NOON + HOUR) is Reason.EXPIRED
    assert reason(policy(disabled=True)) is Reason.NO_GRANT
    assert reason(policy(), deny_policy(eligible=PrincipalSet(principals=(ALICE,)))) is Reason.DENIED_BY_POLICY
    assert reason(policy(check_condition="false")) is Reason.CONDITION_NOT_MET


def test_what_was_passed_on_is_answered_by_what_would_have_been_given_above_it() -> None:
    parent = named(pending(DEEP), "grants/a")
    child = children.judge_child(
        ask(subject=BOT, parent="grants/a"), parent, policies=[DEEP], by=alice(), grant_name="grants/b", now=NOON
    )
    assert child.state(NOON) is GrantState.ACTIVE

    def reason(*policies: Policy) -> Reason:
        return what_if.answer(
            question(subject=BOT),
            grants=[child],
            evidence=Evidence(above={"grants/a": parent}, policies=policies, now=NOON),
        ).reason

    assert reason(DEEP) is Reason.ALLOWED
    assert reason(replace(DEEP, eligible=PrincipalSet(groups=("sales",)))) is Reason.NO_GRANT
    assert reason(replace(DEEP, max_child_depth=0)) is Reason.NO_GRANT


def test_a_request_is_judged_by_the_live_signals_and_its_grant_has_no_name() -> None:
    under = policy(request_condition="signals.window", steps=())

    def judged(*, window: bool) -> RequestOutcome:
        signals = Signals(live={"window": window})
        return what_if.judge_request(ask(), policies=iter([under]), by=alice(), now=NOON, signals=signals)

    live = Signals(live={"window": True})
    grant = request.judge_request(ask(), policies=[under], by=alice(), grant_name="", now=NOON, signals=live)
    assert judged(window=True) == RequestOutcome(outcome=Outcome.ACTIVE, grant=grant, policy="policies/orders")
    refused = judged(window=False)
    assert (refused.outcome, refused.reason, refused.policy) == (
        Outcome.REFUSED,
        "CONDITION_NOT_MET",
        "policies/orders",
    )
