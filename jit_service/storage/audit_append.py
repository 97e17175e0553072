"""Appends to the audit log by the driver alone: many records in one transaction, with one wait for the disk."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import cache
from itertools import chain
from typing import Any, Final

from jit_service.domain.audit.chain import link
from jit_service.storage.engine import begin_immediate
from jit_service.storage.tables import EPOCH, MICROSECOND

_ROWS: Final = 64


def append(connection: Any, payloads: Sequence[bytes], *, at: datetime, sqlite: bool) -> None:
    """Appends the records in order, behind the locked head row, and commits. Raises the driver's errors.

    `at` never moves the store's time back (invariant I13).
    """
    time = (at - EPOCH) // MICROSECOND
    cursor = connection.cursor()
    try:
        if sqlite:
            _append_sqlite(cursor, payloads, time)
        else:
            _append_postgresql(cursor, payloads, time)
        connection.commit()
    except BaseException:
        connection.rollback()
        raise
    finally:
        cursor.close()


def _append_sqlite(cursor: Any, payloads: Sequence[bytes], time: int) -> None:
    begin_immediate(cursor.execute)
    seq, previous = cursor.execute("SELECT seq, hash FROM head").fetchone()
    records = _linked(payloads, seq, previous)
    for start in range(0, len(records), _ROWS):
        some = records[start : start + _ROWS]
        cursor.execute(_inserting(len(some)), list(chain.from_iterable(some)))
    seq, head = records[-1][:2]
    cursor.execute("UPDATE head SET seq = ?, hash = ?, time = max(time, ?)", (seq, head, time))


@cache
def _inserting(rows: int) -> str:
    """Returns the INSERT of so many records. One statement each would let another thread run before each."""
    return f"INSERT INTO audit_event (seq, hash, payload) VALUES {', '.join(['(?, ?, ?)'] * rows)}"  # noqa: S608


def _append_postgresql(cursor: Any, payloads: Sequence[bytes], time: int) -> None:
    seq, previous = cursor.execute("SELECT seq, hash FROM head FOR UPDATE").fetchone()
    records = _linked(payloads, seq, bytes(previous))
    seqs, hashes, stored = (list(column) for column in zip(*records, strict=True))
    # One statement for all records: an INSERT each would cost a round trip each.
    cursor.execute(
        "INSERT INTO audit_event (seq, hash, payload) SELECT * FROM unnest(%b::bigint[], %b::bytea[], %b::bytea[])",
        (seqs, hashes, stored),
    )
    cursor.execute("UPDATE head SET seq = %s, hash = %s, time = greatest(time, %s)", (seqs[-1], hashes[-1], time))


def _linked(payloads: Sequence[bytes], seq: int, previous: bytes) -> list[tuple[int, bytes, bytes]]:
    records = []
    for payload in payloads:
        seq += 1
        previous = link(previous, seq, payload)
        records.append((seq, previous, payload))
    return records
