"""What was known at a past instant."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import pytest

from jit_service.domain.audit.event import Event, EventType
from jit_service.domain.checks.decision import Decision, Question, Reason
from jit_service.domain.checks.evidence import Evidence
from jit_service.domain.checks.past import (
    MAX_NOTES,
    bounded,
    demand_on_record,
    locks_at,
    not_on_record,
    past_check_event,
)
from jit_service.domain.errors import InvalidField
from jit_service.domain.grants.grant import Grant
from jit_service.domain.grants.lock import Lock, Locks, Target
from jit_service.domain.policies.policy import Policy, PrincipalSet
from jitaccess.naming.rfc3339 import exact
from tests.domain.factories import (
    ALICE,
    BOB,
    HOUR,
    NOON,
    TICK,
    approved,
    bob,
    deny_policy,
    named,
    question,
)

LOCK = Lock(
    name="locks/a",
    target=Target(principal="user:alice@example.com"),
    comment="left",
    creator="user:admin@example.com",
    created_at=NOON,
)
ON_GROUP = replace(LOCK, name="locks/b", target=Target(group="contractors"))
DENIES_BOB = deny_policy(name="policies/no-bob", eligible=PrincipalSet(principals=(BOB,)))


def test_a_lock_stood_from_its_creation_until_it_was_lifted_or_over() -> None:
    lifted, timed = replace(LOCK, deleted_at=NOON + HOUR), replace(LOCK, expires_at=NOON + HOUR)

    for lock in (lifted, timed):
        stood = [bool(locks_at([lock], NOON + span)) for span in (-TICK, 0 * TICK, HOUR - TICK, HOUR, 2 * HOUR)]
        assert stood == [False, True, True, False, False]
    assert locks_at([lifted], NOON).on("user:alice@example.com", None) == LOCK


def test_an_instant_is_on_record_from_the_first_event_until_now() -> None:
    for instant in (NOON, NOON + HOUR):
        demand_on_record(instant, begins_at=NOON, now=NOON + HOUR)


@pytest.mark.parametrize(
    ("instant", "begins_at", "fault"),
    [
        (NOON - TICK, NOON, f"is {exact(NOON - TICK)}; the record begins at {exact(NOON)}"),
        (NOON, None, f"is {exact(NOON)}; nothing is on record yet"),
        (NOON + HOUR + TICK, NOON, f"is {exact(NOON + HOUR + TICK)}; it must not be after now, {exact(NOON + HOUR)}"),
    ],
)
def test_an_instant_that_is_not_on_record_is_told_what_is(
    instant: datetime, begins_at: datetime | None, fault: str
) -> None:
    with pytest.raises(InvalidField) as refused:
        demand_on_record(instant, begins_at=begins_at, now=NOON + HOUR)

    assert (refused.value.field, refused.value.fault) == ("read_time", fault)


def missing(
    *grants: Grant, asked: Question | None = None, policies: tuple[Policy, ...] = (), locks: tuple[Lock, ...] = ()
) -> list[str]:
    evidence = Evidence[Grant](policies=policies, now=NOON, locks=Locks(locks))
    return list(not_on_record(asked or question(), grants, evidence))


def test_what_a_condition_reads_and_no_record_has_is_told_with_what_was_taken() -> None:
    grant = replace(approved(), check_condition='context.a == 1 && principal == "user:x" && "a" in groups')

    assert missing(grant) == [
        "the condition of grants/g7 reads context: what was asserted then is not on record; the context of this call "
        "was taken",
        "the condition of grants/g7 reads principal: who asked then is not on record; whoever asks now was taken",
        "the condition of grants/g7 reads groups: the groups of later tokens are not on record; those proved by the "
        "request for the grant were taken",
    ]


def test_an_answer_that_reads_what_is_on_record_has_no_note() -> None:
    assert missing(replace(approved(), check_condition='subject == "user:x" && signals.window')) == []
    assert missing(approved(), policies=(DENIES_BOB,)) == []
    assert missing(approved(), locks=(LOCK,)) == []


def test_a_grant_that_was_not_active_then_has_no_note() -> None:
    over = replace(approved(at=NOON - HOUR), check_condition="context.a == 1")

    assert missing(over, policies=(deny_policy(),), locks=(ON_GROUP,)) == []


LATER = "user:alice@example.com's groups after the request are not on record; those of the request were taken"


def test_what_forbids_groups_is_judged_by_those_of_the_request_which_is_told_once_for_each_subject() -> None:
    grants = (approved(), named(approved(), "grants/g8"))

    assert missing(*grants, policies=(DENIES_BOB, deny_policy()), locks=(LOCK, ON_GROUP)) == [
        f"policies/no-contractors denies groups: {LATER}",
        f"locks/b was on a group: {LATER}",
    ]


def test_nothing_is_taken_for_groups_that_nobody_proved() -> None:
    asked_for_by_bob = replace(approved(), requester=BOB)

    assert missing(asked_for_by_bob, policies=(deny_policy(),), locks=(ON_GROUP,)) == []


@pytest.mark.parametrize(
    ("asked", "is_about"),
    [
        (question(), True),
        (question(action="write"), False),
        (question(resource="http/orders"), False),
        (question(action="write", resource="http/orders"), False),
        (question(action=""), True),
        (question(resource=""), True),
        (question(action="", resource=""), True),
        (question(action="", resource="http/orders"), False),
        (question(action="write", resource=""), False),
    ],
)
def test_a_policy_that_denies_something_else_is_not_told(asked: Question, is_about: bool) -> None:
    notes = missing(approved(), asked=asked, policies=(deny_policy(actions=("read",)),))

    assert notes == ([f"policies/no-contractors denies groups: {LATER}"] if is_about else [])


def test_notes_are_said_once_and_their_number_is_bounded() -> None:
    notes = [f"note {number}" for number in range(MAX_NOTES)]

    assert bounded([*notes, *notes]) == tuple(notes)
    assert bounded([*notes, "one"]) == (*notes, "and 1 more")
    assert bounded([*notes, "one", "two"]) == (*notes, "and 2 more")


@pytest.mark.parametrize(
    ("decision", "grant", "answer"),
    [
        (Decision(Reason.ALLOWED, "grants/g7 allows it", approved(), ()), "grants/g7", "allowed then"),
        (Decision(Reason.NO_GRANT, "nothing covers it", None, ()), "", "not allowed then, NO_GRANT"),
    ],
)
def test_an_answer_about_the_past_is_recorded_as_a_search(decision: Decision, grant: str, answer: str) -> None:
    """Nobody may take it for a check, so it has neither decision nor reason."""
    asked = question(context={"ticket": "OPS-7"}, source_address="192.0.2.9", principal=BOB)

    event = past_check_event(
        bob(), asked, decision, about=NOON, at=NOON + HOUR, decision_id="decisions/d1", revision=12
    )

    assert event == Event(
        type=EventType.ACCESS_SEARCHED,
        at=NOON + HOUR,
        principal=BOB,
        origin=bob().origin,
        subject=ALICE,
        resources=("database/orders/eu",),
        actions=("read",),
        message=f"as of {exact(NOON)}: {answer}: {decision.message}",
        grant=grant,
        decision_id="decisions/d1",
        revision=12,
        context={"ticket": "OPS-7"},
        subject_source_ip="192.0.2.9",
    )
