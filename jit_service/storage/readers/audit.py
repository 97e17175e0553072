"""The audit log: its records, and its chain."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import and_
from sqlmodel import col, select

from jit_service.domain.audit.chain import GENESIS, link
from jit_service.domain.audit.event import RecordedEvent
from jit_service.domain.language.filter import Node
from jit_service.domain.language.paging import OrderTerm, Position
from jit_service.storage import rows
from jit_service.storage.query import AUDIT_COLUMNS, matching, page
from jit_service.storage.readers.reading import Reading
from jit_service.storage.tables import AuditIndexRow, AuditRow

VERIFY_CHUNK = 1000
_STATES = b'"states":'


class AuditReader(Reading):
    """Reads the audit log by its index or by seq, and recomputes its hash chain."""

    def audit_events(
        self, *, node: Node | None, order: Sequence[OrderTerm], after: Position | None, limit: int
    ) -> list[tuple[RecordedEvent, Position]]:
        """Returns up to `limit` records that match, in order, each with its position for the next page.

        It finds only records that `Store.index_audit` has indexed.
        """
        wanted = select(AuditRow).join(AuditIndexRow, col(AuditIndexRow.seq) == col(AuditRow.seq))
        wanted = wanted.where(matching(node, AUDIT_COLUMNS, now=self.now)).limit(limit)
        found = self._session.execute(page(wanted, AUDIT_COLUMNS, order=order, after=after))
        return [(rows.recorded_event_of(row[0]), tuple(row[1:])) for row in found]

    def audit_records(self, *, after: int, until: int, limit: int) -> list[RecordedEvent]:
        """Returns up to `limit` records after one seq and up to another, in order; indexed or not."""
        within = and_(col(AuditRow.seq) > after, col(AuditRow.seq) <= until)
        found = self._session.exec(select(AuditRow).where(within).order_by(col(AuditRow.seq)).limit(limit))
        return [rows.recorded_event_of(row) for row in found]

    def first_bad_record(self, *, indexed: int, states: dict[str, str]) -> tuple[int, str] | None:
        """Recomputes the chain from the first record to the head. Returns the first wrong seq and why, or None.

        `indexed` is the seq up to which the log was indexed before this snapshot. `states` receives the last seal that
        the log names for each row.
        """
        previous, expected = GENESIS, 1
        while chunk := self._records_from(expected, VERIFY_CHUNK):
            index = self._index_from(expected, VERIFY_CHUNK)
            for row in chunk:
                if problem := _problem(row, previous, expected):
                    return expected, problem
                if row.seq <= indexed and not rows.index_matches(row, index.get(row.seq)):
                    return expected, f"record {row.seq} is indexed as something else than what was hashed"
                if _STATES in row.payload:
                    states |= rows.recorded_event_of(row).event.states
                previous, expected = row.hash, expected + 1
            self._session.expunge_all()
        if (expected - 1, previous) != (self.seq, self.head_hash):
            return expected, f"the log should have {self.seq} records and has {expected - 1}"
        if indexed > self.seq:
            return self.seq + 1, f"the index has records up to {indexed}, the log up to {self.seq}"
        return None

    def _records_from(self, seq: int, limit: int) -> Sequence[AuditRow]:
        statement = select(AuditRow).where(col(AuditRow.seq) >= seq).order_by(col(AuditRow.seq)).limit(limit)
        return self._session.exec(statement).all()

    def _index_from(self, seq: int, limit: int) -> dict[int, AuditIndexRow]:
        of = AuditIndexRow
        statement = select(of).where(col(of.seq) >= seq).order_by(col(of.seq)).limit(limit)
        return {row.seq: row for row in self._session.exec(statement)}


def _problem(row: AuditRow, previous: bytes, expected: int) -> str:
    if row.seq != expected:
        return f"record {expected} is missing"
    # An edit by hand may leave text or a number in place of bytes.
    if not isinstance(row.payload, bytes) or link(previous, row.seq, row.payload) != row.hash:
        return f"record {row.seq} is not what was hashed"
    return ""
