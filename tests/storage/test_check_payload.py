"""A check's record is written by hand, and to the byte what the general way makes of the same event."""

from __future__ import annotations

import json
from dataclasses import fields
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jit_service.domain.audit.event import Event, EventType
from jit_service.domain.caller import Caller, Origin
from jit_service.domain.checks.cached_grant import CachedGrant
from jit_service.domain.checks.decision import Decision, Question, Reason, check_event
from jit_service.storage import CheckRecords, Outline, SharedContexts, parts_of_check, payload_of
from jit_service.storage.audit_summary import summarize
from jit_service.storage.rows import MAX_RECORD
from tests.conftest import NOON

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
SOME = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
INSTANTS = st.datetimes(
    min_value=datetime.fromisoformat("2000-01-01"),
    max_value=datetime.fromisoformat("2100-01-01"),
    timezones=st.just(UTC),
)
ORIGINS = st.builds(Origin, **{field.name: TEXTS for field in fields(Origin)}) | st.just(Origin())
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
QUESTIONS = st.builds(
    Question,
    subject=SOME,
    action=TEXTS,
    resource=TEXTS,
    groups=st.none() | st.frozensets(TEXTS, max_size=3),
    context=st.dictionaries(TEXTS, JSON, max_size=3),
    groups_left_out=st.booleans(),
    source_address=TEXTS,
)
GRANTS = st.builds(
    CachedGrant,
    name=SOME,
    subject=SOME,
    policy=SOME,
    policy_revision=st.integers(0, 2**40),
    resources=st.just(()),
    actions=st.just(()),
    duration=st.just(timedelta(hours=1)),
    chain=st.lists(TEXTS, max_size=3).map(tuple),
    subject_claims=st.none(),
)
DECISIONS = st.builds(
    Decision, reason=st.sampled_from(Reason), message=SOME, grant=st.none() | GRANTS, findings=st.just(()), lock=TEXTS
)


CALLERS = st.tuples(TEXTS, ORIGINS).map(lambda both: Caller(principal=both[0], origin=both[1]))


@given(
    st.lists(CALLERS, min_size=1, max_size=2),
    st.lists(st.tuples(st.integers(0, 1), QUESTIONS, DECISIONS, st.uuids().map(str)), max_size=4),
    INSTANTS,
    st.integers(1),
)
def test_both_ways_make_the_same_bytes(
    callers: list[Caller], checks: list[tuple[int, Question, Decision, str]], at: datetime, revision: int
) -> None:
    records, shared = CheckRecords(at=at, revision=revision), SharedContexts()

    for who, asked, decision, decision_id in checks:
        by = callers[who % len(callers)]
        event = check_event(by, asked, decision, at=at, decision_id=decision_id, revision=revision)
        parts = parts_of_check(asked, decision)
        assert records.payload(by, asked, parts, decision_id) == payload_of(event)
        first = SharedContexts.first_of(shared, asked.context, decision_id)
        event = check_event(by, asked, decision, at=at, decision_id=decision_id, revision=revision, context_of=first)
        assert records.payload(by, asked, parts, decision_id, shared) == payload_of(event)


@given(
    st.lists(CALLERS, min_size=1, max_size=2),
    st.lists(st.tuples(st.integers(0, 1), QUESTIONS, DECISIONS), min_size=1, max_size=6),
    st.integers(0, 6),
)
def test_who_writes_records_knows_their_summary_without_reading_them(
    callers: list[Caller], checks: list[tuple[int, Question, Decision]], outlined: int
) -> None:
    payloads, digests = [], []
    records = CheckRecords(at=NOON, revision=7)
    for who, asked, decision in checks:
        by, parts = callers[who % len(callers)], parts_of_check(asked, decision)
        payloads.append(records.payload(by, asked, parts, "d"))
        digests.append(records.digests(by, asked, parts))
    known = [Outline(NOON, NOON, digests[:outlined])] if outlined else []

    assert summarize(payloads[outlined:], known) == summarize(payloads)


LONG = "x" * 9000


@pytest.mark.parametrize(
    ("context", "groups", "omitted"),
    [
        ({"note": LONG}, (), 0),
        ({"note": LONG, "more": LONG}, (), 2),
        ({"note": LONG}, (LONG,), 1),
        ({}, (LONG, "y" * 9000), 2),
        ({"note": LONG}, (LONG, "y" * 9000), 3),
    ],
)
def test_a_record_that_would_be_too_long_is_the_same_in_both_ways_and_counts_what_it_leaves_out(
    context: dict[str, str], groups: tuple[str, ...], omitted: int
) -> None:
    by = Caller(principal="user:alice")
    asked = Question(subject="user:alice", action="read", resource="a/b", groups=frozenset(groups), context=context)
    decision = Decision(Reason.LOCKED, "locked", None, (), "locks/l1")
    event = check_event(by, asked, decision, at=NOON, decision_id="d", revision=1)

    payload = payload_of(event)

    assert CheckRecords(at=NOON, revision=1).payload(by, asked, parts_of_check(asked, decision), "d") == payload
    assert len(payload) <= MAX_RECORD
    assert json.loads(payload).get("omitted_count", 0) == omitted
    assert json.loads(payload)["lock"] == "locks/l1"


def test_a_record_of_many_resources_keeps_the_first_and_counts_the_others() -> None:
    resources = tuple(f"database/orders/{'t' * 500}{number}" for number in range(100))
    event = Event(
        type=EventType.GRANT_REQUESTED, at=NOON, principal="user:alice", resources=resources, actions=("read",)
    )

    payload = payload_of(event)
    kept = json.loads(payload)

    assert MAX_RECORD / 3 < len(payload) <= MAX_RECORD
    assert kept["resources"] == list(resources[: len(kept["resources"])])
    assert kept["actions"] == ["read"]
    assert kept["omitted_count"] == 100 - len(kept["resources"])
