"""Which events a receiver wants, and when it is told again."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest

from jit_service.domain.audit.event import Event, EventType
from jit_service.domain.errors import InvalidField
from jit_service.domain.notification import (
    DEFAULT_EVENTS,
    NEVER,
    Retries,
    Subscription,
    interests,
    message_id,
    seq_of,
)
from tests.domain.factories import NOON

SECOND = timedelta(seconds=1)


def event(type_: EventType, decision: str = "") -> Event:
    return Event(type=type_, at=NOON, principal="user:alice@example.com", decision=decision)


def wants(*texts: str) -> Subscription:
    return Subscription(receiver="oncall", interests=interests(texts))


def test_a_receiver_is_told_what_it_wants_and_nothing_else() -> None:
    subscription = wants("BREAK_GLASS_USED", "REVIEW_OVERDUE")

    told = {type_ for type_ in EventType if subscription.wants(event(type_))}

    assert told == {EventType.BREAK_GLASS_USED, EventType.REVIEW_OVERDUE}


def test_an_interest_in_a_state_is_in_that_state_alone() -> None:
    subscription = wants("GRANT_REQUESTED:PENDING")

    assert subscription.wants(event(EventType.GRANT_REQUESTED, "PENDING"))
    assert not subscription.wants(event(EventType.GRANT_REQUESTED, "ACTIVE"))
    assert not subscription.wants(event(EventType.GRANT_APPROVED, "PENDING"))


def test_everything_is_all_that_changed_something() -> None:
    subscription = wants("*")

    untold = {type_ for type_ in EventType if not subscription.wants(event(type_))}

    assert untold == {EventType.ACCESS_CHECKED, EventType.CALL_REFUSED}
    assert wants("*", "CALL_REFUSED").wants(event(EventType.CALL_REFUSED, "REFUSED"))


def test_what_waits_for_somebody_is_told_unless_said_otherwise() -> None:
    subscription = wants(*DEFAULT_EVENTS)

    assert subscription.wants(event(EventType.BREAK_GLASS_USED, "ACTIVE"))
    assert subscription.wants(event(EventType.REVIEW_OVERDUE))
    assert subscription.wants(event(EventType.GRANT_REQUESTED, "PENDING"))
    assert subscription.wants(event(EventType.DELEGATION_CREATED))
    assert not subscription.wants(event(EventType.GRANT_REQUESTED, "ACTIVE"))


@pytest.mark.parametrize(
    "text", ["", "grant_requested", "NO_SUCH", "GRANT_REQUESTED:", "GRANT_REQUESTED:pending", "*:PENDING", *NEVER]
)
def test_what_is_no_event_to_be_told_of_is_refused_and_says_what_is(text: str) -> None:
    with pytest.raises(ValueError, match=r"PENDING|BREAK_GLASS_USED"):
        interests([text])


def test_an_interest_in_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="never"):
        interests([])


def test_each_wait_is_longer_up_to_the_longest_and_then_there_is_an_end() -> None:
    retries = Retries(attempts=5, first=SECOND, longest=10 * SECOND)

    waits = [retries.wait_after(attempts) for attempts in range(1, 7)]

    assert waits == [SECOND, 4 * SECOND, 10 * SECOND, 10 * SECOND, None, None]


def test_unless_said_otherwise_it_is_tried_for_most_of_a_day() -> None:
    retries = Retries()

    waits = [retries.wait_after(attempts) or timedelta() for attempts in range(1, retries.attempts + 1)]

    assert timedelta(hours=20) < sum(waits, timedelta()) < timedelta(hours=24)


def test_an_id_is_of_one_record_of_one_log() -> None:
    ids = {message_id(7, b"\1" * 32), message_id(7, b"\2" * 32), message_id(8, b"\1" * 32)}

    assert len(ids) == 3
    assert {seq_of(id_) for id_ in ids} == {7, 8}
    # It is signed between dots.
    assert not any("." in id_ for id_ in ids)


@pytest.mark.parametrize(
    "text", ["", "7", "evt_7", "evt_x_0101010101010101", "evt_7_010101010101010", "evt_-7_" + "0" * 16]
)
def test_what_is_no_id_is_refused(text: str) -> None:
    with pytest.raises(InvalidField):
        seq_of(text)


def test_a_wrong_id_of_a_message_is_told() -> None:
    with pytest.raises(InvalidField) as refused:
        seq_of("evt_x")

    assert refused.value.message == "id: is 'evt_x', not evt_SEQ_HASH as listed"


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ((), "names no event, so the receiver would never be told anything"),
        (("GRANT_REQUESTED:OPEN",), "'GRANT_REQUESTED:OPEN' names no state of a grant; those are "),
        (("NOTHING",), "'NOTHING' is no event that can be notified; those are *, "),
    ],
)
def test_a_wrong_interest_is_told_what_there_is(texts: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        interests(texts)


def test_what_there_is_is_listed() -> None:
    with pytest.raises(ValueError, match=r"those are \*, (\w+, )*GRANT_REQUESTED, (\w+, )+\w+$"):
        interests(["NOTHING"])
    with pytest.raises(ValueError, match=r"those are PENDING, SCHEDULED, (\w+, )+\w+$"):
        interests(["GRANT_REQUESTED:OPEN"])
