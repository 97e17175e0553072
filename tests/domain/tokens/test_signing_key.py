"""Which key signs, when the next one is due, and when one may go."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from jit_service.domain.audit.event import EventType
from jit_service.domain.tokens import signing_key as rules
from jit_service.domain.tokens.signing_key import KeyState, Rotation, SigningKey
from tests.domain.factories import HOUR, NOON, TICK, admin

DAY = timedelta(days=1)
ROTATION = Rotation(every=30 * DAY, ahead=HOUR)


def key(kid: str, signs_at: datetime, *, last: datetime | None = None) -> SigningKey:
    return SigningKey(kid=kid, created_at=signs_at - HOUR, signs_at=signs_at, sealed=b"", last_expires_at=last)


def test_a_key_is_published_before_it_signs() -> None:
    old, new = key("a", NOON), key("b", NOON + HOUR)

    assert rules.state(new, [old, new], NOON + HOUR - TICK) is KeyState.PUBLISHED
    assert rules.state(old, [old, new], NOON + HOUR - TICK) is KeyState.SIGNING
    assert rules.state(new, [old, new], NOON + HOUR) is KeyState.SIGNING
    assert rules.state(old, [old, new], NOON + HOUR) is KeyState.RETIRED


def test_the_first_key_signs_at_once() -> None:
    assert rules.next_signs_at([], ROTATION, NOON) == NOON
    assert rules.signing([], NOON) is None


def test_the_next_key_is_due_so_that_it_signs_on_time() -> None:
    keys = [key("a", NOON)]
    due = NOON + 30 * DAY - HOUR

    assert rules.next_signs_at(keys, ROTATION, due - TICK) is None
    assert rules.next_signs_at(keys, ROTATION, due) == NOON + 30 * DAY


def test_only_one_next_key_is_made() -> None:
    keys = [key("a", NOON), key("b", NOON + 30 * DAY)]

    assert rules.next_signs_at(keys, ROTATION, NOON + 30 * DAY - TICK) is None


def test_a_service_that_slept_too_long_publishes_first_all_the_same() -> None:
    assert rules.next_signs_at([key("a", NOON)], ROTATION, NOON + 90 * DAY) == NOON + 90 * DAY + HOUR


def test_a_key_stays_until_the_last_token_it_signed_is_over() -> None:
    end = NOON + 2 * HOUR
    old, new = key("a", NOON, last=end), key("b", NOON + HOUR)

    assert rules.over([old, new], end - TICK) == []
    assert rules.over([old, new], end) == [old]


def test_a_retired_key_that_signed_nothing_goes_at_once() -> None:
    old, new = key("a", NOON), key("b", NOON + HOUR)

    assert rules.over([old, new], NOON + HOUR) == [old]


def test_a_key_that_signs_or_will_sign_stays() -> None:
    signing, coming = key("a", NOON, last=NOON + TICK), key("b", NOON + HOUR)

    assert rules.over([signing, coming], NOON + HOUR - TICK) == []
    assert rules.over([replace(signing, last_expires_at=None)], NOON + 99 * DAY) == []


def test_a_key_that_comes_and_one_that_goes_are_recorded() -> None:
    added = rules.added_event(key("a", NOON), by=admin(), now=NOON)
    removed = rules.removed_event(key("a", NOON), why="compromised", by=admin(), now=NOON + HOUR)

    assert (added.type, added.message, added.at) == (
        EventType.SIGNING_KEY_ADDED,
        "a signs from 2026-03-02T12:00:00Z",
        NOON,
    )
    assert (removed.type, removed.message, removed.at) == (
        EventType.SIGNING_KEY_REMOVED,
        "a: compromised",
        NOON + HOUR,
    )
    assert {(event.principal, event.origin) for event in (added, removed)} == {(admin().principal, admin().origin)}


def test_a_key_that_only_comes_later_is_waited_for() -> None:
    assert rules.next_signs_at([key("a", NOON + HOUR)], ROTATION, NOON) is None


def test_a_key_that_signs_from_now_on_is_the_current_one() -> None:
    """It is not one that is still to come, so the next one is due by it."""
    short = Rotation(every=HOUR, ahead=HOUR)

    assert rules.next_signs_at([key("a", NOON)], short, NOON) == NOON + HOUR


def test_no_key_is_due_while_the_first_is_only_published() -> None:
    assert rules.next_signs_at([key("a", NOON + HOUR)], ROTATION, NOON) is None


def test_a_key_that_is_published_for_its_whole_term_has_a_successor_from_its_first_instant() -> None:
    assert rules.next_signs_at([key("a", NOON)], Rotation(every=HOUR, ahead=HOUR), NOON) == NOON + HOUR
