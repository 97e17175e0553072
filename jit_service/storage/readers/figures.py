"""Figures of the store for whoever watches the service: few and cheap, by indexes that other statements need anyway."""

from __future__ import annotations

from datetime import datetime
from typing import Final, NamedTuple

from sqlalchemy import ColumnElement, and_, case, func, text
from sqlmodel import col, select

from jit_service.storage import predicates
from jit_service.storage.readers.reading import Reading
from jit_service.storage.tables import GrantRow, OutboxRow, SigningKeyRow

MAX_POLICIES: Final = 100
"""Of how many policies the pending requests are told apart: those with the most."""
_SQLITE_BYTES: Final = "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"
_POSTGRESQL_BYTES: Final = "SELECT pg_database_size(current_database())"


class Queue(NamedTuple):
    """What waits of one kind: how many, and since when the oldest does (None: none waits)."""

    name: str
    waiting: int
    oldest_at: datetime | None


class Backlog(NamedTuple):
    """The undelivered notifications of a receiver; `given_up` are not tried again."""

    receiver: str
    waiting: int
    oldest_at: datetime | None
    given_up: int


class Figures(NamedTuple):
    """What the store has at the instant `now`."""

    now: datetime
    pending: tuple[Queue, ...]
    pending_extensions: int
    reviews_owed: int
    reviews_overdue: int
    locks: int
    unrecorded_end_at: datetime | None
    outbox: tuple[Backlog, ...]
    audit_records: int
    unmerged_records: int
    store_bytes: int
    key_signs_since: datetime | None


class FigureReader(Reading):
    """Reads figures."""

    def figures(self) -> Figures:
        """Returns the figures. What takes longest is to count the requests that wait: 0.2 µs for each."""
        owed, overdue = self._reviews()
        return Figures(
            now=self.now,
            pending=self._pending(),
            pending_extensions=self._grants_in(col(GrantRow.extension_expires_at) > self.now),
            reviews_owed=owed,
            reviews_overdue=overdue,
            locks=self._lock_count,
            unrecorded_end_at=self._unrecorded_end(),
            outbox=self._backlogs(),
            audit_records=self.seq,
            unmerged_records=self.seq - self._log.merged_until(),
            store_bytes=self._bytes(),
            key_signs_since=self._signs_since(),
        )

    def _pending(self) -> tuple[Queue, ...]:
        """Returns the requests that wait by policy, the longest queue first; the rest under `other`."""
        count = func.count().label("count")
        wanted = (
            select(GrantRow.policy, count, func.min(GrantRow.created_at))
            .where(predicates.decision_awaited())
            .group_by(col(GrantRow.policy))
            .order_by(count.desc(), col(GrantRow.policy))
        )
        found = [Queue(*row) for row in self._session.exec(wanted)]
        most, rest = found[:MAX_POLICIES], found[MAX_POLICIES:]
        if rest:
            oldest = min(queue.oldest_at for queue in rest if queue.oldest_at is not None)
            most.append(Queue("other", sum(queue.waiting for queue in rest), oldest))
        return tuple(most)

    def _reviews(self) -> tuple[int, int]:
        due = col(GrantRow.review_owed_at)
        return self._grants_in(due.is_not(None)), self._grants_in(and_(due.is_not(None), due <= self.now))

    def _grants_in(self, scope: ColumnElement[bool]) -> int:
        return int(self._session.exec(select(func.count()).select_from(GrantRow).where(scope)).one())

    def _unrecorded_end(self) -> datetime | None:
        """Returns the earliest end that is over and that no event records."""
        unrecorded, ends = predicates.end_unrecorded(), []
        for end, scope in (
            (GrantRow.expires_at, col(GrantRow.expires_at).is_not(None)),
            (GrantRow.request_expires_at, col(GrantRow.expires_at).is_(None)),
        ):
            earliest = select(end).where(unrecorded, scope, col(end) <= self.now).order_by(col(end)).limit(1)
            ends.append(self._session.exec(earliest).first())
        return min((end for end in ends if end is not None), default=None)

    def _backlogs(self) -> tuple[Backlog, ...]:
        waits = col(OutboxRow.gave_up_at).is_(None)
        wanted = (
            select(
                OutboxRow.receiver,
                func.sum(case((waits, 1), else_=0)),
                func.min(case((waits, OutboxRow.at), else_=None)),
                func.sum(case((waits, 0), else_=1)),
            )
            .group_by(col(OutboxRow.receiver))
            .order_by(col(OutboxRow.receiver))
        )
        found = self._session.exec(wanted)
        return tuple(Backlog(name, int(waiting), oldest, int(over)) for name, waiting, oldest, over in found)

    def _bytes(self) -> int:
        is_sqlite = self._connection.dialect.name == "sqlite"
        return int(self._connection.execute(text(_SQLITE_BYTES if is_sqlite else _POSTGRESQL_BYTES)).scalar_one())

    def _signs_since(self) -> datetime | None:
        signing = select(func.max(SigningKeyRow.signs_at)).where(col(SigningKeyRow.signs_at) <= self.now)
        return self._session.exec(signing).one()
