"""Notifications that wait in the outbox."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import func
from sqlmodel import col, select

from jit_service.domain.routing import Address
from jit_service.storage import predicates, prepared
from jit_service.storage.readers.reading import Reading
from jit_service.storage.tables import OutboxRow, SentMessageRow, ToldRow


class NotificationReader(Reading):
    """Reads whether a notification is due. `storage.outbox` claims and removes them."""

    def is_due(self, receiver: str) -> bool:
        """Whether a notification of the receiver is due."""
        return bool(prepared.DUE_NOTIFICATION.rows(self._connection, receiver=receiver, now=self.now))

    def first_notification_seq(self) -> int | None:
        """Returns the seq of the first record that somebody is still to be told of; None if there is none."""
        waiting = select(func.min(OutboxRow.seq)).where(col(OutboxRow.gave_up_at).is_(None))
        return self._session.exec(waiting).one()

    def has_old_notifications(self, *, before: datetime, receivers: Collection[str]) -> bool:
        """Whether `Outbox.forget` would forget anything."""
        old = (
            select(OutboxRow.seq).where(predicates.is_forgettable(before, receivers)),
            select(SentMessageRow.at).where(col(SentMessageRow.at) < before),
        )
        return any(self._session.exec(each.limit(1)).first() is not None for each in old)

    def told_before(self, grant: str) -> list[Address]:
        """Returns where people were told that something about the grant waits for them."""
        statement = select(ToldRow).where(ToldRow.grant_name == grant)
        found = self._session.exec(statement.order_by(col(ToldRow.receiver), col(ToldRow.addressee)))
        return [Address(row.receiver, row.addressee, row.principal) for row in found]
