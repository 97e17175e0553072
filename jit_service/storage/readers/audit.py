"""The audit log: its records, and its chain."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sqlmodel import select

from jit_service.domain.audit.chain import GENESIS
from jit_service.domain.audit.event import SETTINGS
from jit_service.domain.language.filter import Node
from jit_service.storage.audit_block import Block
from jit_service.storage.audit_records import StoredRecord, records_between
from jit_service.storage.audit_search import Found, Search
from jit_service.storage.audit_summary import FIELDS, Summary, sealed_text
from jit_service.storage.readers.reading import Reading
from jit_service.storage.rows import event_of
from jit_service.storage.tables import SettingChangeRow

_STATES = b'"states":'
_SETTINGS = tuple(f'{{"type":"{type_}"'.encode() for type_ in sorted(SETTINGS))
_SEALS_AT_ONCE = 64


class AuditReader(Reading):
    """Reads the audit log by a filter or by seq, and recomputes its hash chain."""

    def audit_events(self, *, node: Node | None, backwards: bool, beyond: int | None, limit: int) -> Found:
        """Returns up to `limit` records that match, from the newest or from the oldest, beyond the seq."""
        after = (beyond or 0) if not backwards else 0
        until = self.seq if not backwards or beyond is None else min(beyond - 1, self.seq)
        return Search(self._log, node, after=after, until=until, backwards=backwards).run(limit)

    def audit_records(self, *, after: int, until: int, enough: int) -> list[StoredRecord]:
        """Returns records after one seq and up to another, in order: at least `enough`, if there are as many."""
        return records_between(self._log, after=after, until=until, enough=enough)

    def first_bad_record(
        self, *, states: dict[str, str], progress: Callable[[int], None] = lambda _: None
    ) -> tuple[int, str] | None:
        """Recomputes the chain from the first record to the head. Returns the first wrong seq and why, or None.

        `states` receives the last seal that the log names for each row. `progress` is told how far it is.
        """
        previous, expected = GENESIS, 1
        settings: set[tuple[int, str]] = set()
        for block in self._log.blocks(after=0, until=2**62):
            if block.first != expected:
                return expected, f"record {expected} is missing"
            if fault := block.first_fault(previous):
                return fault
            for seq, payload in _told(block, (_STATES, *_SETTINGS)):
                event = event_of(payload)
                states |= event.states
                if event.type in SETTINGS:
                    settings.add((seq, event.policy or event.signal))
            previous, expected = block.hash, block.last + 1
            progress(block.last)
        if (expected - 1, previous) != (self.seq, self.head_hash):
            return expected, f"the log should have {self.seq} records and has {expected - 1}"
        return next(self._bad_summaries(), None) or self._bad_setting(settings)

    def _bad_summaries(self) -> Iterator[tuple[int, str]]:
        """Yields the pieces whose summary is not the one that was made of them."""
        after = 0
        while seals := self._log.seals(after, _SEALS_AT_ONCE):
            low, high = seals[0][0], seals[-1][0]
            by_field = {field: dict(self._log.digests(field, low, high)) for field in FIELDS.values()}
            for seq, first_at, last_at, hash_, seal in seals:
                digests = {field: found[seq] for field, found in by_field.items() if seq in found}
                summary = Summary(first_at, last_at, digests)
                if self._sealer.of_summary(seq, hash_, sealed_text(summary)) != seal:
                    yield seq, f"the records up to {seq} are summarised as something else than what was hashed"
            after = high

    def _bad_setting(self, recorded: set[tuple[int, str]]) -> tuple[int, str] | None:
        """Returns the first change of a policy or signal that is told otherwise than it was recorded."""
        listed = {(row.seq, row.name) for row in self._session.exec(select(SettingChangeRow))}
        wrong = min(recorded ^ listed, default=None)
        return None if wrong is None else (wrong[0], f"record {wrong[0]} is listed as another change of {wrong[1]}")


def _told(block: Block, texts: tuple[bytes, ...]) -> Iterator[tuple[int, bytes]]:
    """Yields seq and bytes of the records that contain one of the texts."""
    if any(text in block.body for text in texts):
        for seq, payload in enumerate(block.payloads, start=block.first):
            if any(text in payload for text in texts):
                yield seq, payload
