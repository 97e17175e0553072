"""The form of a policy: what may be written down, and its defaults."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from jit_service.domain.errors import InvalidField
from jit_service.domain.policies.policy import (
    DEFAULT_REQUEST_TTL,
    BreakGlassRule,
    CommentRule,
    ExtensionRule,
    JustificationRule,
    Policy,
    PrincipalSet,
    Step,
    normalize,
    seconds,
)
from tests.domain.factories import ALICE, BOB, CAROL, DAVE, HOUR, NOON, TICK, deny_policy, policy, step

DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)
NOBODY = PrincipalSet()


def fault(act: Callable[[], object]) -> InvalidField:
    with pytest.raises(InvalidField) as raised:
        act()
    return raised.value


def many(form: str, count: int) -> tuple[str, ...]:
    return tuple(form.format(index) for index in range(count))


# Names and patterns


def test_a_policy_in_canonical_form_stays_as_it_is() -> None:
    whole = policy(
        display_name="Change orders",
        justification=JustificationRule(required=True, pattern=".+", ticket_required=True, ticket_pattern="[A-Z]+"),
        steps=(Step(approvers=PrincipalSet(principals=(BOB,)), display_name="Owner"), step("security", needed=20)),
        labels={"team": "orders"},
    )

    assert normalize(whole) == whole


def test_every_text_of_a_policy_is_brought_to_canonical_form() -> None:
    decomposed, composed = "e\u0301", "é"

    def written(text: str, *, name: str, patterns: tuple[str, ...]) -> Policy:
        people = PrincipalSet(principals=(f"user:{text}",), groups=(text,))
        return policy(
            name=name,
            display_name=text,
            eligible=people,
            resources=patterns,
            actions=(text,),
            steps=(Step(approvers=people, display_name=text),),
        )

    given = written(decomposed, name="orders", patterns=(f"db/{decomposed}", f"db/{composed}"))
    canonical = written(composed, name="policies/orders", patterns=(f"db/{composed}",))

    assert normalize(given) == canonical


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("name", {"name": "policies/Orders"}),
        ("display_name", {"display_name": "\x07"}),
        ("display_name", {"display_name": "x" * 257}),
        ("eligible", {"eligible": NOBODY}),
        ("eligible.principals[1]", {"eligible": PrincipalSet(principals=(ALICE, "bob"))}),
        ("eligible.groups[0]", {"eligible": PrincipalSet(groups=("a\u200bb",))}),
        ("eligible.principals", {"eligible": PrincipalSet(principals=many("user:u{}", 101))}),
        ("eligible.groups", {"eligible": PrincipalSet(groups=many("g{}", 101))}),
        ("resources", {"resources": ()}),
        ("resources[0]", {"resources": ("database/**/orders",)}),
        ("resources", {"resources": many("database/t{}", 101)}),
        ("actions", {"actions": ()}),
        ("actions[0]", {"actions": ("re*d",)}),
        ("actions", {"actions": many("a{}", 101)}),
        ("justification.pattern", {"justification": JustificationRule(pattern="(")}),
        ("justification.ticket_pattern", {"justification": JustificationRule(ticket_pattern="(?=x)")}),
        ("steps", {"steps": (step("owners"),) * 11}),
        ("steps[1].approvers", {"steps": (step("owners"), step())}),
        ("steps[0].approvers.groups[0]", {"steps": (step(""),)}),
        ("steps[0].display_name", {"steps": (Step(approvers=step("owners").approvers, display_name="x" * 257),)}),
        ("labels", {"labels": {"Team": "orders"}}),
        ("request_condition", {"request_condition": "subject =="}),
        ("check_condition", {"check_condition": "nobody == 1"}),
        ("check_condition", {"check_condition": "1 + 1"}),
        ("steps[0].condition", {"steps": (Step(approvers=step("owners").approvers, condition="x("),)}),
    ],
)
def test_a_malformed_field_is_named(field: str, changes: dict[str, object]) -> None:
    assert fault(lambda: normalize(policy(**changes))).field == field


def test_the_most_that_is_allowed_is_allowed() -> None:
    full = policy(
        display_name="x" * 256,
        eligible=PrincipalSet(principals=many("user:u{}", 100), groups=many("g{}", 100)),
        resources=many("database/t{}", 100),
        actions=many("a{}", 100),
        steps=(step("owners"),) * 10,
    )

    assert normalize(full) == full


def test_too_many_entries_are_counted_in_the_message() -> None:
    assert (
        fault(lambda: normalize(policy(actions=many("a{}", 101)))).fault == "has 101 entries; at most 100 are allowed"
    )
    assert fault(lambda: normalize(policy(actions=()))).fault == "is required; give 1 to 100"


def test_a_refused_policy_is_told_what_is_and_what_is_allowed() -> None:
    def message(written: Policy) -> str:
        return fault(lambda: normalize(written)).message

    assert message(policy(eligible=NOBODY)) == "eligible: names nobody; give principals or groups"
    assert message(policy(steps=(step("owners", needed=21),))) == (
        "steps[0].approvals_needed: is 21; 1 to 20 are allowed"
    )
    assert message(policy(max_uses=-1)) == "max_uses: is -1; 0 to 1000000 are allowed"
    assert message(policy(extension=ExtensionRule(max_extensions=0, max_total_duration=DAY))) == (
        "extension.max_extensions: is 0; 1 to 100 are allowed"
    )
    assert message(policy(steps=(escalating(timedelta()),))) == (
        "steps[0].timeout: is required with escalate_to: it says when the step escalates"
    )
    assert message(deny_policy(max_duration=HOUR)) == (
        "max_duration: must be empty in a deny policy, which nobody asks under"
    )
    assert message(deny_policy(justification=JustificationRule(required=True))) == (
        "justification: must be empty in a deny policy, which nobody asks under"
    )


# Durations


def test_the_longest_duration_is_above_zero_and_at_most_thirty_days() -> None:
    def longest(value: timedelta) -> timedelta:
        return normalize(policy(max_duration=value, default_duration=timedelta())).max_duration

    assert longest(TICK) == TICK
    assert longest(30 * DAY) == 30 * DAY
    assert fault(lambda: longest(timedelta())).field == "max_duration"
    assert fault(lambda: longest(-TICK)).field == "max_duration"
    assert fault(lambda: longest(30 * DAY + TICK)).field == "max_duration"


def test_durations_are_not_judged_by_a_longest_one_that_is_out_of_bounds() -> None:
    wrong = policy(max_duration=31 * DAY, min_duration=40 * DAY, default_duration=50 * DAY)

    assert [one.field for one in fault(lambda: normalize(wrong)).each] == ["max_duration"]


def test_the_shortest_duration_is_at_most_the_longest() -> None:
    def shortest(value: timedelta) -> timedelta:
        return normalize(policy(min_duration=value, max_duration=HOUR, default_duration=HOUR)).min_duration

    assert shortest(timedelta()) == timedelta()
    assert shortest(HOUR) == HOUR
    assert fault(lambda: shortest(HOUR + TICK)).field == "min_duration"
    assert fault(lambda: shortest(-TICK)).field == "min_duration"


def test_the_default_duration_is_within_the_policys_own_bounds() -> None:
    def default(value: timedelta) -> timedelta:
        return normalize(policy(min_duration=HOUR, max_duration=2 * HOUR, default_duration=value)).default_duration

    assert default(HOUR) == HOUR
    assert default(2 * HOUR) == 2 * HOUR
    assert fault(lambda: default(HOUR - TICK)).field == "default_duration"
    assert fault(lambda: default(2 * HOUR + TICK)).field == "default_duration"


def test_a_negative_default_duration_is_refused() -> None:
    assert fault(lambda: normalize(policy(default_duration=-TICK))).field == "default_duration"


def test_a_default_duration_that_is_not_set_stays_so() -> None:
    """One filled in at the write would contradict a later change of the longest."""
    assert normalize(policy(min_duration=HOUR, default_duration=timedelta())).default_duration == timedelta()


def test_a_duration_out_of_bounds_is_named_in_seconds() -> None:
    assert fault(lambda: normalize(policy(max_duration=30 * DAY + SECOND / 2))).message == (
        "max_duration: is 2592000.5s; 0.000001s to 2592000s is allowed"
    )


@pytest.mark.parametrize(
    ("span", "written"),
    [(timedelta(), "0s"), (10 * SECOND, "10s"), (TICK, "0.000001s"), (-SECOND / 2, "-0.5s"), (30 * DAY, "2592000s")],
)
def test_seconds_are_written_as_in_proto3_json(span: timedelta, written: str) -> None:
    assert seconds(span) == written


def test_a_request_may_wait_between_one_second_and_thirty_days() -> None:
    def ttl(value: timedelta) -> timedelta:
        return normalize(policy(request_ttl=value)).request_ttl

    assert ttl(SECOND) == SECOND
    assert ttl(30 * DAY) == 30 * DAY
    assert fault(lambda: ttl(SECOND - TICK)).field == "request_ttl"
    assert fault(lambda: ttl(30 * DAY + TICK)).field == "request_ttl"
    assert fault(lambda: ttl(-SECOND)).field == "request_ttl"


def test_no_request_ttl_means_a_day() -> None:
    assert normalize(policy(request_ttl=timedelta())).request_ttl == DAY


# Steps


def test_a_step_needs_one_to_twenty_approvals() -> None:
    def needed(count: int) -> int:
        return normalize(policy(steps=(step("owners", needed=count),))).steps[0].approvals_needed

    assert (needed(1), needed(20)) == (1, 20)
    assert fault(lambda: needed(0)).field == "steps[0].approvals_needed"
    assert fault(lambda: needed(-1)).field == "steps[0].approvals_needed"
    assert fault(lambda: needed(21)).field == "steps[0].approvals_needed"


def test_a_step_needs_no_more_approvals_than_it_names_principals() -> None:
    def two_of(*names: str) -> Policy:
        return normalize(policy(steps=(step(principals=names, needed=2),)))

    assert two_of(BOB, CAROL).steps[0].approvals_needed == 2
    assert fault(lambda: two_of(BOB)).field == "steps[0].approvals_needed"


def test_people_are_named_in_the_one_letter_case_that_they_have() -> None:
    people = PrincipalSet(principals=("user:Alice@Example.com", "user:Bob"))
    given = policy(eligible=people, steps=(step(principals=("user:Bob@example.com",)),))

    assert normalize(given).eligible.principals == (ALICE, "user:Bob")
    assert normalize(given).steps[0].approvers.principals == (BOB,)
    assert normalize(given, exact=("user:",)).eligible == people


def test_a_principal_named_twice_is_one_approver() -> None:
    def two_of(*names: str) -> Policy:
        return normalize(policy(steps=(step(principals=names, needed=2),)))

    assert fault(lambda: two_of(BOB, BOB)).fault == "is 2, and only 1 approvers are named"
    assert fault(lambda: two_of(BOB, "user:Bob@example.com")).fault == "is 2, and only 1 approvers are named"
    assert fault(lambda: two_of("user:bob", "user:Bob")).fault == "is 2, and only 1 approvers are named"


def test_a_step_with_a_group_may_need_more_approvals_than_it_names_principals() -> None:
    under = policy(steps=(step("owners", principals=(BOB,), needed=2),))

    assert normalize(under) == under


# Timeouts and escalation


def escalating(timeout: timedelta = HOUR, **changes: Any) -> Step:
    facts: dict[str, Any] = {
        "approvers": PrincipalSet(principals=(BOB,)),
        "timeout": timeout,
        "escalate_to": PrincipalSet(groups=("leads",)),
    }
    return Step(**(facts | changes))


def test_a_step_takes_between_one_second_and_thirty_days() -> None:
    def timeout(value: timedelta) -> timedelta:
        return normalize(policy(steps=(escalating(value),))).steps[0].timeout

    assert (timeout(SECOND), timeout(30 * DAY)) == (SECOND, 30 * DAY)
    for wrong in (SECOND - TICK, 30 * DAY + TICK, -SECOND):
        assert fault(lambda wrong=wrong: timeout(wrong)).field == "steps[0].timeout"  # type: ignore[misc]


def test_an_escalation_needs_a_timeout_and_a_timeout_no_escalation() -> None:
    assert fault(lambda: normalize(policy(steps=(escalating(timedelta()),)))).field == "steps[0].timeout"
    assert normalize(policy(steps=(escalating(escalate_to=None),))).steps[0].escalate_to is None


def test_an_escalation_is_to_somebody_by_a_proper_name() -> None:
    def wrong(people: PrincipalSet) -> str:
        return fault(lambda: normalize(policy(steps=(escalating(escalate_to=people),)))).field

    assert wrong(NOBODY) == "steps[0].escalate_to"
    assert wrong(PrincipalSet(principals=("bob",))) == "steps[0].escalate_to.principals[0]"


def test_whom_a_step_escalates_to_is_brought_to_canonical_form() -> None:
    decomposed = PrincipalSet(principals=("user:e\u0301",), groups=("e\u0301",))

    (kept,) = normalize(policy(steps=(escalating(escalate_to=decomposed),))).steps

    assert kept.escalate_to == PrincipalSet(principals=("user:é",), groups=("é",))


def test_who_a_step_escalates_to_counts_among_those_named() -> None:
    def two_of(*names: str) -> Policy:
        return normalize(policy(steps=(escalating(approvals_needed=2, escalate_to=PrincipalSet(principals=names)),)))

    assert two_of(CAROL).steps[0].deciders.principals == (BOB, CAROL)
    assert fault(lambda: two_of("user:BOB@example.com")).field == "steps[0].approvals_needed"


def test_a_step_takes_one_to_twenty_denials_and_no_more_than_it_names() -> None:
    def denials(count: int, *names: str) -> str:
        people = PrincipalSet(principals=names, groups=() if names else ("owners",))
        return fault(lambda: normalize(policy(steps=(Step(approvers=people, denials_needed=count),)))).field

    assert denials(0) == denials(21) == denials(2, BOB) == "steps[0].denials_needed"
    assert normalize(policy(steps=(Step(approvers=PrincipalSet(groups=("owners",)), denials_needed=20),)))


def test_an_escalated_step_has_both_its_approvers() -> None:
    waiting = escalating()

    assert waiting.has(BOB, (), escalated=False)
    assert waiting.has(BOB, (), escalated=True)
    assert waiting.has(CAROL, ("leads",), escalated=True)
    assert not waiting.has(CAROL, ("leads",), escalated=False)
    assert not step("owners").has(CAROL, ("leads",), escalated=True)


# Limits, extension, break-glass, comments


@pytest.mark.parametrize("field", ["activation_window", "idle_timeout"])
def test_a_limit_of_time_is_none_or_between_one_second_and_thirty_days(field: str) -> None:
    for fine in (timedelta(), SECOND, 30 * DAY):
        assert getattr(normalize(policy(**{field: fine})), field) == fine
    for wrong in (SECOND - TICK, 30 * DAY + TICK, -SECOND):
        assert fault(lambda wrong=wrong: normalize(policy(**{field: wrong}))).field == field  # type: ignore[misc]


@pytest.mark.parametrize(
    ("field", "most"), [("max_uses", 1_000_000), ("max_child_depth", 5), ("max_active_per_subject", 1000)]
)
def test_a_count_has_bounds(field: str, most: int) -> None:
    for fine in (0, 1, most):
        assert getattr(normalize(policy(**{field: fine})), field) == fine
    for wrong in (-1, most + 1):
        assert fault(lambda wrong=wrong: normalize(policy(**{field: wrong}))).field == field  # type: ignore[misc]


def test_a_grant_is_extended_one_to_a_hundred_times() -> None:
    def times(count: int) -> Policy:
        return normalize(policy(extension=ExtensionRule(max_extensions=count, max_total_duration=DAY)))

    assert (times(1).extension, times(100).extension) != (None, None)
    assert fault(lambda: times(0)).field == fault(lambda: times(101)).field == "extension.max_extensions"


def test_a_grant_with_its_extensions_lasts_from_the_longest_duration_to_thirty_days() -> None:
    def lasting(most: timedelta) -> Policy:
        rule = ExtensionRule(max_extensions=1, max_total_duration=most)
        return normalize(policy(max_duration=4 * HOUR, extension=rule))

    assert (lasting(4 * HOUR).extension, lasting(30 * DAY).extension) != (None, None)
    for wrong in (4 * HOUR - TICK, 30 * DAY + TICK):
        assert fault(lambda wrong=wrong: lasting(wrong)).field == "extension.max_total_duration"  # type: ignore[misc]


def emergencies(**changes: Any) -> Policy:
    facts: dict[str, Any] = {
        "eligible": PrincipalSet(groups=("on-call",)),
        "max_duration": HOUR,
        "review_within": DAY,
    }
    return policy(break_glass=BreakGlassRule(**(facts | changes)))


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("eligible", {"eligible": NOBODY}),
        ("eligible.principals[0]", {"eligible": PrincipalSet(principals=("bob",))}),
        ("max_duration", {"max_duration": timedelta()}),
        ("max_duration", {"max_duration": 30 * DAY + TICK}),
        ("review_within", {"review_within": SECOND - TICK}),
        ("review_within", {"review_within": 30 * DAY + TICK}),
    ],
)
def test_an_emergency_rule_has_bounds(field: str, changes: dict[str, Any]) -> None:
    assert fault(lambda: normalize(emergencies(**changes))).field == f"break_glass.{field}"


def test_an_emergency_rule_within_its_bounds_stays_as_it_is() -> None:
    for under in (emergencies(), emergencies(max_duration=TICK, review_within=SECOND)):
        assert normalize(under) == under


def test_who_may_break_the_glass_may_read_the_policy() -> None:
    assert emergencies().concerns(DAVE, {"on-call"})
    assert not policy().concerns(DAVE, {"on-call"})


def test_a_comment_pattern_is_an_expression() -> None:
    assert normalize(policy(review_comment=CommentRule(pattern="[A-Z]+"))).review_comment.pattern == "[A-Z]+"
    assert fault(lambda: normalize(policy(review_comment=CommentRule(pattern="(")))).field == "review_comment.pattern"


# Deny policies


def test_a_deny_policy_in_canonical_form_stays_as_it_is() -> None:
    forbidding = deny_policy(priority=7, disabled=True, labels={"team": "security"}, request_ttl=DEFAULT_REQUEST_TTL)

    assert normalize(forbidding) == forbidding


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("min_duration", {"min_duration": TICK}),
        ("max_duration", {"max_duration": TICK}),
        ("default_duration", {"default_duration": TICK}),
        ("steps", {"steps": (step("owners"),)}),
        ("allow_self_approval", {"allow_self_approval": True}),
        ("justification", {"justification": JustificationRule(required=True)}),
        ("activation_window", {"activation_window": HOUR}),
        ("idle_timeout", {"idle_timeout": HOUR}),
        ("max_uses", {"max_uses": 1}),
        ("max_active_per_subject", {"max_active_per_subject": 1}),
        ("max_child_depth", {"max_child_depth": 1}),
        ("extension", {"extension": ExtensionRule(max_extensions=1, max_total_duration=HOUR)}),
        (
            "break_glass",
            {
                "break_glass": BreakGlassRule(
                    eligible=PrincipalSet(groups=("on-call",)), max_duration=HOUR, review_within=DAY
                )
            },
        ),
        ("review_comment", {"review_comment": CommentRule(required_to_deny=True)}),
        ("request_condition", {"request_condition": "true"}),
        ("check_condition", {"check_condition": "true"}),
        ("eligible", {"eligible": NOBODY}),
    ],
)
def test_a_deny_policy_says_nothing_about_asking(field: str, changes: dict[str, object]) -> None:
    assert fault(lambda: normalize(deny_policy(**changes))).field == field


def test_a_deny_policy_has_no_request_ttl_of_its_own() -> None:
    assert normalize(deny_policy(request_ttl=HOUR)).request_ttl == DEFAULT_REQUEST_TTL


# What a policy answers


def test_a_policy_is_in_force_unless_disabled_or_deleted() -> None:
    assert policy().in_force
    assert not policy(disabled=True).in_force
    assert not policy(deleted_at=NOON).in_force


def test_a_set_has_whom_it_names_and_whose_group_it_names() -> None:
    people = PrincipalSet(principals=(ALICE,), groups=("owners",))

    assert people.has(ALICE, ())
    assert people.has(BOB, ("engineering", "owners"))
    assert not people.has(BOB, ("engineering",))
    assert not people.has(BOB, ())


def test_a_group_is_no_principal_and_a_principal_no_group() -> None:
    people = PrincipalSet(principals=("user:owners",), groups=(ALICE,))

    assert not people.has(ALICE, ("user:owners",))


def test_a_policy_concerns_whoever_may_ask_or_review() -> None:
    under = policy(steps=(step("owners"), step("security")))

    assert under.concerns(ALICE, {"engineering"})
    assert under.concerns(BOB, {"owners"})
    assert under.concerns(CAROL, {"security"})
    assert not under.concerns(DAVE, {"sales"})


def test_reviewers_are_the_approvers_of_any_step() -> None:
    under = policy(steps=(step("owners"), step("security")))

    assert under.has_reviewer(BOB, {"owners"})
    assert under.has_reviewer(CAROL, {"security"})
    assert not under.has_reviewer(ALICE, {"engineering"})


def test_a_policy_covers_only_all_of_the_resources_and_all_of_the_actions() -> None:
    under = policy(resources=("database/a/**", "database/b/*"), actions=("read", "rows.*"))

    assert under.covers(("database/a/x/y", "database/b/x"), ("read", "rows.create"))
    assert not under.covers(("database/a/x", "database/b/x/y"), ("read",))
    assert not under.covers(("database/a/x",), ("read", "rows"))


def test_a_policy_concerns_those_whom_it_names_themselves() -> None:
    of_alice = PrincipalSet(principals=(ALICE,))
    asked, reviewed = policy(eligible=of_alice), policy(steps=(step(principals=(ALICE,)),))
    in_emergency = emergencies(eligible=of_alice)

    for under in (asked, reviewed, in_emergency):
        assert under.concerns(ALICE, ())
        assert not under.concerns(BOB, ())


def test_who_a_step_escalates_to_by_name_decides_it_then() -> None:
    waiting = escalating(escalate_to=PrincipalSet(principals=(CAROL,)))

    assert waiting.has(CAROL, (), escalated=True)
    assert not waiting.has(CAROL, (), escalated=False)
    assert not waiting.has(DAVE, (), escalated=True)


def test_a_deny_policy_forbids_no_delegation_which_is_about_asking() -> None:
    with pytest.raises(InvalidField) as refused:
        normalize(deny_policy(forbid_delegation=True))

    assert refused.value.field == "forbid_delegation"
