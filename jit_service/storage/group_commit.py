"""SQLite's one writer: transactions one after another, and one commit for all that were waiting for their turn.

A commit waits for the disk, and SQLite can have only one transaction under way. So a transaction that others wait
behind leaves its changes uncommitted and queues again: they run meanwhile, each in a savepoint, and whoever then has
its turn first commits for all of them. Nobody returns before the commit that has its changes.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.engine import RootTransaction

from jit_service.domain.errors import StoreUnavailable
from jit_service.storage.engine import WAIT_SECONDS


class FairLock:
    """A lock that is had in the order it was asked for, also by a thread that gives it back and asks again."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._is_taken = False
        self._queue: deque[threading.Lock] = deque()

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Raises StoreUnavailable where the turn does not come within WAIT_SECONDS."""
        self._take()
        try:
            yield
        finally:
            self._release()

    def _take(self) -> None:
        with self._mutex:
            if not self._is_taken:
                self._is_taken = True
                return
            baton = threading.Lock()
            baton.acquire()
            self._queue.append(baton)
        try:
            has_come = baton.acquire(timeout=WAIT_SECONDS)
        except BaseException:
            # Interrupted, maybe with the turn in hand already.
            if not self._leave_queue(baton):
                self._release()
            raise
        if not has_come and self._leave_queue(baton):
            raise StoreUnavailable("the store is busy: no turn to write in time")

    def _leave_queue(self, baton: threading.Lock) -> bool:
        """Leaves the queue; says no where the turn has come just now."""
        with self._mutex:
            if baton not in self._queue:
                return False
            self._queue.remove(baton)
            return True

    def _release(self) -> None:
        with self._mutex:
            if self._queue:
                self._queue.popleft().release()
            else:
                self._is_taken = False


class _Group:
    """Transactions that one commit makes lasting. Only touched by whoever has the turn, but for `is_over`."""

    def __init__(self, transaction: RootTransaction) -> None:
        self.transaction = transaction
        self.members = 0
        self.is_over = False
        self.fault: BaseException | None = None


class GroupCommit:
    """See the module. Every method raises StoreUnavailable or the driver's errors."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = FairLock()
        self._connection: Connection | None = None
        self._open: _Group | None = None

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Gives the connection within a transaction, which is committed when the block is left, or rolled back."""
        group = None
        try:
            with self._lock.hold():
                group = self._join()
                with self._member(group):
                    yield group.transaction.connection
        finally:
            if group is not None:
                self._end(group)

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Keeps everybody off the database, with nothing uncommitted, for what writes on another connection."""
        with self._lock.hold():
            if self._open is not None:
                self._commit(self._open)
            yield

    def close(self) -> None:
        """Gives the connection back."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _join(self) -> _Group:
        if self._open is None:
            try:
                if self._connection is None:
                    self._connection = self._engine.connect()
                self._open = _Group(self._connection.begin())
            except BaseException:
                self._discard()
                raise
        return self._open

    @contextmanager
    def _member(self, group: _Group) -> Iterator[None]:
        """Takes back what the block did where it raises, and only that."""
        driver: Any = group.transaction.connection.connection.dbapi_connection
        if group.members:
            driver.execute("SAVEPOINT member")
        try:
            yield
            if group.members:
                driver.execute("RELEASE member")
        except BaseException as fault:
            self._undo(group, driver, fault)
            raise
        group.members += 1

    def _end(self, group: _Group) -> None:
        """Commits the group, unless somebody has. Raises StoreUnavailable where it could not be."""
        if not group.is_over:
            with self._lock.hold():
                if not group.is_over:
                    self._commit(group)
        if group.fault is not None:
            raise StoreUnavailable("the store does not answer") from group.fault

    def _commit(self, group: _Group) -> None:
        self._finish(group, group.transaction.commit)

    def _undo(self, group: _Group, driver: Any, fault: BaseException) -> None:
        if not group.members:
            self._finish(group, group.transaction.rollback)
            return
        try:
            driver.execute("ROLLBACK TO member")
        except sqlite3.Error:
            # What failed before may have rolled back everything.
            self._give_up(group, fault)

    def _finish(self, group: _Group, how: Callable[[], None]) -> None:
        try:
            how()
        except BaseException as fault:
            self._give_up(group, fault)
            if not isinstance(fault, Exception):
                raise
        self._open, group.is_over = None, True

    def _give_up(self, group: _Group, fault: BaseException) -> None:
        """Leaves nothing of the group; the next one has another connection."""
        # In this order: whoever sees that it is over, which takes no turn, sees why.
        group.fault = fault
        group.is_over = True
        self._open = None
        self._discard()

    def _discard(self) -> None:
        if self._connection is not None:
            self._connection.invalidate()
        self.close()
