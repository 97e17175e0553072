"""How long a decision stands, what it is judged by until then, what is recorded of it, and what Check reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from jit_service.domain.audit.event import EventType
from jit_service.domain.checks.cached_grant import condense
from jit_service.domain.checks.decision import Question, Reason, check_event, decide, judge_conditions, stands_until
from jit_service.domain.checks.evidence import Evidence
from jit_service.domain.conditions.condition import Verdict
from jit_service.domain.conditions.kept_claims import keep
from jit_service.domain.conditions.signal import Signals
from jit_service.domain.grants import children
from jit_service.domain.grants.grant import Grant, GrantState, Limits
from jit_service.domain.grants.lock import Lock, Locks, Target
from jit_service.domain.policies.policy import PrincipalSet
from tests.domain.factories import (
    ALICE,
    BOT,
    HOUR,
    NOON,
    TICK,
    alice,
    approved,
    ask,
    caller,
    deny_policy,
    named,
    pending,
    policy,
    question,
    revoke,
)

CONDITIONAL = policy(steps=(), check_condition="signals.window")
OPEN = Signals(live={"window": True})


@pytest.mark.parametrize(
    ("grant", "changes_at"),
    [
        (pending(), NOON + 8 * HOUR),
        (approved(start_at=NOON + HOUR), NOON + HOUR),
        (approved(), NOON + HOUR),
        (pending(at=NOON - 8 * HOUR + TICK), NOON + TICK),
    ],
)
def test_a_decision_stands_until_a_grants_next_instant_and_no_longer(grant: Grant, changes_at: datetime) -> None:
    assert stands_until([grant], NOON) == changes_at
    assert stands_until([grant], changes_at - TICK) == changes_at
    assert stands_until([grant], changes_at) != changes_at


@pytest.mark.parametrize(
    "instants", [("starts_at", 1, 2, 3), ("expires_at", 2, 1, 3), ("request_expires_at", 3, 2, 1)], ids=lambda it: it[0]
)
def test_the_earliest_of_a_grants_instants_counts_whichever_it_is(instants: tuple[str, int, int, int]) -> None:
    starts, expires, lapses = (NOON + count * HOUR for count in instants[1:])
    grant = replace(approved(), starts_at=starts, expires_at=expires, request_expires_at=lapses)

    assert stands_until([grant], NOON) == NOON + HOUR


def test_the_earliest_instant_of_all_grants_counts_in_whatever_order() -> None:
    sooner, later = approved(ttl=HOUR), approved(ttl=2 * HOUR)

    assert stands_until([sooner, later], NOON) == stands_until([later, sooner], NOON) == NOON + HOUR


def test_a_decision_on_nothing_stands_for_ever() -> None:
    until = stands_until([], NOON)

    assert until is not None
    assert until - NOON > timedelta(days=365_000)
    assert until.utcoffset() == timedelta(0)


@pytest.mark.parametrize("facts", [{"chain": ("grants/a",)}, {"limits": Limits(max_uses=1)}])
def test_a_decision_that_counts_or_rests_on_others_stands_for_itself(facts: dict[str, Any]) -> None:
    first = approved()

    assert stands_until([first, replace(first, **facts)], NOON) is None


def test_the_conditions_of_active_grants_are_judged_and_no_others() -> None:
    conditional = pending(CONDITIONAL)
    later = named(pending(CONDITIONAL, start_at=NOON + HOUR), "grants/later")
    over = named(revoke(conditional), "grants/over")
    asked = question()

    judged = judge_conditions([approved(), later, conditional, over], asked, NOON, OPEN)

    assert [(grant, judgement.verdict) for grant, judgement in judged] == [(conditional, Verdict.MET)]
    closed = judge_conditions([conditional], asked, NOON, Signals(live={"window": False}))
    assert [judgement.verdict for _, judgement in closed] == [Verdict.NOT_MET]


def test_a_condition_is_judged_as_the_decision_judges_it() -> None:
    """Each of these expressions reads a fact that only this question, this grant or this instant has."""
    asked = Question(
        ALICE,
        "read",
        "database/orders/eu",
        groups=frozenset({"engineering", "on-call"}),
        principal="service:gateway",
        context={"ticket": "T-1"},
        source_address="192.0.2.9",
    )
    for expression in (
        f'subject == "{ALICE}"',
        'principal == "service:gateway"',
        'resource == "database/orders/eu"',
        'action == "read"',
        'duration == duration("3600s")',
        'now == timestamp("2026-03-02T12:00:00Z")',
        "signals.window",
        '"engineering" in groups',
        'context.ticket == "T-1"',
        'context.source_ip == "192.0.2.9"',
    ):
        grant = pending(policy(steps=(), check_condition=expression))

        ((_, judgement),) = judge_conditions([grant], asked, NOON, OPEN)

        assert judgement.verdict is Verdict.MET, (expression, judgement.message)
        assert decide(asked, grants=[grant], evidence=Evidence(policies=[], now=NOON, signals=OPEN)).allowed


def test_the_record_of_a_yes_says_who_asked_what_and_what_it_rests_on() -> None:
    grant = approved()
    asked = question(groups=frozenset({"b", "a"}), context={"ticket": "T-1"})
    decision = decide(asked, grants=[grant], evidence=Evidence(policies=[], now=NOON))

    told = check_event(caller("service:gateway"), asked, decision, at=NOON, decision_id="d-1", revision=9)

    assert (told.type, told.at, told.principal) == (EventType.ACCESS_CHECKED, NOON, "service:gateway")
    assert told.origin == caller("service:gateway").origin
    assert (told.subject, told.resources, told.actions) == (ALICE, ("database/orders/eu",), ("read",))
    assert (told.decision, told.reason, told.message) == ("ALLOWED", "ALLOWED", decision.message)
    assert (told.grant, told.policy, told.policy_revision) == ("grants/g7", "policies/orders", 3)
    assert (told.decision_id, told.revision, told.chain) == ("d-1", 9, ())
    assert (told.groups, told.context) == (("a", "b"), {"ticket": "T-1"})


def test_the_record_of_a_no_rests_on_nothing() -> None:
    asked = question()
    decision = decide(asked, grants=[], evidence=Evidence(policies=[], now=NOON))

    told = check_event(alice(), asked, decision, at=NOON, decision_id="d-1", revision=9)

    assert (told.decision, told.reason) == ("DENIED", "NO_GRANT")
    assert (told.grant, told.policy, told.policy_revision, told.chain) == ("", "", 0, ())
    assert (told.groups, told.context) == ((), {})


def test_the_record_of_what_was_passed_on_names_what_it_came_from() -> None:
    under = policy(steps=(), max_child_depth=1)
    parent = named(pending(under), "grants/a")
    wanted = ask(subject=BOT, parent="grants/a")
    child = children.judge_child(wanted, parent, policies=[under], by=alice(), grant_name="grants/b", now=NOON)
    decision = decide(
        question(subject=BOT), grants=[child], evidence=Evidence(policies=[], now=NOON, above={"grants/a": parent})
    )

    told = check_event(caller(BOT), question(subject=BOT), decision, at=NOON, decision_id="d", revision=1)

    assert (told.grant, told.chain) == ("grants/b", ("grants/a",))


def test_the_record_of_a_check_says_what_was_known_of_its_subject() -> None:
    asked = question(groups=None, groups_left_out=True, source_address="192.0.2.9", context={"ticket": "T-1"})
    lock = Lock(name="locks/l1", target=Target(principal=ALICE), comment="left", creator="user:rita", created_at=NOON)
    decision = decide(asked, grants=[], evidence=Evidence(policies=[], now=NOON, locks=Locks([lock])))

    told = check_event(alice(), asked, decision, at=NOON, decision_id="d-1", revision=9, context_of="d-0")

    assert (told.groups, told.groups_left_out, told.subject_source_ip) == ((), True, "192.0.2.9")
    assert (told.reason, told.lock) == ("LOCKED", "locks/l1")
    # The record of the first of a batch holds the context of all of it.
    assert (told.context, told.context_of) == ({}, "d-0")


def test_check_reads_of_a_grant_that_was_passed_on_what_is_above_it_and_that_its_uses_count() -> None:
    child = replace(approved(), chain=("grants/a",), limits=Limits(max_uses=3))

    seen = condense(child)

    assert (seen.chain, seen.is_metered) == (("grants/a",), True)


LIVES: list[Callable[[], Grant]] = [
    pending,
    approved,
    lambda: approved(start_at=NOON + HOUR),
    lambda: pending(CONDITIONAL, by=alice()._replace(claims={"amr": ["mfa"]})),
]


@pytest.mark.parametrize("make", LIVES)
def test_check_reads_of_a_live_grant_what_the_grant_says(make: Callable[[], Grant]) -> None:
    grant = make()
    seen = condense(grant)

    for instant in (NOON, NOON + HOUR - TICK, NOON + HOUR, NOON + 2 * HOUR, NOON + 8 * HOUR):
        assert seen.state(instant) is grant.state(instant)
        for denies in ([], [deny_policy(eligible=PrincipalSet(principals=(ALICE,)))]):
            of_grant, of_seen = (
                decide(question(), grants=[one], evidence=Evidence(policies=denies, now=instant, signals=OPEN))
                for one in (grant, seen)
            )
            assert (of_seen.reason, of_seen.message) == (of_grant.reason, of_grant.message)
    same = ("name", "subject", "policy", "policy_revision", "resources", "actions", "duration", "starts_at")
    same += ("expires_at", "subject_groups", "check_condition", "chain", "is_metered", "end", "is_used_up", "use_count")
    assert {name: getattr(seen, name) for name in same} == {name: getattr(grant, name) for name in same}


def test_claims_and_deadlines_are_kept_live_only_where_something_reads_them() -> None:
    by = alice()._replace(claims={"amr": ["mfa"]})
    conditional = pending(policy(steps=(), check_condition="'mfa' in claims.amr"), by=by)

    assert condense(conditional).subject_claims == keep({"amr": ["mfa"]}, frozenset({"amr"}))
    assert condense(replace(conditional, check_condition="")).subject_claims is None
    assert condense(pending()).request_expires_at == NOON + 8 * HOUR
    assert condense(approved()).request_expires_at is None


def test_what_has_ended_is_not_live() -> None:
    with pytest.raises(AssertionError, match="ended"):
        condense(revoke(approved()))


def test_a_conditional_grant_that_has_not_started_explains_that_it_has_not() -> None:
    later = pending(CONDITIONAL, start_at=NOON + HOUR)

    assert later.state(NOON) is GrantState.SCHEDULED
    assert decide(question(), grants=[later], evidence=Evidence(policies=[], now=NOON)).reason is Reason.NOT_YET_STARTED
