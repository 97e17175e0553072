"""The store: its connections, and the transactions that begin on them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from datetime import datetime, timedelta
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import Connection, QueuePool, insert, or_, update
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select

from jit_service.domain.errors import StoreUnavailable
from jit_service.domain.notification import Subscription
from jit_service.domain.routing import Route
from jit_service.metrics.catalogue import COMMIT_SECONDS, COMMIT_SIZE
from jit_service.metrics.events import count_committed
from jit_service.storage import audit_append, audit_compaction, postgresql, prepared
from jit_service.storage import engine as engines
from jit_service.storage.audit_log import AuditLog
from jit_service.storage.audit_partitions import AuditPartitions
from jit_service.storage.audit_summary import Outline
from jit_service.storage.door import Door
from jit_service.storage.failures import demand_outcome
from jit_service.storage.grant_loader import GrantLoader
from jit_service.storage.group_commit import GroupCommit
from jit_service.storage.head import Head
from jit_service.storage.outbox import Outbox
from jit_service.storage.policy_cache import NO_POLICIES
from jit_service.storage.readers.reading import Clock, read_head
from jit_service.storage.readers.seals import seal_rows
from jit_service.storage.resealing import ResealingTransaction
from jit_service.storage.sealing import sums_text
from jit_service.storage.sealing_keys import SealingKeys, Superseded
from jit_service.storage.snapshot import Snapshot
from jit_service.storage.tables import HeadRow, LeaseRow
from jit_service.storage.transaction import Transaction
from jit_service.tracing import spans

AnyTransaction = TypeVar("AnyTransaction", bound=Transaction)
# In pages of 4 KB.
_LONG_WAL = 1000
_LONGEST_LEASE = timedelta(hours=1)


class Clocks(NamedTuple):
    """The database's clock, None where it is this host's; and the latest instant on record, if there is one."""

    database: datetime | None
    newest: datetime | None


class Store:
    """The store behind a database URL. Every method raises StoreUnavailable when the database does not answer.

    The commit of an event leaves a notification in the outbox for each subscription that wants the event, and
    for each address that a route leads to.
    """

    def __init__(
        self,
        url: str,
        *,
        clock: Clock,
        subscriptions: Iterable[Subscription] = (),
        routes: Iterable[Route] = (),
        keys: SealingKeys | None = None,
    ) -> None:
        """`keys` seal the rows that decisions rest on. Only tests leave them out."""
        self.keys = SealingKeys.of(b"") if keys is None else keys
        self.door = Door()
        self.engine = engines.open_engine(url)
        self._reading = engines.for_reading(self.engine)
        self._writing = engines.for_writing(self.engine)
        self._merging = engines.for_merging(self.engine)
        self.audit_partitions = AuditPartitions(self._merging, self.door)
        self.clock = clock
        self._subscriptions = tuple(subscriptions)
        self._routes = tuple(routes)
        self._appending: Any = None
        # Two threads on one connection would be in one transaction: the rollback of one undoes a record of the other.
        self._append_turn = threading.Lock()
        self._own_blocks = audit_compaction.OwnBlocks()
        # SQLite has one writer at a time. Waiting for it here is fair and quick; SQLite's own busy wait is neither.
        self._group_commit = GroupCommit(self._writing) if self.engine.dialect.name == "sqlite" else None
        self._on_commit: list[Callable[[Head], None]] = []
        self._policies = NO_POLICIES
        # Whether the last write failed: when the disk is full, reads still succeed.
        self._cannot_write = False

    def on_commit(self, notice: Callable[[Head], None]) -> None:
        """Calls `notice` with the head after each commit of this process; it must be quick and not raise."""
        self._on_commit.append(notice)

    def prove_writing(self) -> None:
        """Tries to write if the last write failed. Raises StoreUnavailable if that fails too.

        It is also raised while a stored row does not match its seal.
        """
        if self.keys.refused:
            raise StoreUnavailable(min(self.keys.refused))
        if self._cannot_write:
            with self._write() as connection:
                # Up and down again: SQLite writes nothing if no value changes.
                for step in (1, -1):
                    connection.execute(update(HeadRow).values(revision=HeadRow.revision + step))

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """Reads one consistent, committed state."""
        with spans.part("store.read"), self.door.passed(), ExitStack() as reading:
            try:
                snapshot = self._begin_reading(reading)
            except Superseded:
                # It began just before another thread saw the new key; a state that is read now has that key.
                reading.close()
                snapshot = self._begin_reading(reading)
            snapshot.demand_unlocked()
            yield snapshot
        self._keep_policies(snapshot)

    def _begin_reading(self, reading: ExitStack) -> Snapshot:
        connection = reading.enter_context(self._reading.begin())
        return Snapshot(connection, self.clock, self.keys, policy_cache=self._policies)

    @contextmanager
    def long_snapshot(self) -> Iterator[Snapshot]:
        """As `snapshot`, for whoever computes much between two reads."""
        # While the store hangs, one call tries it, and the others are refused until that one is over: so not this one.
        self.head()
        with self.snapshot() as snapshot, snapshot.kept_open():
            yield snapshot

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Begins a write transaction: commits at the end of the block, or rolls back if the block raises."""
        with self._transaction(Transaction) as transaction:
            yield transaction

    @contextmanager
    def resealing(self) -> Iterator[ResealingTransaction]:
        """Begins a write transaction that seals everything anew."""
        with self._transaction(ResealingTransaction) as transaction:
            yield transaction

    @contextmanager
    def _transaction(self, kind: type[AnyTransaction]) -> Iterator[AnyTransaction]:
        with self._write() as connection:
            transaction = kind(
                connection,
                self.clock,
                self.keys,
                policy_cache=self._policies,
                subscriptions=self._subscriptions,
                routes=self._routes,
            )
            transaction.demand_unlocked()
            yield transaction
            transaction.finish()
            # Also if the commit fails: then no later head has this one in its history, and the policies are read again.
            self._keep_policies(transaction)
        count_committed(transaction.recorded)
        for notice in self._on_commit:
            notice(transaction.head)

    def append(self, payloads: Sequence[bytes], *, at: datetime, outline: Outline | None = None) -> None:
        """Appends records to the audit log in one transaction of its own. `at` is the latest instant among them.

        `outline` has what merging needs to know of them; without it they are read for that. By the driver alone,
        without SQLAlchemy, since every check waits for it.
        """
        with spans.part("commit"), self._note_outcome(), self.door.passed(), self._exclusive(), self._append_turn:
            begun_at = time.perf_counter()
            connection = self._append_connection()
            try:
                appended = audit_append.append(
                    connection.dbapi_connection, payloads, at=at, sqlite=self._group_commit is not None
                )
            except BaseException:
                self._appending = None
                connection.invalidate()
                raise
            COMMIT_SECONDS.observe(time.perf_counter() - begun_at, "checks")
            COMMIT_SIZE.observe(len(payloads), "checks")
            if outline is not None:
                self._own_blocks.add(appended, outline)

    def is_unsealed(self) -> bool:
        """Whether the store has content and no seal: it is from before rows were sealed."""
        with self.door.passed(), self._reading.begin() as connection:
            head = read_head(connection)
            return head.revision > 0 and not head.sums and head.seal is None

    def seal_existing(self) -> int:
        """Seals every row as it is, in a store that has no seals. Returns the number of rows.

        This trusts whoever could write to the database until now.
        """
        with self._write() as connection, Session(connection) as session:
            head = read_head(connection, prepared.LOCKED_HEAD)
            sealer = self.keys.first
            sums, count = seal_rows(session, sealer)
            seal = sealer.of_head(revision=head.revision, locks=head.locks, sums=sums_text(sums))
            session.execute(update(HeadRow).values(sums=sums_text(sums), seal=seal, sealing_key=sealer.key_id))
            return count

    @contextmanager
    def outbox(self) -> Iterator[Outbox]:
        """Begins a transaction that changes only the outbox."""
        with self._write() as connection, Session(connection) as session:
            yield Outbox(session, AuditLog.of(connection), now=max(self.clock(), read_head(connection).time))

    def clocks(self) -> Clocks:
        """Returns what the store knows of the time."""
        with self.door.passed(), self._reading.begin() as connection:
            head = read_head(connection)
            database = None
            if connection.dialect.name != "sqlite":
                database = connection.exec_driver_sql("SELECT clock_timestamp()").scalar_one()
            return Clocks(database, head.time if head.seq else None)

    def take_lease(self, task: str, holder: str, *, span: timedelta) -> bool:
        """Takes or prolongs the lease of a task that one process alone is to do. Returns whether the holder has it."""
        with self._write() as connection:
            now = max(self.clock(), read_head(connection).time)
            free = or_(col(LeaseRow.holder) == holder, col(LeaseRow.expires_at) <= now)
            # One that ends later than any could is none: somebody would stop the task by it.
            free = or_(free, col(LeaseRow.expires_at) > now + _LONGEST_LEASE)
            held = {"holder": holder, "expires_at": now + span}
            taken = connection.execute(update(LeaseRow).where(col(LeaseRow.task) == task, free).values(**held))
            if taken.rowcount == 1:
                return True
            if connection.execute(select(LeaseRow).where(col(LeaseRow.task) == task)).first() is not None:
                return False
            try:
                with connection.begin_nested():
                    connection.execute(insert(LeaseRow).values(task=task, **held))
            except IntegrityError:
                return False
            return True

    def grant_loader(self) -> GrantLoader:
        """Returns a loader of what Check keeps in memory, on a connection of its own."""
        return GrantLoader(self.engine, self.keys, self.door)

    def head(self) -> Head:
        """Returns where the store is in its history."""
        with self.snapshot() as snapshot:
            return snapshot.head

    def merge_audit(self, *, rest: Callable[[], None] = lambda: None) -> int:
        """Merges the next rows of the audit log into a piece. Returns how many records it has; 0 if there are too few.

        `rest` is called now and then while it computes. What another process merges at the same time is left to it.
        """
        with self.door.passed(), self._merging.connect() as connection:
            log = AuditLog.of(connection)
            driver: Any = connection.connection.dbapi_connection
            outlined = audit_compaction.next_blocks(log, self._own_blocks)
            if not outlined:
                return 0
            sealer, _ = self.keys.opening(read_head(connection))
            values, digests = audit_compaction.merged(outlined, sealer, rest=rest)
            blocks = [block for block, _ in outlined]
            driver.rollback()
            with self._exclusive():
                if self._group_commit is not None:
                    engines.begin_immediate(driver.execute)
                try:
                    is_replaced = log.put_piece(blocks, values, digests)
                    # After the piece is written: what seals the store anew waits for it, or this has waited for that.
                    is_replaced = is_replaced and self.keys.opening(read_head(connection))[0] is sealer
                except BaseException:
                    driver.rollback()
                    raise
                driver.commit() if is_replaced else driver.rollback()
            return sum(block.count for block in blocks) if is_replaced else 0

    def checkpoint_wal(self) -> None:
        """Copies SQLite's WAL into the database file while others write; PostgreSQL checkpoints by itself.

        A WAL of more than _LONG_WAL pages is restarted at its beginning, which stalls writers while the last pages are
        copied.
        """
        if self._group_commit is None:
            return
        with self.door.passed(), self._writing.connect() as connection:
            driver: Any = connection.connection.dbapi_connection
            _, pages, _ = driver.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            if pages > _LONG_WAL:
                with self._group_commit.exclusive():
                    driver.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()

    def connections(self) -> tuple[int, int, int]:
        """Returns how many connections of the pools are in use, how many are idle, and how many there may be."""
        # On PostgreSQL they are one.
        pools = {engine.pool for engine in (self.engine, self._writing, self._merging)}
        queues = [pool for pool in pools if isinstance(pool, QueuePool)]
        most = sum(pool.size() + max(0, pool._max_overflow) for pool in queues)
        return sum(pool.checkedout() for pool in queues), sum(pool.checkedin() for pool in queues), most

    def close(self) -> None:
        """Closes every connection."""
        if self._appending is not None:
            self._appending.close()
        if self._group_commit is not None:
            self._group_commit.close()
        for engine in (self._writing, self._merging, self.engine):
            engine.dispose()

    def _exclusive(self) -> AbstractContextManager[None]:
        """Excludes the other writers of this process on SQLite, which has one writer at a time."""
        return nullcontext() if self._group_commit is None else self._group_commit.exclusive()

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        """Begins a write transaction; commits it at the end of the block, or rolls it back if the block raises."""
        with spans.part("store.write"), self._note_outcome(), self.door.passed():
            if self._group_commit is not None:
                with self._group_commit.transaction() as connection:
                    yield connection
            else:
                with self._writing.connect() as connection, connection.begin() as transaction:
                    yield connection
                    begun_at = time.perf_counter()
                    with spans.part("commit"), demand_outcome():
                        transaction.commit()
                    COMMIT_SECONDS.observe(time.perf_counter() - begun_at, "write")
                    COMMIT_SIZE.observe(1, "write")

    @contextmanager
    def _note_outcome(self) -> Iterator[None]:
        """Remembers whether the store accepted what the block wrote."""
        try:
            yield
        except StoreUnavailable:
            self._cannot_write = True
            raise
        self._cannot_write = False

    def _keep_policies(self, snapshot: Snapshot) -> None:
        """Keeps the policies that the transaction has read, for the next one."""
        if snapshot.policy_cache is not None:
            self._policies = snapshot.policy_cache

    def _append_connection(self) -> Any:
        """Returns the one connection that appends. Only the thread whose turn it is uses it."""
        kept, on_postgresql = self._appending, self._group_commit is None
        if kept is not None and on_postgresql and postgresql.has_ended(kept.dbapi_connection):
            self._appending = None
            kept.invalidate()
        if self._appending is None:
            self._appending = self._writing.raw_connection()
            self._appending.detach()
        return self._appending
