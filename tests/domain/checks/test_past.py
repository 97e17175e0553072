"""What was known at a past instant."""

from __future__ import annotations

from dataclasses import replace

import pytest

from jit_service.domain.checks.past import MAX_NOTES, bounded, demand_on_record, locks_at
from jit_service.domain.errors import InvalidField
from jit_service.domain.grants.lock import Lock, Target
from tests.conftest import HOUR, NOON, TICK

LOCK = Lock(
    name="locks/a",
    target=Target(principal="user:alice@example.com"),
    comment="left",
    creator="user:admin@example.com",
    created_at=NOON,
)


def test_a_lock_stood_from_its_creation_until_it_was_lifted_or_over() -> None:
    lifted, timed = replace(LOCK, deleted_at=NOON + HOUR), replace(LOCK, expires_at=NOON + HOUR)

    for lock in (lifted, timed):
        stood = [bool(locks_at([lock], NOON + span)) for span in (-TICK, 0 * TICK, HOUR - TICK, HOUR, 2 * HOUR)]
        assert stood == [False, True, True, False, False]
    assert locks_at([lifted], NOON).on("user:alice@example.com", None) == LOCK


def test_an_instant_is_on_record_from_the_first_event_until_now() -> None:
    for instant in (NOON, NOON + HOUR):
        demand_on_record(instant, begins_at=NOON, now=NOON + HOUR)
    for instant, begins_at in ((NOON - TICK, NOON), (NOON + HOUR + TICK, NOON), (NOON, None)):
        with pytest.raises(InvalidField, match="read_time"):
            demand_on_record(instant, begins_at=begins_at, now=NOON + HOUR)


def test_notes_are_said_once_and_their_number_is_bounded() -> None:
    notes = [f"note {number}" for number in range(MAX_NOTES)]

    assert bounded([*notes, *notes]) == tuple(notes)
    assert bounded([*notes, "one", "two"]) == (*notes, "and 2 more")
