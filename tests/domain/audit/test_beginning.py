"""Where the audit log begins, and which of its pieces may be pruned: both sides of each bound."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from jit_service.domain.audit.beginning import MAX_PIECES, WHOLE, Beginning, PieceSpan, prunable
from jit_service.domain.audit.chain import GENESIS
from jit_service.domain.errors import RecordsPruned

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
TICK = timedelta(microseconds=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
RETENTION = 180 * DAY
TOO_OLD = NOON - RETENTION - HOUR - TICK
"""The latest instant from which on pieces are pruned one by one."""
PRUNED = Beginning(seq=2048, hash="ab" * 32, pruned_at=NOON)


def pieces(count: int, last_at: datetime) -> list[PieceSpan]:
    return [PieceSpan(seq=1024 * number, last_at=last_at) for number in range(1, count + 1)]


def seqs(count: int) -> list[int]:
    return [1024 * number for number in range(1, count + 1)]


def pruned_of(given: list[PieceSpan], *, retention: timedelta = RETENTION, waiting: int | None = None) -> list[int]:
    return prunable(given, now=NOON, retention=retention, waiting=waiting)


def test_a_log_that_is_whole_begins_after_nothing() -> None:
    assert (WHOLE.seq, WHOLE.hash, WHOLE.was_pruned) == (0, GENESIS.hex(), False)
    assert (WHOLE.first_seq, WHOLE.archived_from) == (0, 0)
    assert (WHOLE.last_at, WHOLE.pruned_at) == (datetime(1970, 1, 1, tzinfo=UTC),) * 2
    assert (WHOLE.checkpoint, WHOLE.archive, WHOLE.sha256, WHOLE.carried, dict(WHOLE.public_key)) == ("",) * 4 + ({},)


def test_a_log_of_which_one_record_is_gone_was_pruned() -> None:
    assert Beginning(seq=1).was_pruned


def test_what_comes_after_the_last_pruned_record_is_kept() -> None:
    PRUNED.demand_kept(2048, "start_seq")

    with pytest.raises(RecordsPruned) as refused:
        PRUNED.demand_kept(2047, "start_seq")

    assert refused.value.metadata == {"field": "start_seq", "first_seq": "2049"}
    assert str(refused.value) == (
        "start_seq: is 2047; the records up to 2048 were pruned on 2026-03-02T12:00:00Z, "
        "and the log begins with record 2049"
    )


def test_nothing_is_pruned_of_an_empty_log() -> None:
    assert pruned_of([]) == []


def test_a_few_pieces_are_pruned_once_the_first_is_too_old_by_an_hour() -> None:
    assert pruned_of(pieces(2, TOO_OLD)) == seqs(2)
    assert pruned_of(pieces(2, TOO_OLD + TICK)) == []


def test_of_a_short_retention_the_slack_is_a_part() -> None:
    first_too_old = NOON - DAY - DAY / 24 - TICK
    half_a_day = NOON - DAY / 2 - DAY / 48 - TICK

    assert pruned_of(pieces(1, first_too_old), retention=DAY) == seqs(1)
    assert pruned_of(pieces(1, half_a_day), retention=DAY / 2) == seqs(1)
    assert pruned_of(pieces(1, half_a_day + TICK), retention=DAY / 2) == []


def test_as_many_pieces_as_go_at_once_are_pruned_without_slack() -> None:
    old = NOON - RETENTION - TICK

    assert pruned_of(pieces(MAX_PIECES, old)) == seqs(MAX_PIECES)
    assert pruned_of(pieces(MAX_PIECES + 1, old)) == seqs(MAX_PIECES)
    assert pruned_of(pieces(MAX_PIECES - 1, old)) == []


def test_a_piece_is_kept_to_the_end_of_its_retention_and_with_it_all_after_it() -> None:
    given = [*pieces(1, TOO_OLD), PieceSpan(2048, NOON - RETENTION), PieceSpan(3072, TOO_OLD)]

    assert pruned_of(given) == [1024]
    given[1] = PieceSpan(2048, NOON - RETENTION - TICK)
    assert pruned_of(given) == seqs(3)


def test_a_record_that_a_notification_waits_with_is_kept() -> None:
    given = pieces(3, TOO_OLD)

    assert pruned_of(given, waiting=2049) == seqs(2)
    assert pruned_of(given, waiting=2048) == seqs(1)
    assert pruned_of(given, waiting=1) == []
