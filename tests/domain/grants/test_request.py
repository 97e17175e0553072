"""Judging a request: canonical form, the policy it falls under, eligibility, denies, bounds, and judging it again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from jit_service.domain.caller import LEFT_OUT, Caller
from jit_service.domain.checks.decision import Question
from jit_service.domain.checks.policy_set import PolicySet
from jit_service.domain.errors import DeniedByPolicy, InvalidField, JitError, NotEligible, PolicyNoLongerAllows
from jit_service.domain.grants import request
from jit_service.domain.grants.grant import Grant, Justification
from jit_service.domain.grants.request import Ask
from jit_service.domain.policies.policy import BreakGlassRule, JustificationRule, Policy, PrincipalSet
from tests.domain.factories import (
    ALICE,
    BOB,
    BOT,
    DAVE,
    HOUR,
    NOON,
    TICK,
    alice,
    ask,
    bob,
    caller,
    dave,
    deny_policy,
    pending,
    policy,
    step,
)

DAY = timedelta(days=1)
JUSTIFIED = policy(justification=JustificationRule(required=True, pattern="fix .*"))
TICKETED = policy(justification=JustificationRule(ticket_required=True, ticket_pattern="[A-Z]+-[0-9]+"))


def judged(wanted: Ask | None = None, *policies: Policy, by: Caller | None = None) -> Grant:
    return request.judge_request(
        wanted or ask(), policies=policies or [policy()], by=by or alice(), grant_name="grants/g7", now=NOON
    )


def fault(act: Callable[[], object]) -> InvalidField:
    with pytest.raises(InvalidField) as raised:
        act()
    return raised.value


def refused(fact: type[JitError], act: Callable[[], object]) -> JitError:
    with pytest.raises(fact) as raised:
        act()
    return raised.value


# The form of an ask


def test_an_ask_in_canonical_form_stays_as_it_is() -> None:
    whole = ask(
        policy="policies/orders",
        duration=HOUR,
        start_at=NOON + HOUR,
        justification=Justification(text="fix the totals", ticket="OPS-7"),
        labels={"team": "orders"},
    )

    assert request.normalize(whole, now=NOON) == whole


def test_every_text_of_an_ask_is_brought_to_canonical_form() -> None:
    decomposed, composed = "e\u0301", "é"

    checked = request.normalize(
        ask(
            subject=f"user:{decomposed}",
            resources=(f"database/{decomposed}", f"database/{composed}"),
            actions=(decomposed, "read", "read"),
            policy="orders",
            justification=Justification(text=decomposed, ticket=decomposed),
        ),
        now=NOON,
    )

    assert checked == ask(
        subject=f"user:{composed}",
        resources=(f"database/{composed}",),
        actions=(composed, "read"),
        policy="policies/orders",
        justification=Justification(text=composed, ticket=composed),
    )


def test_a_duration_is_above_zero() -> None:
    assert request.normalize(ask(duration=TICK), now=NOON).duration == TICK
    assert fault(lambda: request.normalize(ask(duration=timedelta()), now=NOON)).field == "duration"
    assert fault(lambda: request.normalize(ask(duration=-TICK), now=NOON)).field == "duration"


def test_a_duration_is_at_most_thirty_days() -> None:
    assert request.normalize(ask(duration=30 * DAY), now=NOON).duration == 30 * DAY
    assert fault(lambda: request.normalize(ask(duration=30 * DAY + TICK), now=NOON)).field == "duration"


def test_uses_are_as_many_as_the_policy_gives_or_up_to_a_million() -> None:
    assert [request.normalize(ask(max_uses=uses), now=NOON).max_uses for uses in (0, 1, 1_000_000)] == [0, 1, 1_000_000]
    assert fault(lambda: request.normalize(ask(max_uses=-1), now=NOON)).field == "max_uses"
    assert fault(lambda: request.normalize(ask(max_uses=1_000_001), now=NOON)).field == "max_uses"


def test_a_start_is_not_in_the_past() -> None:
    assert request.normalize(ask(start_at=NOON), now=NOON).start_at == NOON
    assert fault(lambda: request.normalize(ask(start_at=NOON - TICK), now=NOON)).field == "start_time"


def test_a_start_is_at_most_thirty_days_ahead() -> None:
    assert request.normalize(ask(start_at=NOON + 30 * DAY), now=NOON).start_at == NOON + 30 * DAY
    assert fault(lambda: request.normalize(ask(start_at=NOON + 30 * DAY + TICK), now=NOON)).field == "start_time"


def test_a_refused_ask_is_told_what_is_and_what_is_allowed() -> None:
    too_long = fault(lambda: request.normalize(ask(duration=31 * DAY), now=NOON))
    too_early = fault(lambda: request.normalize(ask(start_at=NOON - HOUR), now=NOON))

    assert too_long.message == "duration: is 2678400s; it must be above 0s and at most 2592000s"
    assert too_early.message == ("start_time: is 2026-03-02T11:00:00+00:00; it must be from now to 30 days ahead")


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("subject", {"subject": ""}),
        ("resources", {"resources": ()}),
        ("resources[1]", {"resources": ("database/a", "database/../b")}),
        ("actions", {"actions": ()}),
        ("actions[0]", {"actions": ("rows..create",)}),
        ("policy", {"policy": "policies/Orders"}),
        ("justification.text", {"justification": Justification(text="\x1b[2J")}),
        ("justification.ticket", {"justification": Justification(ticket="\x00")}),
        ("labels", {"labels": {"Team": "orders"}}),
        ("parent", {"parent": "policies/orders"}),
    ],
)
def test_a_malformed_field_is_named(field: str, changes: dict[str, object]) -> None:
    assert fault(lambda: request.normalize(ask(**changes), now=NOON)).field == field


def test_a_ticket_has_at_most_256_characters() -> None:
    longest = Justification(ticket="A" * 256)

    assert request.normalize(ask(justification=longest), now=NOON).justification == longest
    assert (
        fault(lambda: request.normalize(ask(justification=Justification(ticket="A" * 257)), now=NOON)).field
        == "justification.ticket"
    )


# What a request becomes


def test_a_request_becomes_a_grant_with_the_policys_terms() -> None:
    wanted = ask(
        duration=2 * HOUR,
        start_at=NOON + HOUR,
        justification=Justification(text="fix the totals"),
        labels={"team": "orders"},
    )

    grant = judged(wanted)

    assert grant == Grant(
        name="grants/g7",
        requester=ALICE,
        requester_groups=frozenset({"engineering"}),
        subject=ALICE,
        policy="policies/orders",
        policy_revision=3,
        steps=policy().steps,
        resources=("database/orders/eu",),
        actions=("read",),
        duration=2 * HOUR,
        justification=Justification(text="fix the totals"),
        created_at=NOON,
        request_expires_at=NOON + 8 * HOUR,
        request_ttl=8 * HOUR,
        labels={"team": "orders"},
        start_at=NOON + HOUR,
        source_address="192.0.2.7",
    )


def test_no_duration_takes_the_policys_default() -> None:
    assert judged(ask(), policy(default_duration=2 * HOUR)).duration == 2 * HOUR


def test_no_duration_under_a_policy_without_a_default_takes_the_longest() -> None:
    assert judged(ask(), policy(default_duration=timedelta())).duration == 4 * HOUR


def test_a_duration_is_at_most_the_policys() -> None:
    assert judged(ask(duration=4 * HOUR)).duration == 4 * HOUR
    assert fault(lambda: judged(ask(duration=4 * HOUR + TICK))).field == "duration"


def test_a_duration_is_at_least_the_policys() -> None:
    under = policy(min_duration=HOUR)

    assert judged(ask(duration=HOUR), under).duration == HOUR
    assert fault(lambda: judged(ask(duration=HOUR - TICK), under)).field == "duration"


def test_a_refused_duration_is_told_the_bounds() -> None:
    assert fault(lambda: judged(ask(duration=5 * HOUR))).message == (
        "duration: is 18000s; policies/orders allows 0s to 14400s"
    )
    assert fault(lambda: judged(ask(duration=5 * HOUR), policy(min_duration=HOUR))).message == (
        "duration: is 18000s; policies/orders allows 3600s to 14400s"
    )


# Justification


def test_a_required_justification_must_say_something() -> None:
    assert judged(ask(justification=Justification(text="fix it")), JUSTIFIED)
    assert fault(lambda: judged(ask(), JUSTIFIED)).field == "justification.text"


def test_white_space_is_no_justification() -> None:
    anything = policy(justification=JustificationRule(required=True))

    assert judged(ask(justification=Justification(text="x")), anything)
    assert fault(lambda: judged(ask(justification=Justification(text=" \n")), anything)).field == "justification.text"


def test_a_required_ticket_must_be_given() -> None:
    assert judged(ask(justification=Justification(ticket="OPS-7")), TICKETED)
    assert fault(lambda: judged(ask(justification=Justification(text="OPS-7")), TICKETED)).field == (
        "justification.ticket"
    )


def test_a_pattern_binds_the_whole_text() -> None:
    assert fault(lambda: judged(ask(justification=Justification(text="please fix it")), JUSTIFIED)).field == (
        "justification.text"
    )
    assert fault(lambda: judged(ask(justification=Justification(ticket="OPS-7x")), TICKETED)).field == (
        "justification.ticket"
    )


def test_a_text_that_does_not_match_is_told_the_pattern() -> None:
    assert fault(lambda: judged(ask(justification=Justification(text="please")), JUSTIFIED)).message == (
        "justification.text: does not match fix .* from its first character to its last, as policies/orders asks for"
    )


def test_a_pattern_binds_what_is_said_where_nothing_must_be() -> None:
    optional = policy(justification=JustificationRule(ticket_pattern="[A-Z]+-[0-9]+"))

    assert judged(ask(), optional)
    assert fault(lambda: judged(ask(justification=Justification(ticket="soon")), optional)).field == (
        "justification.ticket"
    )


# The policy that a request falls under


def test_a_request_that_names_no_policy_gets_the_highest_priority() -> None:
    low, high = policy(name="policies/a", priority=1), policy(name="policies/b", priority=2)

    assert judged(ask(), low, high).policy == "policies/b"
    assert judged(ask(), high, low).policy == "policies/b"


def test_among_equal_priorities_the_first_name_wins() -> None:
    a, b = policy(name="policies/a"), policy(name="policies/b")

    assert judged(ask(), b, a).policy == "policies/a"


def test_a_better_policy_that_does_not_cover_the_request_is_passed_over() -> None:
    other = policy(name="policies/a", priority=9, resources=("database/users/**",))

    assert judged(ask(), other, policy()).policy == "policies/orders"


def test_a_better_policy_that_is_for_others_is_passed_over() -> None:
    other = policy(name="policies/a", priority=9, eligible=PrincipalSet(groups=("security",)))

    assert judged(ask(), other, policy()).policy == "policies/orders"


def test_a_named_policy_is_the_only_one_looked_at() -> None:
    better = policy(name="policies/a", priority=9)

    assert judged(ask(policy="policies/orders"), better, policy()).policy == "policies/orders"
    refused(NotEligible, lambda: judged(ask(policy="policies/unknown"), better, policy()))


def test_one_policy_covers_all_resources_and_actions_of_a_request() -> None:
    reads = policy(name="policies/reads", resources=("database/a/**",), actions=("read",))
    writes = policy(name="policies/writes", resources=("database/b/**",), actions=("write",))

    refused(NotEligible, lambda: judged(ask(resources=("database/a/x", "database/b/x")), reads, writes))
    refused(NotEligible, lambda: judged(ask(resources=("database/a/x",), actions=("read", "write")), reads, writes))
    assert judged(ask(resources=("database/a/x", "database/a/y")), reads, writes).policy == "policies/reads"


def test_a_request_for_a_pattern_must_be_within_the_policys() -> None:
    narrow = policy(resources=("database/orders/*",))

    assert judged(ask(resources=("database/orders/*",)), narrow)
    refused(NotEligible, lambda: judged(ask(resources=("database/orders/**",)), narrow))
    refused(NotEligible, lambda: judged(ask(actions=("**",)), narrow))


def test_a_policy_not_in_force_gives_nothing() -> None:
    refused(NotEligible, lambda: judged(ask(), policy(disabled=True)))
    refused(NotEligible, lambda: judged(ask(), policy(deleted_at=NOON)))


def test_a_deny_policy_gives_nothing() -> None:
    forbidding = deny_policy(eligible=PrincipalSet(groups=("engineering",)), resources=("http/**",))

    refused(NotEligible, lambda: judged(ask(resources=("http/x",)), forbidding))


# Who may ask


def test_one_asks_by_a_group_or_by_name() -> None:
    by_name = policy(eligible=PrincipalSet(principals=(DAVE,)))

    assert judged(ask(subject=DAVE), by_name, by=dave())
    assert judged(ask())
    refused(NotEligible, lambda: judged(ask(subject=DAVE), by=dave()))
    refused(NotEligible, lambda: judged(ask(), by_name))


def test_eligible_names_compare_letter_by_letter() -> None:
    by_name = policy(eligible=PrincipalSet(principals=("user:Alice@example.com",), groups=("Engineering",)))

    refused(NotEligible, lambda: judged(ask(), by_name))


def test_asking_for_another_needs_the_others_name_in_the_policy() -> None:
    with_bot = policy(eligible=PrincipalSet(principals=(BOT,), groups=("engineering",)))

    grant = judged(ask(subject=BOT), with_bot)

    assert (grant.requester, grant.subject) == (ALICE, BOT)
    refused(NotEligible, lambda: judged(ask(subject=BOB), with_bot))


def test_asking_for_another_needs_an_eligible_requester() -> None:
    with_bot = policy(eligible=PrincipalSet(principals=(BOT,), groups=("engineering",)))

    refused(NotEligible, lambda: judged(ask(subject=BOT), with_bot, by=dave()))


def test_the_requesters_groups_are_the_subjects_only_where_they_are_one() -> None:
    with_bot = policy(eligible=PrincipalSet(principals=(BOT,), groups=("engineering",)))

    assert judged(ask()).subject_groups == frozenset({"engineering"})
    assert judged(ask(subject=BOT), with_bot).subject_groups is None


def test_a_refusal_names_who_asks_for_what_for_whom() -> None:
    two = ask(subject=BOT, actions=("read", "write"), resources=("database/a", "database/b"))

    assert refused(NotEligible, lambda: judged(two)).message == (
        f"no policy lets {ALICE} ask for read, write on database/a, database/b for {BOT}"
    )
    error = refused(NotEligible, lambda: judged(ask(policy="policies/x")))
    assert error.message == f"policies/x does not let {ALICE} ask for read on database/orders/eu for {ALICE}"
    assert error.metadata == {"policy": "policies/x"}


# Deny policies


def test_a_deny_beats_whatever_would_give_the_access() -> None:
    contractor = caller(ALICE, "engineering", "contractors")

    error = refused(DeniedByPolicy, lambda: judged(ask(), policy(priority=99), deny_policy(), by=contractor))

    assert error.metadata == {"policy": "policies/no-contractors"}
    assert error.message == f"policies/no-contractors denies {ALICE} read on database/orders/eu"


def test_a_deny_is_not_for_others() -> None:
    assert judged(ask(), policy(), deny_policy())


def test_a_deny_of_one_of_several_things_refuses_them_all() -> None:
    forbidding = deny_policy(
        eligible=PrincipalSet(principals=(ALICE,)), resources=("database/orders/us",), actions=("rows.create",)
    )
    both = ask(resources=("database/orders/eu", "database/orders/us"), actions=("read", "rows.create"))

    refused(DeniedByPolicy, lambda: judged(both, policy(), forbidding))
    assert judged(replace(both, actions=("read",)), policy(), forbidding)
    assert judged(replace(both, resources=("database/orders/eu",)), policy(), forbidding)


def test_a_deny_not_in_force_denies_nothing() -> None:
    contractor = caller(ALICE, "engineering", "contractors")

    assert judged(ask(), policy(), deny_policy(disabled=True), by=contractor)
    assert judged(ask(), policy(), deny_policy(deleted_at=NOON), by=contractor)


def test_a_deny_for_any_group_applies_to_a_subject_whose_groups_nobody_proved() -> None:
    with_bot = policy(eligible=PrincipalSet(principals=(BOT,), groups=("engineering",)))

    refused(DeniedByPolicy, lambda: judged(ask(subject=BOT), with_bot, deny_policy()))


def test_a_deny_by_name_applies_to_a_subject_whose_groups_nobody_proved() -> None:
    with_bot = policy(eligible=PrincipalSet(principals=(BOT,), groups=("engineering",)))
    of_bot, of_dave = (deny_policy(eligible=PrincipalSet(principals=(who,))) for who in (BOT, DAVE))

    refused(DeniedByPolicy, lambda: judged(ask(subject=BOT), with_bot, of_bot))
    assert judged(ask(subject=BOT), with_bot, of_dave)


def test_a_policy_that_does_not_deny_denies_nothing() -> None:
    assert not request.denies(
        policy(), subject=ALICE, groups=frozenset({"engineering"}), resource="database/orders/eu", action="read"
    )


def test_a_deny_is_only_of_what_it_covers() -> None:
    def denied(resource: str, action: str) -> bool:
        forbidding = deny_policy(resources=("database/orders/*",), actions=("rows.*",))
        return request.denies(
            forbidding, subject=ALICE, groups=frozenset({"contractors"}), resource=resource, action=action
        )

    assert denied("database/orders/eu", "rows.create")
    assert not denied("database/users/eu", "rows.create")
    assert not denied("database/orders/eu", "read")


# Judging again at the approval


def again(grant: Grant, current: Policy, *others: Policy) -> None:
    request.judge_again(grant, policy=current, policies=[current, *others], now=NOON)


def test_an_unchanged_policy_still_allows() -> None:
    again(pending(), policy())
    again(pending(duration=4 * HOUR), policy())


@pytest.mark.parametrize(
    ("why", "changes"),
    [
        ("policies/orders is no longer in force", {"disabled": True}),
        ("policies/orders is no longer in force", {"deleted_at": NOON}),
        ("policies/orders is no longer in force", {"deny": True}),
        ("policies/orders no longer covers what is asked for", {"resources": ("database/users/**",)}),
        ("policies/orders no longer covers what is asked for", {"actions": ("write",)}),
        (f"policies/orders no longer lets {ALICE} ask for {ALICE}", {"eligible": PrincipalSet(groups=("security",))}),
        ("duration: is 3600s; policies/orders allows 0s to 3599.999999s", {"max_duration": HOUR - TICK}),
        ("duration: is 3600s; policies/orders allows 3600.000001s to 14400s", {"min_duration": HOUR + TICK}),
        ("justification.text: is required by policies/orders", {"justification": JustificationRule(required=True)}),
        (
            "justification.ticket: is required by policies/orders",
            {"justification": JustificationRule(ticket_required=True)},
        ),
    ],
)
def test_a_policy_that_would_no_longer_give_it_stops_the_approval(why: str, changes: dict[str, object]) -> None:
    error = refused(PolicyNoLongerAllows, lambda: again(pending(), policy(**changes)))

    assert error.message == f"grants/g7 can no longer pass: {why}"
    assert error.metadata == {"grant": "grants/g7", "policy": "policies/orders"}


def test_a_policy_that_changed_in_force_stops_the_approval() -> None:
    refused(PolicyNoLongerAllows, lambda: again(pending(), policy(disabled=True)))
    refused(PolicyNoLongerAllows, lambda: again(pending(), policy(resources=("database/users/**",))))
    refused(PolicyNoLongerAllows, lambda: again(pending(), policy(eligible=PrincipalSet(groups=("security",)))))
    refused(PolicyNoLongerAllows, lambda: again(pending(), policy(max_duration=HOUR - TICK)))


def test_a_deny_that_came_after_the_request_stops_the_approval() -> None:
    grant = pending(by=caller(ALICE, "engineering", "contractors"))

    refused(PolicyNoLongerAllows, lambda: again(grant, policy(), deny_policy()))
    again(pending(), policy(), deny_policy())


def test_a_deny_that_came_after_a_request_for_another_stops_the_approval() -> None:
    with_bot = policy(eligible=PrincipalSet(principals=(BOT,), groups=("engineering",)))

    refused(PolicyNoLongerAllows, lambda: again(pending(with_bot, subject=BOT), with_bot, deny_policy()))
    again(pending(with_bot, subject=BOT), with_bot)


# What could be asked for instead


def requestable(*policies: Policy, groups: frozenset[str] | None) -> list[str]:
    book = PolicySet(policies)
    asked = Question(subject=ALICE, groups=groups, resource="database/orders/eu", action="read")
    return list(book.requestable(asked))


ENGINEERING = frozenset({"engineering"})


def test_requestable_policies_are_the_best_first() -> None:
    policies = [policy(name="policies/c", priority=1), policy(name="policies/b"), policy(name="policies/a")]

    assert requestable(*policies, groups=ENGINEERING) == ["policies/c", "policies/a", "policies/b"]


def test_requestable_policies_cover_the_question_and_are_in_force() -> None:
    elsewhere = policy(name="policies/a", resources=("http/**",))
    otherwise = policy(name="policies/b", actions=("write",))
    off = policy(name="policies/c", disabled=True)

    assert requestable(elsewhere, otherwise, off, policy(), groups=ENGINEERING) == ["policies/orders"]


def test_requestable_policies_are_for_the_subject() -> None:
    by_name = policy(name="policies/a", eligible=PrincipalSet(principals=(ALICE,)))

    assert requestable(by_name, policy(), groups=frozenset()) == ["policies/a"]
    assert requestable(by_name, policy(), groups=ENGINEERING) == ["policies/a", "policies/orders"]


def test_a_subject_with_unknown_groups_could_ask_under_a_policy_for_any_group_or_by_name() -> None:
    by_name = policy(name="policies/a", eligible=PrincipalSet(principals=(ALICE,)))
    for_bob = policy(name="policies/b", eligible=PrincipalSet(principals=(BOB,)))

    assert requestable(by_name, for_bob, policy(), groups=None) == ["policies/a", "policies/orders"]


def test_nothing_is_requestable_where_a_deny_forbids_it() -> None:
    assert requestable(policy(), deny_policy(), groups=ENGINEERING | {"contractors"}) == []
    assert requestable(policy(), deny_policy(), groups=ENGINEERING) == ["policies/orders"]


def test_a_deny_by_group_hides_nothing_from_a_subject_with_unknown_groups() -> None:
    """It is advice: asking decides, with groups that are proved then."""
    assert requestable(policy(), deny_policy(), groups=None) == ["policies/orders"]
    assert requestable(policy(), deny_policy(eligible=PrincipalSet(principals=(ALICE,))), groups=None) == []


def test_what_is_requestable_can_be_asked_for() -> None:
    two = [policy(name="policies/a", steps=(step("owners"),)), policy(name="policies/b", steps=())]

    named = requestable(*two, groups=bob().groups)

    assert [judged(ask(subject=BOB, policy=name), *two, by=bob()).policy for name in named] == named


def test_a_deny_of_the_subject_by_name_since_the_request_refuses_its_approval() -> None:
    with pytest.raises(PolicyNoLongerAllows):
        again(pending(), policy(), deny_policy(eligible=PrincipalSet(principals=(ALICE,))))
    again(pending(), policy(), deny_policy(eligible=PrincipalSet(principals=("user:zoe@example.com",))))


def test_a_request_judged_again_has_the_steps_of_the_policy_as_it_is() -> None:
    stricter = policy(steps=(step("owners"), step("security", needed=2)))

    judged = request.judge_again(pending(), policy=stricter, policies=[stricter], now=NOON)

    assert judged.steps == stricter.steps


def test_an_emergency_is_for_whom_the_rule_names_too() -> None:
    rule = BreakGlassRule(eligible=PrincipalSet(principals=(ALICE,)), max_duration=HOUR, review_within=HOUR)
    why = Justification(text="the shop is down")
    wanted = request.normalize(ask(break_glass=True, justification=why), now=NOON)

    grant = request.judge_request(
        wanted, policies=[policy(break_glass=rule)], by=alice(), grant_name="grants/g7", now=NOON
    )

    assert grant.emergency is not None


def test_a_subject_of_an_issuer_whose_letter_case_counts_is_taken_as_it_is() -> None:
    wanted = ask(subject="user:Dave@corp.example.com")

    assert request.normalize(wanted, now=NOON, exact=("user:Dave",)).subject == "user:Dave@corp.example.com"
    assert request.normalize(wanted, now=NOON).subject == "user:dave@corp.example.com"


def test_a_deny_says_that_groups_are_unknown_only_to_whose_token_leaves_them_out() -> None:
    def told(by: Caller, subject: str) -> str:
        by_name = PrincipalSet(principals=(ALICE, BOT), groups=("engineering",))
        with pytest.raises(DeniedByPolicy) as refused:
            request.judge_request(
                ask(subject=subject),
                policies=[policy(eligible=by_name), deny_policy()],
                by=by,
                grant_name="grants/g7",
                now=NOON,
            )
        return refused.value.message

    left_out, denied = alice()._replace(groups=None), "policies/no-contractors denies"

    assert told(left_out, ALICE) == f"{denied} {ALICE} read on database/orders/eu; {LEFT_OUT}"
    assert told(left_out, BOT) == told(alice(), BOT) == f"{denied} {BOT} read on database/orders/eu"
