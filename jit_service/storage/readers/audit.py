"""The audit log: its records, and its chain."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from typing import NamedTuple

from sqlmodel import col, select

from jit_service.domain.audit.beginning import PieceSpan
from jit_service.domain.audit.chain import GENESIS
from jit_service.domain.audit.event import SETTINGS, Event, EventType
from jit_service.domain.language.filter import Node
from jit_service.storage.audit_block import Block
from jit_service.storage.audit_partitions import Layout, Partition, layout
from jit_service.storage.audit_records import StoredRecord, records_between
from jit_service.storage.audit_search import Found, Search
from jit_service.storage.audit_summary import FIELDS, Summary, sealed_text
from jit_service.storage.columns import EPOCH, MICROSECOND
from jit_service.storage.readers.log_beginning import LogBeginningReader
from jit_service.storage.readers.seals import SEALED_ANEW
from jit_service.storage.rows import event_of
from jit_service.storage.tables import SettingChangeRow

_STATES = b'"states":'
_RESEALED = f'{{"type":"{EventType.STORE_RESEALED}"'.encode()
_SETTINGS = tuple(f'{{"type":"{type_}"'.encode() for type_ in sorted(SETTINGS))
_CHECK = f'{{"type":"{EventType.ACCESS_CHECKED}"'.encode()
_LINE = b"\n"
_SEALS_AT_ONCE = 64
_LONGEST_SNAPSHOT = timedelta(minutes=10)


class SealedSummary(NamedTuple):
    """The summary of a piece as it is sealed, with the seq and hash of the piece's last record."""

    seq: int
    hash: bytes
    text: str
    seal: bytes


@dataclass(kw_only=True)
class Recomputed:
    """The records after `start` are recomputed up to `last`, whose hash it has; and what those records say.

    `states` has the last seal that they name for each row, `settings` the changes of policies and signals, `revisions`
    the seal of each revision of a policy. `sealing_keys` are the ids of the keys that sealed the store, the last one
    last; there are none while it was never sealed anew.
    """

    start: int = 0
    last: int = 0
    hash: bytes = GENESIS
    states: dict[str, str] = field(default_factory=dict)
    settings: set[tuple[int, str]] = field(default_factory=set)
    revisions: dict[tuple[str, int], str] = field(default_factory=dict)
    sealing_keys: list[str] = field(default_factory=list)

    def begin_after(self, seq: int, hash_: bytes) -> None:
        """Forgets all that was recomputed, and goes on after the record with this hash."""
        self.start = self.last = seq
        self.hash = hash_
        self.states.clear()
        self.settings.clear()
        self.revisions.clear()

    def take(self, block: Block) -> None:
        """Adds the block, which has the next record."""
        for seq, payload in _told(block):
            if seq <= self.last:
                continue
            event = event_of(payload)
            if event.type is EventType.STORE_RESEALED:
                self._seal_anew(event)
            self.states |= event.states
            if event.setting:
                self.settings.add((seq, event.setting))
                if seal := event.states.get(event.policy):
                    self.revisions[event.policy, event.policy_revision] = seal
        self.last, self.hash = block.last, block.hash

    def _seal_anew(self, event: Event) -> None:
        """From here on a row that no record names has a seal of the new key; what the old ones were is past."""
        self.states = {of: SEALED_ANEW for of, state in self.states.items() if state}
        self.sealing_keys += [key for key in (event.replaced_key, event.sealing_key) if key not in self.sealing_keys]


