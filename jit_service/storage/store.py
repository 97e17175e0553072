"""The store: its connections, and the transactions that begin on them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, update
from sqlmodel import Session, select

from jit_service.domain.errors import StoreUnavailable
from jit_service.domain.notification import Subscription
from jit_service.storage import audit_append, audit_index, postgresql, prepared
from jit_service.storage import engine as engines
from jit_service.storage.failures import translate_errors
from jit_service.storage.grant_loader import GrantLoader
from jit_service.storage.group_commit import GroupCommit
from jit_service.storage.head import Head
from jit_service.storage.outbox import Outbox
from jit_service.storage.policy_cache import NO_POLICIES
from jit_service.storage.readers.reading import Clock, read_head
from jit_service.storage.readers.seals import seal_rows
from jit_service.storage.sealing import Sealer, sums_text
from jit_service.storage.snapshot import Snapshot
from jit_service.storage.tables import AuditIndexRow, HeadRow
from jit_service.storage.transaction import Transaction

# Records that are indexed together touch far fewer pages than each by itself.
INDEX_CHUNK = 5000
# In pages of 4 KB.
_LONG_WAL = 1000


class Store:
    """The store behind a database URL. Every method raises StoreUnavailable when the database does not answer.

    Whoever subscribes to an event is told of it: its commit leaves the notification in the outbox.
    """

    def __init__(self, url: str, *, clock: Clock, subscriptions: Iterable[Subscription] = (), key: bytes = b"") -> None:
        """`key` seals the rows that decisions rest on; without one they are sealed for tests alone."""
        self.sealer = Sealer(key)
        self.engine = engines.open_engine(url)
        self._reading = engines.for_reading(self.engine)
        self._writing = engines.for_writing(self.engine)
        self._indexing = engines.for_indexing(self.engine)
        self.clock = clock
        self._subscriptions = tuple(subscriptions)
        self._appending: Any = None
        # SQLite has one writer; waiting here is fair and quick, where its own busy wait is neither.
        self._group_commit = GroupCommit(self._writing) if self.engine.dialect.name == "sqlite" else None
        self._on_commit: list[Callable[[Head], None]] = []
        self._policies = NO_POLICIES
        # Whether the last write failed: where a disk is full, reads go on as if nothing were wrong.
        self._cannot_write = False

    def on_commit(self, notice: Callable[[Head], None]) -> None:
        """Calls `notice` with the head after each commit of this process; it must be quick and not raise."""
        self._on_commit.append(notice)

    def prove_writing(self) -> None:
        """Writes something where the last write failed. Raises StoreUnavailable where that fails too.

        So it does where what is stored was found to be not as the service left it.
        """
        if self.sealer.refused:
            raise StoreUnavailable(min(self.sealer.refused))
        if self._cannot_write:
            with self._write() as connection:
                # There and back: SQLite writes nothing where nothing changes.
                for step in (1, -1):
                    connection.execute(update(HeadRow).values(revision=HeadRow.revision + step))

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """Reads one consistent, committed state."""
        with translate_errors(), self._reading.begin() as connection:
            snapshot = Snapshot(connection, self.clock, self.sealer, policy_cache=self._policies)
            snapshot.demand_unlocked()
            yield snapshot
        self._keep_policies(snapshot)

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Writes: commits at the end of the block, or rolls everything back when it raises."""
        with self._write() as connection:
            transaction = Transaction(
                connection, self.clock, self.sealer, policy_cache=self._policies, subscriptions=self._subscriptions
            )
            transaction.demand_unlocked()
            yield transaction
            transaction.finish()
            # Even if it should not be committed: then no later head has this one in its history.
            self._keep_policies(transaction)
        for notice in self._on_commit:
            notice(transaction.head)

    def append(self, payloads: Sequence[bytes], *, at: datetime) -> None:
        """Appends records to the audit log in one transaction of its own. `at` is the latest instant among them.

        Without SQLAlchemy's help, since every check waits for it.
        """
        with self._note_outcome(), translate_errors(), self._exclusive():
            connection = self._append_connection()
            try:
                audit_append.append(connection.dbapi_connection, payloads, at=at, sqlite=self._group_commit is not None)
            except BaseException:
                self._appending = None
                connection.invalidate()
                raise

    def is_unsealed(self) -> bool:
        """Says whether nothing was ever sealed here, although there is something."""
        with translate_errors(), self._reading.begin() as connection:
            head = read_head(connection)
            return head.revision > 0 and not head.sums and head.seal is None

    def seal_existing(self) -> int:
        """Seals every row as it is, where none is. Returns how many there were.

        Whoever could write to the database until now is believed.
        """
        with self._write() as connection, Session(connection) as session:
            head = read_head(connection, prepared.LOCKED_HEAD)
            sums, count = seal_rows(session, self.sealer)
            seal = self.sealer.of_head(revision=head.revision, locks=head.locks, sums=sums_text(sums))
            session.execute(update(HeadRow).values(sums=sums_text(sums), seal=seal))
            return count

    @contextmanager
    def outbox(self) -> Iterator[Outbox]:
        """Writes to the outbox, in a transaction of its own that waits for no event's."""
        with self._write() as connection, Session(connection) as session:
            yield Outbox(session, now=max(self.clock(), read_head(connection).time))

    def grant_loader(self) -> GrantLoader:
        """Returns a reader of what Check holds, on a connection of its own."""
        return GrantLoader(self.engine, self.sealer)

    def head(self) -> Head:
        """Returns where the store is in its history."""
        with self.snapshot() as snapshot:
            return snapshot.head

    def indexed_seq(self) -> int:
        """Returns up to which record the audit log can be searched."""
        with translate_errors(), self._indexing.begin() as connection, Session(connection) as session:
            return session.exec(select(func.max(AuditIndexRow.seq))).one() or 0

    def index_audit(self) -> int:
        """Makes the next INDEX_CHUNK audit records findable. Returns how many there were."""
        with translate_errors(), self._indexing.begin() as connection:
            return audit_index.index_next(connection, limit=INDEX_CHUNK)

    def checkpoint_wal(self) -> None:
        """Copies SQLite's log into the database while others write; PostgreSQL does so by itself.

        A log that has become long is begun anew, which holds writers up for as long as the rest of it takes.
        """
        if self._group_commit is None:
            return
        with translate_errors(), self._writing.connect() as connection:
            driver: Any = connection.connection.dbapi_connection
            _, pages, _ = driver.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            if pages > _LONG_WAL:
                with self._group_commit.exclusive():
                    driver.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()

    def close(self) -> None:
        """Closes every connection."""
        if self._appending is not None:
            self._appending.close()
        if self._group_commit is not None:
            self._group_commit.close()
        for engine in (self._writing, self._indexing, self.engine):
            engine.dispose()

    def _exclusive(self) -> AbstractContextManager[None]:
        """Keeps other writers of this process off SQLite, which has one at a time."""
        return nullcontext() if self._group_commit is None else self._group_commit.exclusive()

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        """Begins a transaction that writes; commits it when the block is left, or rolls it back when that raises."""
        with self._note_outcome(), translate_errors():
            if self._group_commit is not None:
                with self._group_commit.transaction() as connection:
                    yield connection
            else:
                with self._writing.begin() as connection:
                    yield connection

    @contextmanager
    def _note_outcome(self) -> Iterator[None]:
        """Notices whether the store takes what is written in the block."""
        try:
            yield
        except StoreUnavailable:
            self._cannot_write = True
            raise
        self._cannot_write = False

    def _keep_policies(self, snapshot: Snapshot) -> None:
        """Keeps what it knows of the policies for those that come after it."""
        if snapshot.policy_cache is not None:
            self._policies = snapshot.policy_cache

    def _append_connection(self) -> Any:
        """The one connection that appends; only ever used in the writer's turn."""
        kept, on_postgresql = self._appending, self._group_commit is None
        if kept is not None and on_postgresql and postgresql.has_ended(kept.dbapi_connection):
            self._appending = None
            kept.invalidate()
        if self._appending is None:
            self._appending = self._writing.raw_connection()
            self._appending.detach()
        return self._appending
