"""Appends to the audit log by the driver alone: the records of one commit in one row, with one wait for the disk."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from jit_service.domain.audit.chain import link
from jit_service.storage import postgresql
from jit_service.storage.audit_block import pack
from jit_service.storage.columns import EPOCH, MICROSECOND
from jit_service.storage.engine import begin_immediate

_INSERT = "INSERT INTO audit_event (seq, hash, payload, count) VALUES"


class Appended(NamedTuple):
    """The row that was appended: the seq of its last record, and its records as they are stored."""

    seq: int
    stored: bytes


def append(connection: Any, payloads: Sequence[bytes], *, at: datetime, sqlite: bool) -> Appended:
    """Appends the records in order, behind the locked head row, and commits. Raises the driver's errors.

    One record is stored as it is, several as a block. `at` never moves the store's time back (invariant I13).
    """
    time = (at - EPOCH) // MICROSECOND
    # Before the head is locked: nobody else can write meanwhile.
    stored = (payloads[0], None) if len(payloads) == 1 else (pack(payloads), len(payloads))
    cursor = connection.cursor()
    try:
        if sqlite:
            seq = _append_sqlite(cursor, payloads, stored, time)
        else:
            postgresql.begin(connection)
            seq = _append_postgresql(cursor, payloads, stored, time)
        connection.commit()
    except BaseException:
        connection.rollback()
        raise
    finally:
        cursor.close()
    return Appended(seq, stored[0])


def _append_sqlite(cursor: Any, payloads: Sequence[bytes], stored: tuple[bytes, int | None], time: int) -> int:
    begin_immediate(cursor.execute)
    seq, previous = cursor.execute("SELECT seq, hash FROM head").fetchone()
    seq, head = _chained(payloads, seq, previous)
    cursor.execute(f"{_INSERT} (?, ?, ?, ?)", (seq, head, *stored))
    cursor.execute("UPDATE head SET seq = ?, hash = ?, time = max(time, ?)", (seq, head, time))
    return seq


def _append_postgresql(cursor: Any, payloads: Sequence[bytes], stored: tuple[bytes, int | None], time: int) -> int:
    seq, previous = cursor.execute("SELECT seq, hash FROM head FOR UPDATE").fetchone()
    seq, head = _chained(payloads, seq, bytes(previous))
    cursor.execute(f"{_INSERT} (%s, %b, %b, %s)", (seq, head, *stored))
    cursor.execute("UPDATE head SET seq = %s, hash = %s, time = greatest(time, %s)", (seq, head, time))
    return seq


def _chained(payloads: Sequence[bytes], seq: int, previous: bytes) -> tuple[int, bytes]:
    """Returns the seq and the hash of the last of the records that follow."""
    for payload in payloads:
        seq += 1
        previous = link(previous, seq, payload)
    return seq, previous