class AuditReader(LogBeginningReader):
    """Reads the audit log by a filter or by seq, and recomputes its hash chain."""

    def audit_events(self, *, node: Node | None, backwards: bool, beyond: int | None, limit: int) -> Found:
        """Returns up to `limit` records that match, from the newest or from the oldest, beyond the seq."""
        after = (beyond or 0) if not backwards else 0
        until = self.seq if not backwards or beyond is None else min(beyond - 1, self.seq)
        return Search(self._log, node, after=after, until=until, backwards=backwards).run(limit)

    def audit_records(self, *, after: int, until: int, enough: int) -> list[StoredRecord]:
        """Returns records after one seq and up to another, in order: at least `enough`, if there are as many."""
        return records_between(self._log, after=after, until=until, enough=enough)

    def oldest_pieces(self, limit: int) -> list[PieceSpan]:
        """Returns the oldest pieces, in order."""
        return [_span(*found) for found in self._log.oldest_pieces(self.log_beginning.seq, limit)]

    @cached_property
    def audit_layout(self) -> Layout:
        """How PostgreSQL has the log partitioned."""
        return layout(self._connection)

    def last_piece_beside(self, seq: int) -> PieceSpan | None:
        """Returns the last piece of the partition that has the piece with the seq, where it can be dropped as a whole.

        None if nobody may drop it, or not all of its pieces are there yet.
        """
        partition = self.audit_layout.of(seq)
        if partition is None or not self.audit_layout.may_change or self._log.merged_until() < partition.end:
            return None
        last = self._log.last_piece(partition.first, partition.end)
        return None if last is None else _span(*last)

    def pruned_partitions(self) -> list[Partition]:
        """Returns the partitions that can be dropped: all in them is pruned, and whoever began to read before is done.

        A snapshot from before the pruning expects what is in them, and a dropped table is gone for it too.
        """
        if not self.log_beginning.was_pruned or not self.audit_layout.may_change:
            return []
        merged, dropped = self._log.merged_until(), []
        for partition in self.audit_layout.partitions:
            if partition.end > merged or self._log.last_piece(partition.first, partition.end) is not None:
                break
            pruned = self.log_beginning_from(partition.end - 1) or self.log_beginning
            if self.now - pruned.pruned_at >= _LONGEST_SNAPSHOT:
                dropped.append(partition)
        return dropped

    def blocks(self, *, after: int, until: int) -> Iterator[Block]:
        """Yields, in order, the blocks that have records after the one seq and up to the other."""
        return self._log.blocks(after=after, until=until)

    def skip_pruned(self, so_far: Recomputed) -> None:
        """Begins anew where the log begins, if it was pruned beyond what is recomputed."""
        beginning = self.log_beginning
        if so_far.last < beginning.seq:
            so_far.begin_after(beginning.seq, bytes.fromhex(beginning.hash))

    @property
    def merged_seq(self) -> int:
        """The seq up to which the records are merged into pieces, which never change again; 0 if there are none."""
        return self._log.merged_until()

    def recompute(self, so_far: Recomputed, *, until: int, enough: int) -> tuple[int, str] | None:
        """Recomputes records after `so_far` and up to a seq: at least `enough`, if there are as many.

        Returns the first wrong seq and why, or None. A later snapshot may go on where this one ended.
        """
        begin = so_far.last
        expected = self._log.first_of_next(begin)
        for block in self._log.blocks(after=begin, until=until):
            if block.first != expected:
                return so_far.last + 1, f"record {so_far.last + 1} is missing"
            if fault := block.first_fault(so_far.hash, done=so_far.last + 1 - block.first):
                return fault
            so_far.take(block)
            expected = block.last + 1
            if so_far.last - begin >= enough:
                break
        return next(self._bad_summaries(begin, so_far.last), None)

    def fault_at_end(self, so_far: Recomputed) -> tuple[int, str] | None:
        """Returns what is wrong once everything is recomputed that there is, and where; None if nothing is."""
        if (so_far.last, so_far.hash) != (self.seq, self.head_hash):
            return so_far.last + 1, f"the log should have {self.seq} records and has {so_far.last}"
        return self._bad_setting(so_far)

    def _bad_summaries(self, after: int, until: int) -> Iterator[tuple[int, str]]:
        """Yields the pieces whose summary is not the one that was made of them."""
        for found in self.summaries(after=after, until=until):
            for seq, hash_, text, seal in found:
                if self._sealer.of_summary(seq, hash_, text) != seal:
                    yield seq, f"the records up to {seq} are summarised as something else than what was hashed"

    def summaries(self, *, after: int, until: int) -> Iterator[list[SealedSummary]]:
        """Yields the summaries of the pieces that end after the one seq and up to the other, some at a time."""
        while seals := self._log.seals(after, until, _SEALS_AT_ONCE):
            low, high = seals[0][0], seals[-1][0]
            by_field = {field: self._log.digests(field, low, high) for field in FIELDS.values()}
            summaries = []
            for seq, first_at, last_at, hash_, seal in seals:
                digests = {field: found[seq] for field, found in by_field.items() if seq in found}
                summaries.append(SealedSummary(seq, hash_, sealed_text(Summary(first_at, last_at, digests)), seal))
            yield summaries
            after = high

    def _bad_setting(self, so_far: Recomputed) -> tuple[int, str] | None:
        """Returns the first change of a policy or signal that is told otherwise than it was recorded."""
        told = self._session.exec(select(SettingChangeRow).where(col(SettingChangeRow.seq) > so_far.start))
        wrong = min(so_far.settings ^ {(row.seq, row.name) for row in told}, default=None)
        return None if wrong is None else (wrong[0], f"record {wrong[0]} is listed as another change of {wrong[1]}")


def _span(seq: int, last_at: int) -> PieceSpan:
    return PieceSpan(seq, EPOCH + last_at * MICROSECOND)


def _told(block: Block) -> Iterator[tuple[int, bytes]]:
    """Yields seq and bytes of the records that may change a row, or a policy or signal. Few do."""
    # Fewer texts to look for: most pieces have nothing but checks.
    texts = (_STATES,) if _are_checks(block) else (_STATES, _RESEALED, *_SETTINGS)
    for place in sorted({line.place for text in texts for line in block.lines_with((text,))}):
        yield block.first + place, block.payloads[place]


def _are_checks(block: Block) -> bool:
    """Whether all records are of checks. A record is one line, so that nothing within it looks as if another began."""
    return block.body.count(_LINE + _CHECK) + block.body.startswith(_CHECK) == block.count
