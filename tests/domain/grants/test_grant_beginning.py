"""When nothing can happen with a grant any more, and what is known from where on grants may have been forgotten."""

from __future__ import annotations

from datetime import datetime

import pytest

from jit_service.domain.errors import RecordsPruned
from jit_service.domain.grants import break_glass
from jit_service.domain.grants.grant import Justification
from jit_service.domain.grants.grant_beginning import ALL_KEPT, GrantBeginning, over_at, settled_at
from tests.domain.factories import HOUR, NOON, TICK, approved, bob, breakable, caller, deny, pending, revoke

LATER = NOON + 9 * HOUR


@pytest.mark.parametrize("recorded_at", [None, LATER])
def test_what_somebody_ended_is_settled_then(recorded_at: datetime | None) -> None:
    assert settled_at(revoke(approved(), at=NOON + TICK), recorded_at=recorded_at) == NOON + TICK
    assert settled_at(deny(pending()), recorded_at=recorded_at) == NOON


def test_what_ran_out_is_settled_once_that_is_on_record() -> None:
    assert settled_at(approved(), recorded_at=None) is None
    assert settled_at(pending(), recorded_at=None) is None
    assert settled_at(approved(), recorded_at=LATER) == LATER
    assert settled_at(pending(), recorded_at=LATER) == LATER


def test_a_break_glass_use_is_settled_once_it_is_reviewed() -> None:
    zoe, fire = caller("user:zoe@example.com", "on-call"), Justification(text="fire")
    used = pending(breakable(), break_glass=True, by=zoe, justification=fire)
    assert settled_at(used, recorded_at=LATER) is None

    reviewed, _ = break_glass.complete_review(used, policy=breakable(), by=bob(), comment="fine", now=LATER + HOUR)

    assert settled_at(reviewed, recorded_at=LATER) == LATER + HOUR


def test_a_request_is_over_at_its_deadline_and_a_grant_at_its_end() -> None:
    assert over_at(pending()) == NOON + 8 * HOUR
    assert over_at(approved()) == NOON + HOUR
    assert over_at(revoke(approved(), at=NOON + TICK)) == NOON + TICK


def test_while_nothing_was_forgotten_everything_is_known() -> None:
    ALL_KEPT.demand_known(NOON - 1000 * HOUR, "read_time")
    ALL_KEPT.demand_changes_after(0, "start_revision")


@pytest.mark.parametrize(
    "begun", [GrantBeginning(over_at=NOON), GrantBeginning(over_at=NOON - HOUR, changed_at=NOON, revision=7)]
)
def test_what_may_be_gone_is_refused_to_the_tick(begun: GrantBeginning) -> None:
    begun.demand_known(NOON, "read_time")

    with pytest.raises(RecordsPruned) as fault:
        begun.demand_known(NOON - TICK, "read_time")

    assert (fault.value.field, fault.value.metadata["first_time"]) == ("read_time", "2026-03-02T12:00:00Z")


def test_changes_are_known_after_the_last_that_may_be_gone() -> None:
    begun = GrantBeginning(revision=7)
    begun.demand_changes_after(7, "start_revision")

    with pytest.raises(RecordsPruned) as fault:
        begun.demand_changes_after(6, "start_revision")

    assert fault.value.metadata["first_revision"] == "8"
