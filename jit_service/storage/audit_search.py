"""Searches the audit log by a filter, from the newest record or from the oldest, without an index of records.

It reads the pieces that may have a wanted record, by their summaries, and in them decodes only the records that contain
what the filter asks for. A search that would take too long ends early, and says where the next one continues.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from itertools import islice
from typing import Final

from pydantic_core import to_json

from jit_service.domain.audit.audit_filter import matches
from jit_service.domain.audit.event import RecordedEvent
from jit_service.domain.checks.decision_id import decided_at
from jit_service.domain.language.filter import And, Comparison, Node, Or
from jit_service.storage.audit_block import Block, Line
from jit_service.storage.audit_log import AuditLog
from jit_service.storage.audit_records import StoredRecord
from jit_service.storage.audit_summary import FIELDS, digest, microseconds
from jit_service.storage.rows import event_of

# What the steps of a search take, in microseconds, and how long one search may go on by them. Counted and not measured,
# so that the same search ends at the same place.
_BUDGET: Final = 1_000_000
_PROBE: Final = 3
_READ_PIECE: Final = 500
_READ_ROW: Final = 5
_DECODE: Final = 25
_ROWS_AT_ONCE: Final = 256
_FEWEST_PIECES: Final = 32
_MOST_PIECES: Final = 2048
_PIECES_AT_ONCE: Final = 8
_EVER: Final = 2**62


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a search found, in order. `resume` is the seq that the next one is to continue from; None at the end."""

    events: list[RecordedEvent]
    resume: int | None


@dataclass(frozen=True, kw_only=True)
class _Bounds:
    """The places and the instants that a wanted record can have, each from the first to the last."""

    low: int
    high: int
    since: int = -_EVER
    until: int = _EVER


class Search:
    """One search in one snapshot. `after` and `until` bound the places: after the one, and up to the other."""

    def __init__(self, log: AuditLog, node: Node | None, *, after: int, until: int, backwards: bool) -> None:
        self._log = log
        self._node = node
        self._backwards = backwards
        self._bounds = _narrowed(node, _Bounds(low=after + 1, high=until))
        self._needles = _needles(node)
        self._left = _BUDGET
        self._resume: int | None = None

    def run(self, limit: int) -> Found:
        """Returns up to `limit` records."""
        merged = self._log.merged_until()
        parts = [self._in_pieces, self._in_rows]
        events: list[RecordedEvent] = []
        for part in reversed(parts) if self._backwards else parts:
            for block in part(merged):
                # No more of a block than is wanted: to decode a record takes as long as to pass over a thousand.
                events += islice(self._found_in(block), limit - len(events))
                seen = block.first if self._backwards else block.last
                if len(events) == limit:
                    return Found(events=events, resume=events[-1].seq)
                if self._left <= 0:
                    return Found(events=events, resume=seen)
            if self._resume is not None:
                break
        return Found(events=events, resume=self._resume)

    def _in_rows(self, merged: int) -> Iterator[Block]:
        low, high = max(self._bounds.low, merged + 1), self._bounds.high
        while low <= high:
            if self._backwards:
                blocks = self._log.rows_backwards(high + 1, _ROWS_AT_ONCE)
            else:
                blocks = self._log.rows(low - 1, _ROWS_AT_ONCE)
            if not blocks:
                return
            for block in blocks:
                if block.last < low or block.first > high:
                    return
                self._left -= _READ_ROW
                yield block
            low, high = (low, blocks[-1].first - 1) if self._backwards else (blocks[-1].last + 1, high)

    def _in_pieces(self, merged: int) -> Iterator[Block]:
        bounds = replace(self._bounds, high=min(self._bounds.high, merged))
        at_once = _FEWEST_PIECES
        while bounds.low <= bounds.high:
            heads = self._log.pieces_between(
                bounds.low, bounds.high, since=bounds.since, until=bounds.until, backwards=self._backwards,
                limit=at_once,
            )  # fmt: skip
            if not heads:
                return
            yield from self._read(self._possible([head.seq for head in heads]))
            last = heads[-1]
            if self._backwards:
                bounds = replace(bounds, high=last.seq - last.size)
            else:
                bounds = replace(bounds, low=last.seq + 1)
            if self._left <= 0:
                self._resume = last.seq - last.size + 1 if self._backwards else last.seq
                return
            # The first pieces often have all that is wanted; what is rare is looked for in many at once.
            at_once = min(4 * at_once, _MOST_PIECES)

    def _possible(self, seqs: Sequence[int]) -> Sequence[int]:
        """Returns those of the pieces that may have a wanted record, in the same order."""
        low, high = min(seqs), max(seqs)

        def without(field: int, wanted: bytes) -> set[int]:
            self._left -= _PROBE * len(seqs)
            return self._log.pieces_without(field, wanted, low, high)

        return _possible(self._node, seqs, without)

    def _read(self, seqs: Sequence[int]) -> Iterator[Block]:
        """Yields the pieces, and keeps none of them: each takes half a megabyte once it is unpacked."""
        for begin in range(0, len(seqs), _PIECES_AT_ONCE):
            wanted = seqs[begin : begin + _PIECES_AT_ONCE]
            found = self._log.pieces(wanted)
            for seq in wanted:
                self._left -= _READ_PIECE
                yield found.pop(seq)

    def _found_in(self, block: Block) -> Iterator[RecordedEvent]:
        for line in self._lines(block):
            seq = block.first + line.place
            if not self._bounds.low <= seq <= self._bounds.high:
                continue
            self._left -= _DECODE
            recorded = RecordedEvent(seq=seq, hash=b"", event=event_of(block.record(line)))
            if matches(self._node, recorded):
                yield replace(recorded, hash=block.hash_of(line, partial(self._log.hash_before, block)))

    def _lines(self, block: Block) -> Iterable[Line]:
        """Returns the records of the block that contain what the filter asks for."""
        lines = block.lines_with(self._needles) if self._needles else block.lines()
        return lines if self._backwards else reversed(list(lines))


