"""What other policies would answer: to a made-up request, and to a check of grants as if given under them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from jit_service.domain.caller import Caller
from jit_service.domain.checks import what_if
from jit_service.domain.checks.decision import Question, Reason
from jit_service.domain.checks.evidence import Evidence
from jit_service.domain.checks.what_if import Case, CaseResult, Expected, Outcome
from jit_service.domain.conditions.signal import NO_SIGNALS, Signals
from jit_service.domain.errors import InvalidField, NotEligible
from jit_service.domain.grants import children, misfit
from jit_service.domain.grants.grant import GrantState
from jit_service.domain.policies.policy import Policy, PrincipalSet, Step
from tests.domain.factories import (
    ALICE,
    BOT,
    HOUR,
    NOON,
    alice,
    approved,
    ask,
    breakable,
    caller,
    dave,
    deny_policy,
    named,
    pending,
    policy,
    question,
    step,
)
from tests.domain.grants.test_break_glass import broken

DEEP = policy(steps=(), max_child_depth=1)


def case(by: Caller | None = None, *, signals: Signals = NO_SIGNALS, asked: Any = None, **expected: Any) -> Case:
    return Case(
        title="reads",
        by=by or alice(),
        ask=ask(**(asked or {})),
        signals=signals,
        now=NOON,
        expected=Expected(**expected),
    )


def rehearsed(given: Case, under: Policy | None = None) -> CaseResult:
    return what_if.run_case(what_if.normalize(given), under or policy())


def test_a_request_that_needs_approval_waits_and_its_check_is_answered_as_once_approved() -> None:
    result = rehearsed(case())

    assert (result.judged.outcome, result.judged.steps, result.check) == (Outcome.PENDING, (1,), Reason.ALLOWED)
    assert (result.title, result.differences) == ("reads", ())


def test_a_request_without_steps_is_active_or_scheduled() -> None:
    under = policy(steps=())

    assert rehearsed(case(), under).judged.outcome is Outcome.ACTIVE
    later = rehearsed(case(asked={"start_at": NOON + HOUR}), under)
    assert (later.judged.outcome, later.check) == (Outcome.SCHEDULED, Reason.ALLOWED)


def test_steps_that_are_not_needed_are_not_among_those_that_are() -> None:
    under = policy(steps=(step("owners"), replace(step("security"), condition="has(signals.window)"), step("sales")))

    assert rehearsed(case(), under).judged.steps == (1, 3)


def test_a_refusal_is_told_with_its_reason_and_no_check() -> None:
    stranger = rehearsed(case(dave(), asked={"subject": dave().principal}))
    denied = rehearsed(case(), deny_policy(eligible=PrincipalSet(principals=(ALICE,))))

    assert (stranger.judged.outcome, stranger.judged.reason) == (Outcome.REFUSED, "NOT_ELIGIBLE")
    assert (stranger.judged.grant, stranger.judged.steps, stranger.check) == (None, (), "")
    assert (denied.judged.outcome, denied.judged.reason) == (Outcome.REFUSED, "DENIED_BY_POLICY")


def test_what_nobody_could_approve_is_refused() -> None:
    own = rehearsed(case(), policy(steps=(step(principals=(ALICE,)),)))

    assert (own.judged.outcome, own.judged.reason) == (Outcome.REFUSED, "UNSATISFIABLE")
    assert own.judged.message.startswith("policies/orders could never approve this: ")


def test_a_step_that_judges_its_reviewer_waits_for_one_whoever_asks() -> None:
    judging = Step(approvers=PrincipalSet(groups=("owners",)), condition='"mfa" in reviewer.claims.amr')

    result = rehearsed(case(), policy(steps=(judging,)))

    assert (result.judged.outcome, result.judged.steps, result.check) == (Outcome.PENDING, (1,), Reason.ALLOWED)


def test_a_check_that_a_condition_refuses_says_so() -> None:
    under = policy(check_condition="signals.window")

    assert rehearsed(case(signals=Signals(live={"window": True})), under).check == Reason.ALLOWED
    assert rehearsed(case(signals=Signals(live={"window": False})), under).check == Reason.CONDITION_NOT_MET


def test_a_pattern_is_not_checked() -> None:
    assert rehearsed(case(asked={"resources": ("database/orders/*",)})).check == ""
    assert rehearsed(case(asked={"actions": ("rows.*",)})).check == ""


def test_every_expectation_that_did_not_come_out_is_told() -> None:
    wanted = {"outcome": Outcome.ACTIVE, "reason": "NOT_ELIGIBLE", "steps": (1, 2), "check": "EXPIRED"}

    assert rehearsed(case(**wanted)).differences == (
        "expected ACTIVE, and it is PENDING",
        "expected the reason NOT_ELIGIBLE, and it is not refused",
        "expected steps 1, 2, and they are 1",
        "expected a check to answer EXPIRED, and it answers ALLOWED",
    )
    refused = rehearsed(case(dave(), asked={"subject": dave().principal}, **wanted)).differences
    assert refused[0].startswith("expected ACTIVE, and it is REFUSED (NOT_ELIGIBLE: ")
    assert refused[1:] == (
        "expected steps 1, 2, and they are none",
        "expected a check to answer EXPIRED, and it answers nothing",
    )
    met = {"outcome": Outcome.PENDING, "steps": (1,), "check": "ALLOWED"}
    assert rehearsed(case(**met)).differences == ()


def test_a_case_is_put_into_canonical_form() -> None:
    given = what_if.normalize(replace(case(asked={"subject": ""}), by=alice()))

    assert given.ask.subject == ALICE
    assert given.by == alice()


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"title": "x" * 257}, "display_name"),
        ({"by": caller("nobody")}, "principal"),
        ({"by": caller(ALICE, "")}, "groups"),
        ({"expected": Expected(check="MAYBE")}, "expect_check"),
        ({"expected": Expected(reason="MAYBE")}, "expect_reason"),
    ],
)
def test_a_case_that_makes_no_sense_is_refused(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidField) as refused:
        what_if.normalize(replace(case(), **changes))

    assert refused.value.field == field


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
