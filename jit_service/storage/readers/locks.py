"""Locks, and the caller for whom a thread reads and writes."""

from __future__ import annotations

from contextvars import ContextVar
from functools import cached_property

from sqlalchemy import and_, func, or_
from sqlmodel import col, select

from jit_service.domain.caller import Caller
from jit_service.domain.grants.lock import NO_LOCKS, Lock, Locks, demand_unlocked_caller
from jit_service.storage import predicates, prepared, rows
from jit_service.storage.query import newest_first
from jit_service.storage.readers.reading import Reading
from jit_service.storage.tables import LockRow

_caller: ContextVar[Caller | None] = ContextVar("caller", default=None)


def set_caller(caller: Caller | None) -> None:
    """Sets the caller for whom this thread reads and writes from now on; None is the service itself.

    While a lock is on the caller, every snapshot and transaction of the thread raises Locked. So a lock applies to
    every call from its commit on, and no use case can forget it.
    """
    _caller.set(caller)


class LockReader(Reading):
    """Reads locks. While the head row counts none, the table is not read."""

    @cached_property
    def locks(self) -> Locks:
        """The locks in force."""
        if not self._lock_count:
            return NO_LOCKS
        found = [self._sealed(row, rows.lock_of(row)) for row in prepared.LOCKS.rows(self._connection)]
        if len(found) != self._lock_count:
            raise self._sealer.refuse(f"{self._lock_count} locks may stand, and {len(found)} are there")
        return Locks(found).at(self.now)

    def demand_unlocked(self) -> None:
        """Raises Locked if a lock is on the caller of this thread."""
        if self._lock_count and (caller := _caller.get()) is not None:
            demand_unlocked_caller(self.locks, caller)

    def lock(self, name: str) -> Lock | None:
        """Returns the lock, even if it is lifted or over, or None."""
        row = self._session.get(LockRow, name)
        return None if row is None else self._sealed(row, rows.lock_of(row))

    def all_locks(self, *, over: bool, before: tuple[int, str] | None, limit: int) -> list[Lock]:
        """Returns up to `limit` locks, newest first; with `over`, also lifted and expired ones.

        `before` is as for `delegations`.
        """
        wanted = select(LockRow)
        if not over:
            ends = or_(col(LockRow.expires_at).is_(None), col(LockRow.expires_at) > self.now)
            wanted = wanted.where(col(LockRow.deleted_at).is_(None), ends)
        columns = (col(LockRow.created_at), col(LockRow.name))
        found = self._session.exec(newest_first(wanted, *columns, before=before, limit=limit))
        return [self._sealed(row, rows.lock_of(row)) for row in found]

    def locks_revision(self) -> int:
        """Returns the revision at which a lock was last created or lifted; 0 if there never was one."""
        return self._session.exec(select(func.max(LockRow.revision))).one() or 0

    def expired_locks(self, *, limit: int) -> list[Lock]:
        """Returns the locks that expired, if no event records it yet; the earliest first."""
        if not self._lock_count:
            return []
        over = and_(predicates.lock_counted(), col(LockRow.expires_at) <= self.now)
        found = self._session.exec(select(LockRow).where(over).order_by(col(LockRow.expires_at)).limit(limit))
        return [self._sealed(row, rows.lock_of(row)) for row in found]
