"""Where the audit log begins, and what was kept of the records that were pruned before it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cached_property

from sqlmodel import col, select

from jit_service.domain.audit.beginning import WHOLE, Beginning
from jit_service.domain.audit.event import Event
from jit_service.storage import rows
from jit_service.storage.readers.reading import Reading
from jit_service.storage.tables import AuditBeginningRow, SettingChangeRow


class LogBeginningReader(Reading):
    """Reads the beginning of the audit log."""

    @cached_property
    def log_beginning(self) -> Beginning:
        """Where the audit log begins. Raises StoreUnavailable if that is not as this service left it."""
        last = select(AuditBeginningRow).order_by(col(AuditBeginningRow.seq).desc()).limit(1)
        row = self._session.exec(last).first()
        return WHOLE if row is None else self._beginning_of(row)

    def log_beginning_from(self, seq: int) -> Beginning | None:
        """Returns where the log has begun once the record with the seq was pruned; None if it is not.

        Raises StoreUnavailable if that is not as this service left it.
        """
        wanted = select(AuditBeginningRow).where(col(AuditBeginningRow.seq) >= seq)
        row = self._session.exec(wanted.order_by(col(AuditBeginningRow.seq)).limit(1)).first()
        return None if row is None else self._beginning_of(row)

    def log_beginnings(self) -> list[Beginning]:
        """Returns every place at which the log has begun since it was first pruned, in order."""
        found = self._session.exec(select(AuditBeginningRow).order_by(col(AuditBeginningRow.seq))).all()
        return [self._beginning_of(row) for row in found]

    def _beginning_of(self, row: AuditBeginningRow) -> Beginning:
        """Raises StoreUnavailable if the row does not match its seal."""
        self._sealer.demand(beginning_name(row.seq), row.document, row.seal)
        return rows.BEGINNINGS.validate_python(row.document)

    def beginning_fault(self) -> tuple[int, str] | None:
        """Returns what is wrong with the log's beginnings, and where; None if nothing is."""
        for row in self._session.exec(select(AuditBeginningRow).order_by(col(AuditBeginningRow.seq))):
            genuine = self._sealer.of(beginning_name(row.seq), row.document)
            if row.seal is None or genuine != bytes(row.seal) or row.document["hash"] != bytes(row.hash).hex():
                return row.seq, f"the log's beginning after record {row.seq} is not as this service left it"
        if self._carried_digest() != self.log_beginning.carried:
            return self.log_beginning.seq, "what was kept of pruned changes of policies and signals is not as it was"
        return None

    def carried_settings(self) -> list[tuple[int, Event]]:
        """Returns seq and event of the last change of each policy and signal whose record was pruned, in order.

        Raises StoreUnavailable if they are not as this service left them.
        """
        if not self.log_beginning.was_pruned:
            return []
        if self._carried_digest() != self.log_beginning.carried:
            raise self._sealer.refuse("changes of policies and signals before the log's beginning are not as they were")
        return [(row.seq, rows.event_of(bytes(row.payload or b""))) for row in self._carried()]

    def _carried(self) -> list[SettingChangeRow]:
        kept = select(SettingChangeRow).where(col(SettingChangeRow.seq) <= self.log_beginning.seq)
        return list(self._session.exec(kept.order_by(col(SettingChangeRow.seq))))

    def _carried_digest(self) -> str:
        if not self.log_beginning.was_pruned:
            return ""
        return digest_of_carried((row.seq, row.name, bytes(row.payload or b"")) for row in self._carried())


def beginning_name(seq: int) -> str:
    """Returns the name under which the beginning after the record is sealed."""
    return f"audit_beginning/{seq}"


def digest_of_carried(changes: Iterable[tuple[int, str, bytes]]) -> str:
    """Returns a digest of seq, name and record of each change, in hex."""
    digest = hashlib.sha256()
    for seq, name, payload in changes:
        for part in (str(seq).encode(), name.encode(), payload):
            digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()
