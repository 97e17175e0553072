"""Notifications that wait in the outbox."""

from __future__ import annotations

from sqlmodel import select

from jit_service.storage import predicates
from jit_service.storage.readers.reading import Reading
from jit_service.storage.tables import OutboxRow


class NotificationReader(Reading):
    """Reads whether anything is to be delivered; `storage.outbox` delivers."""

    def is_due(self, receiver: str) -> bool:
        """Says whether a notification of the receiver is to be delivered now."""
        statement = select(OutboxRow.seq).where(predicates.due(receiver, self.now)).limit(1)
        return self._session.exec(statement).first() is not None