def meant(node: Node, records: Iterable[StoredRecord]) -> list[StoredRecord]:
    """Returns those of the records that the filter means. It decodes only what contains the filter's values."""
    needles = _needles(node)
    return [
        record
        for record in records
        if not (isinstance(record.payload, bytes) and any(needle not in record.payload for needle in needles))
        and matches(node, record.recorded)
    ]


def _narrowed(node: Node | None, bounds: _Bounds) -> _Bounds:
    """Returns the bounds within which every record is that the filter means."""
    if isinstance(node, And):
        for operand in node.operands:
            bounds = _narrowed(operand, bounds)
    if not isinstance(node, Comparison):
        return bounds
    if node.field == "decision_id" and node.operator == "=":
        decided = decided_at(str(node.value))
        return bounds if decided is None else _within(bounds, decided, decided + timedelta(milliseconds=1))
    # Bounds are inclusive; what lies on them is judged by the filter.
    from_below, from_above = node.operator in ("=", ">", ">="), node.operator in ("=", "<", "<=")
    if node.field == "seq" and isinstance(node.value, int):
        low = max(bounds.low, node.value) if from_below else bounds.low
        return replace(bounds, low=low, high=min(bounds.high, node.value) if from_above else bounds.high)
    if node.field == "event_time" and isinstance(node.value, datetime):
        return _within(bounds, node.value if from_below else None, node.value if from_above else None)
    return bounds


def _within(bounds: _Bounds, since: datetime | None, until: datetime | None) -> _Bounds:
    return replace(
        bounds,
        since=bounds.since if since is None else max(bounds.since, microseconds(since)),
        until=bounds.until if until is None else min(bounds.until, microseconds(until)),
    )


def _possible(node: Node | None, seqs: Sequence[int], without: Callable[[int, bytes], set[int]]) -> Sequence[int]:
    """Returns those of the pieces that may have a record that the filter means, by their digests, in the same order."""
    match node:
        case And(operands=operands):
            for operand in operands:
                seqs = _possible(operand, seqs, without) if seqs else seqs
        case Or(operands=operands):
            found = {seq for operand in operands for seq in _possible(operand, seqs, without)}
            return [seq for seq in seqs if seq in found]
        case Comparison() if _is_equality(node) and node.field in FIELDS:
            # What is not known to be without it is read, as a piece whose digests somebody deleted.
            impossible = without(FIELDS[node.field], digest(str(node.value)))
            return [seq for seq in seqs if seq not in impossible]
    return seqs


def _is_equality(comparison: Comparison) -> bool:
    """Whether a record that is meant has exactly this value in the field."""
    if comparison.field == "grant" and str(comparison.value).endswith("*"):
        return False
    return comparison.operator == "=" or (
        comparison.operator == ":" and comparison.field in ("resources", "actions", "amr")
    )


def _needles(node: Node | None) -> list[bytes]:
    """Returns texts that are in the bytes of every record that the filter means."""
    if isinstance(node, And):
        return [needle for operand in node.operands for needle in _needles(operand)]
    # An empty value is left out of the bytes, and a number or an instant may be written otherwise.
    if isinstance(node, Comparison) and _is_equality(node) and isinstance(node.value, str) and node.value:
        return [to_json(node.value)]
    return []
