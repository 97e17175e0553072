"""Notifications that wait in the outbox."""

from __future__ import annotations

from sqlmodel import select

from jit_service.storage import predicates
from jit_service.storage.readers.reading import Reading
from jit_service.storage.tables import OutboxRow


class NotificationReader(Reading):
    """Reads whether a notification is due. `storage.outbox` claims and removes them."""

    def is_due(self, receiver: str) -> bool:
        """Whether a notification of the receiver is due."""
        statement = select(OutboxRow.seq).where(predicates.due(receiver, self.now)).limit(1)
        return self._session.exec(statement).first() is not None
