"""The audit log's records, read in order from the blocks that they are stored in."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import islice
from typing import Any, Final, NamedTuple

from jit_service.domain.audit.chain import GENESIS
from jit_service.domain.audit.event import RecordedEvent
from jit_service.storage.audit_block import Block
from jit_service.storage.audit_log import AuditLog
from jit_service.storage.rows import event_of


class StoredRecord(NamedTuple):
    """A record with the bytes that were hashed. What somebody changed in the store may be no bytes."""

    seq: int
    hash: bytes
    payload: Any

    @property
    def recorded(self) -> RecordedEvent:
        """The record as an event; one of type UNREADABLE if it is none."""
        return RecordedEvent(seq=self.seq, hash=self.hash, event=event_of(self.payload))


def records_between(log: AuditLog, *, after: int, until: int, enough: int) -> list[StoredRecord]:
    """Returns records after the one seq and up to the other, in order: those of whole blocks, until there are enough.

    Of records that are lost, it has none.
    """
    found: list[StoredRecord] = []
    last, hash_ = 0, GENESIS
    for block in log.blocks(after=after, until=until):
        before = hash_ if last == block.first - 1 else log.hash_before(block)
        found += _within(block, before, after, until)
        last, hash_ = block.last, block.hash
        if len(found) >= enough:
            break
    return found


def payload_at(log: AuditLog, seq: int) -> bytes | None:
    """Returns the bytes of the record with the seq, None if there is none, or what somebody put there is no bytes."""
    block = log.block_of(seq)
    payload = None if block is None else block.payloads[seq - block.first]
    return payload if isinstance(payload, bytes) else None


def record_at(log: AuditLog, seq: int) -> RecordedEvent | None:
    """Returns the record with the seq, None if there is none."""
    block = log.block_of(seq)
    if block is None:
        return None
    place = StoredRecord(seq, block.hash_at(seq, log.hash_before(block)), block.payloads[seq - block.first])
    return place.recorded


def _within(block: Block, before: bytes, after: int, until: int) -> Iterator[StoredRecord]:
    # Without a call of Python's own for each record: an export makes one of every record that there is.
    numbered = map(_record, zip(range(block.first, block.last + 1), block.hashes(before), block.payloads, strict=False))
    return islice(numbered, max(0, after + 1 - block.first), max(0, until + 1 - block.first))


_record: Final = partial(tuple.__new__, StoredRecord)
