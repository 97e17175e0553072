"""Cases of policy tests: made-up requests, judged by a whole set of policies."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from jit_service.domain.caller import Caller
from jit_service.domain.checks import cases
from jit_service.domain.checks.cases import Case, CaseResult, Expected
from jit_service.domain.checks.decision import Reason
from jit_service.domain.checks.what_if import Outcome
from jit_service.domain.conditions.signal import NO_SIGNALS, Signals
from jit_service.domain.errors import InvalidField, PolicyNotFound
from jit_service.domain.policies.diff import PolicyDraft
from jit_service.domain.policies.policy import JustificationRule, Policy, PrincipalSet, Step
from tests.domain.factories import ALICE, DAVE, HOUR, NOON, alice, ask, caller, dave, deny_policy, policy, step

AT_ONCE = policy(steps=())
OTHER = policy(name="policies/a-first", steps=())
"""Covers the same, and its name comes first."""
CONTRACTOR = caller(ALICE, "engineering", "contractors")


def case(by: Caller | None = None, *, signals: Signals = NO_SIGNALS, asked: Any = None, **expected: Any) -> Case:
    return Case(
        title="reads",
        by=by or alice(),
        ask=ask(**(asked or {})),
        signals=signals,
        now=NOON,
        expected=Expected(**expected),
    )


def rehearsed(given: Case, tested: Policy | None = None, *others: Policy) -> CaseResult:
    tested = tested or policy()
    return cases.run_case(cases.normalize(given), [tested, *others], tested=tested.name)


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


def checked_by(condition: str, by: Caller | None = None, *, subject: str = ALICE) -> str:
    """What a check answers after a request for the subject, under a policy that has the condition for checks."""
    under = policy(steps=(), eligible=PrincipalSet(principals=(ALICE, DAVE)), check_condition=condition)
    asked = {"subject": subject, "context": {"ticket": "OPS-7"}}
    return rehearsed(case(by, asked=asked), under).check


@pytest.mark.parametrize(
    "condition",
    [
        'context.ticket == "OPS-7"',
        f'principal == "{ALICE}"',
        'groups == ["engineering"]',
        'context.source_ip == "192.0.2.7"',
    ],
)
def test_a_check_is_made_by_whoever_asks_in_the_case_from_where_it_asks(condition: str) -> None:
    assert checked_by(condition) == Reason.ALLOWED
    assert checked_by(f"!({condition})") == Reason.CONDITION_NOT_MET


def test_the_address_of_whoever_asks_is_not_that_of_another_subject() -> None:
    assert checked_by("has(context.source_ip)") == Reason.ALLOWED
    assert checked_by("has(context.source_ip)", subject=DAVE) == Reason.CONDITION_NOT_MET


def test_a_check_knows_the_groups_of_whoever_asked_and_of_nobody_else() -> None:
    """A policy that denies a group may deny another subject, whose groups nobody knows."""
    open_to_both = policy(steps=(), eligible=PrincipalSet(principals=(ALICE, DAVE)))
    denies_contractors = deny_policy(actions=("rows.delete",))
    wanted = {"actions": ("rows.delete",)}

    assert rehearsed(case(asked=wanted), open_to_both, denies_contractors).check == Reason.ALLOWED


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
    given = cases.normalize(replace(case(asked={"subject": ""}), by=alice()))

    assert given.ask.subject == ALICE
    assert given.by == alice()


def test_every_text_of_a_case_is_brought_to_canonical_form() -> None:
    def written(text: str) -> Case:
        by = caller(f"user:{text}@example.com", text)
        return replace(case(by, asked={"subject": by.principal}, policy="policies/orders"), title=text)

    assert cases.normalize(written("cafe\u0301")) == written("caf\u00e9")
    assert cases.normalize(case(policy="orders", field="ticket")) == case(
        policy="policies/orders", field="justification.ticket"
    )


def test_a_case_names_people_whose_letter_case_counts_as_they_are() -> None:
    dora = caller("user:Dora@example.com")
    given = case(dora, asked={"subject": dora.principal})

    assert cases.normalize(given, exact=("user:Dora",)) == given
    folded = cases.normalize(given)
    assert (folded.by.principal, folded.ask.subject) == ("user:dora@example.com",) * 2


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"title": "x" * 257}, "display_name"),
        ({"by": caller("nobody")}, "principal"),
        ({"by": caller(ALICE, "")}, "groups"),
        ({"expected": Expected(check="MAYBE")}, "expect_check"),
        ({"expected": Expected(reason="MAYBE")}, "expect_reason"),
        ({"expected": Expected(reason="TOO_MANY_ACTIVE")}, "expect_reason"),
        ({"expected": Expected(field="actions")}, "expect_field"),
        ({"expected": Expected(policy="policies/A")}, "expect_policy"),
    ],
)
def test_a_case_that_makes_no_sense_is_refused(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidField) as refused:
        cases.normalize(replace(case(), **changes))

    assert refused.value.field == field


def test_every_fault_of_a_case_is_told_at_once() -> None:
    wrong = replace(case(reason="MAYBE"), title="x" * 257, by=caller("nobody"))

    with pytest.raises(InvalidField) as refused:
        cases.normalize(wrong)

    assert [fault.field for fault in refused.value.each] == ["display_name", "principal", "expect_reason"]


def test_an_expectation_of_a_check_that_no_check_answers_is_told_all_answers() -> None:
    with pytest.raises(InvalidField) as refused:
        cases.normalize(case(check="MAYBE"))

    assert refused.value.message == f"expect_check: 'MAYBE' is none of {', '.join(Reason)}"


def test_a_draft_of_the_tested_policy_is_put_into_canonical_form() -> None:
    people = PrincipalSet(principals=("user:Dora@example.com",))
    written, canonical = policy(name="orders", eligible=people), policy(eligible=people)

    assert cases.draft_of(written, "policies/orders", exact=("user:Dora",)) == PolicyDraft(policy=canonical)
    folded = cases.draft_of(written, "policies/orders").policy.eligible
    assert folded == PrincipalSet(principals=("user:dora@example.com",))


def test_a_draft_of_another_policy_than_the_tested_one_is_refused() -> None:
    with pytest.raises(InvalidField) as refused:
        cases.draft_of(policy(), "policies/payroll")

    assert refused.value.message == "name: says policies/orders, and the call is about policies/payroll"


def test_a_reason_that_no_policy_gives_is_refused_with_those_that_can_come() -> None:
    with pytest.raises(InvalidField, match="NOT_ELIGIBLE, DENIED_BY_POLICY, CONDITION_NOT_MET, CONDITION_ERROR") as no:
        cases.normalize(case(reason="JUSTIFICATION_REQUIRED"))

    assert "TOO_MANY_ACTIVE" not in no.value.fault


def test_a_case_is_refused_where_another_policy_of_the_set_denies_it() -> None:
    result = rehearsed(case(CONTRACTOR, outcome=Outcome.ACTIVE), AT_ONCE, deny_policy())

    assert (result.judged.outcome, result.judged.reason) == (Outcome.REFUSED, "DENIED_BY_POLICY")
    assert result.judged.policy == "policies/no-contractors"
    assert len(result.differences) == 1


def test_a_case_of_a_deny_policy_is_refused_for_its_reason() -> None:
    """Also where nobody could ask for it anyway, as a request is answered."""
    assert rehearsed(case(CONTRACTOR), deny_policy()).judged.reason == "DENIED_BY_POLICY"


def test_that_another_policy_denies_it_can_be_expected_of_it() -> None:
    wanted = {"reason": "DENIED_BY_POLICY", "policy": "policies/no-contractors"}

    assert rehearsed(case(CONTRACTOR, reason="DENIED_BY_POLICY"), AT_ONCE, deny_policy()).differences == ()
    assert rehearsed(case(CONTRACTOR, **wanted), AT_ONCE, deny_policy()).differences == ()
    assert rehearsed(case(CONTRACTOR, **wanted), AT_ONCE, replace(deny_policy(), disabled=True)).differences != ()


def test_of_several_deny_policies_the_tested_one_must_deny_it_itself() -> None:
    both = deny_policy(name="policies/a-deny")
    idle = replace(deny_policy(), resources=("http/**",))

    assert rehearsed(case(CONTRACTOR, reason="DENIED_BY_POLICY"), deny_policy(), both, AT_ONCE).differences == ()
    assert rehearsed(case(CONTRACTOR, reason="DENIED_BY_POLICY"), idle, both, AT_ONCE).differences == (
        "policies/a-deny denies it, and policies/no-contractors does not",
    )


@pytest.mark.parametrize("first", ["policies/a-deny", "policies/no-contractors"])
@pytest.mark.parametrize("expected", ["", "policies/a-deny", "policies/no-contractors"])
def test_of_several_policies_that_deny_it_that_is_told_which_the_case_is_about(first: str, expected: str) -> None:
    """In whatever order the policies are given."""
    both = sorted((deny_policy(), deny_policy(name="policies/a-deny")), key=lambda given: given.name != first)

    result = cases.run_case(
        case(CONTRACTOR, reason="DENIED_BY_POLICY", policy=expected), both, tested="policies/no-contractors"
    )

    assert (result.judged.policy, result.differences) == (expected or "policies/no-contractors", ())


def test_a_case_of_a_deny_policy_may_show_whom_it_leaves_alone() -> None:
    assert rehearsed(case(outcome=Outcome.ACTIVE), deny_policy(), AT_ONCE).differences == ()


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (OTHER, "whose name comes later"),
        (policy(name="policies/z", steps=(), priority=1), "which has the priority 0, below 1"),
    ],
)
def test_that_another_policy_is_taken_for_it_is_told_with_why(other: Policy, why: str) -> None:
    result = rehearsed(case(outcome=Outcome.ACTIVE), AT_ONCE, other)

    assert result.judged.policy == other.name
    assert result.differences == (f"{other.name} is taken for it, and not policies/orders, {why}",)


def test_that_the_tested_policy_does_not_cover_what_another_gives_is_told() -> None:
    narrow = replace(AT_ONCE, actions=("write",))

    assert rehearsed(case(outcome=Outcome.ACTIVE), narrow, OTHER).differences == (
        "policies/a-first is taken for it, and not policies/orders, which does not let it be asked for",
    )


def test_a_case_may_expect_that_another_policy_is_taken() -> None:
    assert rehearsed(case(policy="a-first"), AT_ONCE, OTHER).differences == ()
    assert rehearsed(case(policy="policies/orders"), AT_ONCE, OTHER).differences == (
        "expected policies/orders to decide, and policies/a-first does",
    )
    assert rehearsed(case(dave(), asked={"subject": dave().principal}, policy="orders")).differences == (
        "expected policies/orders to decide, and no policy covers it",
    )


def test_a_case_that_names_its_policy_is_judged_by_that_one() -> None:
    result = rehearsed(case(asked={"policy": "policies/orders"}, outcome=Outcome.ACTIVE), AT_ONCE, OTHER)

    assert (result.judged.policy, result.differences) == ("policies/orders", ())
    assert rehearsed(case(asked={"policy": OTHER.name}), AT_ONCE, OTHER).differences == (
        "policies/a-first is taken for it, and not policies/orders, since the case names it",
    )


def test_a_check_of_a_case_is_answered_by_the_whole_set() -> None:
    later = replace(deny_policy(), eligible=PrincipalSet(groups=("contractors",)), actions=("rows.delete",))

    result = rehearsed(case(CONTRACTOR, asked={"actions": ("read",)}), AT_ONCE, later)

    assert (result.judged.outcome, result.check) == (Outcome.ACTIVE, Reason.ALLOWED)


def test_a_field_can_be_expected_of_a_refusal() -> None:
    must_say = replace(AT_ONCE, justification=JustificationRule(required=True))
    too_long = {"asked": {"duration": 5 * HOUR}}

    assert rehearsed(case(reason="INVALID_FIELD", field="justification"), must_say).differences == ()
    assert rehearsed(case(field="justification.text"), must_say).judged.field == "justification.text"
    assert rehearsed(case(field="duration", **too_long)).differences == ()
    assert rehearsed(case(field="ticket", **too_long)).differences == (
        "expected to be refused for justification.ticket, and it is refused for duration",
    )
    assert rehearsed(case(field="duration")).differences == (
        "expected to be refused for duration, and it is not refused",
    )
    assert rehearsed(case(dave(), asked={"subject": dave().principal}, field="duration")).differences == (
        "expected to be refused for duration, and it is refused by NOT_ELIGIBLE",
    )


def test_the_cases_of_a_policy_that_is_not_there_are_refused() -> None:
    made_up = [lambda now: cases.normalize(replace(case(), now=now))]

    assert len(cases.run_cases([policy()], "policies/orders", made_up, now=NOON + timedelta(days=1))) == 1
    for gone in ([], [replace(policy(), deleted_at=NOON)]):
        with pytest.raises(PolicyNotFound, match="there is no policies/orders") as no:
            cases.run_cases(gone, "policies/orders", made_up, now=NOON)
        assert no.value.metadata == {"policy": "policies/orders"}


def test_a_policy_is_tested_by_one_to_a_thousand_cases() -> None:
    def run(count: int) -> list[CaseResult]:
        return cases.run_cases([policy()], "policies/orders", [lambda _: case(dave())] * count, now=NOON)

    assert len(run(cases.MAX_CASES)) == cases.MAX_CASES == 1000
    for count in (0, 1001):
        with pytest.raises(InvalidField) as refused:
            run(count)
        assert refused.value.message == f"cases: has {count} cases; 1 to 1000 are allowed"
