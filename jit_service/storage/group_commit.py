"""Group commit for SQLite: transactions run one after another, and one commit serves all that were waiting.

A commit waits for the disk, and SQLite has only one transaction at a time. So a transaction leaves its changes
uncommitted and queues again, to commit. Those that were waiting run meanwhile, each in a savepoint of the same
transaction, and the first that gets the lock again commits for all of them. No call returns before the commit that
contains its changes.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.engine import RootTransaction

from jit_service.domain.errors import StoreUnavailable
from jit_service.metrics.catalogue import COMMIT_SECONDS, COMMIT_SIZE, STORE_ERRORS
from jit_service.storage.engine import WAIT_SECONDS
from jit_service.storage.failures import kind_of
from jit_service.tracing import spans


class FairLock:
    """A lock that threads get in the order in which they asked, also a thread that releases it and asks again."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._is_taken = False
        self._queue: deque[threading.Lock] = deque()

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Holds the lock in the block. Raises StoreUnavailable if it is not free within WAIT_SECONDS."""
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
            # Interrupted, perhaps when the lock was already handed over.
            if not self._leave_queue(baton):
                self._release()
            raise
        if not has_come and self._leave_queue(baton):
            STORE_ERRORS.add("busy")
            raise StoreUnavailable("the store is busy: no turn to write in time")

    def _leave_queue(self, baton: threading.Lock) -> bool:
        """Leaves the queue. Returns False if the lock has been handed over just now."""
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
    """Transactions that share one commit. Only the thread that holds the lock uses it, except for `is_over`."""

    def __init__(self, transaction: RootTransaction) -> None:
        self.transaction = transaction
        self.members = 0
        self.is_over = False
        self.fault: BaseException | None = None


class GroupCommit:
    """Runs transactions on SQLite's one write connection. Methods raise StoreUnavailable or the driver's errors."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = FairLock()
        self._connection: Connection | None = None
        self._open: _Group | None = None

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Yields the connection in a transaction, which is committed at the end of the block, or rolled back."""
        group = None
        try:
            with self._lock.hold():
                group = self._join()
                with self._member(group):
                    yield group.transaction.connection
        finally:
            if group is not None:
                with spans.part("commit"):
                    self._end(group)

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Excludes all other writers, with nothing uncommitted, while the block writes on another connection."""
        with self._lock.hold():
            if self._open is not None:
                self._commit(self._open)
            yield

    def close(self) -> None:
        """Closes the connection."""
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
        """Undoes what the block did if it raises, and only that."""
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
        """Commits the group, unless another member has. Raises StoreUnavailable if the commit failed."""
        if not group.is_over:
            with self._lock.hold():
                if not group.is_over:
                    self._commit(group)
        if group.fault is not None:
            raise StoreUnavailable("the store does not answer") from group.fault

    def _commit(self, group: _Group) -> None:
        begun_at = time.perf_counter()
        self._finish(group, group.transaction.commit)
        COMMIT_SECONDS.observe(time.perf_counter() - begun_at, "write")
        COMMIT_SIZE.observe(group.members, "write")

    def _undo(self, group: _Group, driver: Any, fault: BaseException) -> None:
        if not group.members:
            self._finish(group, group.transaction.rollback)
            if isinstance(getattr(fault, "orig", fault), sqlite3.OperationalError):
                # SQLite opens a database read-only where it cannot do better, and it stays so for this connection.
                self._discard()
            return
        try:
            driver.execute("ROLLBACK TO member")
        except sqlite3.Error:
            # The failure may have rolled back the whole transaction.
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
        """Discards the group and its connection; the next group has a new one."""
        STORE_ERRORS.add(kind_of(fault))
        # In this order: a thread that sees `is_over`, without the lock, must also see the fault.
        group.fault = fault
        group.is_over = True
        self._open = None
        self._discard()

    def _discard(self) -> None:
        if self._connection is not None:
            self._connection.invalidate()
        self.close()
