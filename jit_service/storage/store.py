"""Transactions and what can be read and written in one.

A write transaction locks the head row first, so writes happen one after another: what it reads is the latest commit,
the revision and the audit seq it takes have no gaps, and commit order is their order. No change of a grant or policy
can be stored without its audit event.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, and_, delete, func, insert, or_, update
from sqlalchemy.orm import aliased
from sqlmodel import Session, col, select

from jit_service.domain.audit.chain import GENESIS, link
from jit_service.domain.audit.event import Event, EventType, RecordedEvent
from jit_service.domain.caller import Caller
from jit_service.domain.checks.cached_grant import condense
from jit_service.domain.conditions.signal import Signal
from jit_service.domain.errors import LostRace, StoreUnavailable
from jit_service.domain.frozen import replace
from jit_service.domain.grants.delegation import Delegation
from jit_service.domain.grants.grant import Grant
from jit_service.domain.grants.lock import NO_LOCKS, Lock, Locks, demand_unlocked_caller
from jit_service.domain.language import name
from jit_service.domain.language.filter import Node
from jit_service.domain.language.paging import OrderTerm, Position
from jit_service.domain.notification import Subscription
from jit_service.domain.person import Account, Person
from jit_service.domain.policies.policy import Policy
from jit_service.domain.policies.proposal import Proposal
from jit_service.domain.tokens.signing_key import SigningKey
from jit_service.storage import audit_append, audit_index, postgresql, prepared, query, rows
from jit_service.storage import engine as engines
from jit_service.storage.failures import translate_errors
from jit_service.storage.grant_loader import GrantLoader
from jit_service.storage.group_commit import GroupCommit
from jit_service.storage.head import Head
from jit_service.storage.outbox import Outbox
from jit_service.storage.policy_cache import NO_POLICIES, PolicyCache
from jit_service.storage.prepared import Statement
from jit_service.storage.query import (
    AUDIT_COLUMNS,
    GRANT_COLUMNS,
    delegations_of,
    grants_held_by,
    matching,
    newest_first,
    page,
)
from jit_service.storage.rows import GrantChange
from jit_service.storage.sealing import GRANTS, Sealer, Sums, exchange, live_text, sums_text
from jit_service.storage.tables import (
    AuditIndexRow,
    AuditRow,
    DelegationRow,
    GrantChangeRow,
    GrantRow,
    HeadRow,
    LockRow,
    OutboxRow,
    PolicyProposalRow,
    PolicyRevisionRow,
    PolicyRow,
    ReplayRow,
    ReviewRow,
    SignalRow,
    SigningKeyRow,
    TokenDenialRow,
)

Clock = Callable[[], datetime]
_STATES = b'"states":'
_SEALED_TABLES: tuple[tuple[Any, Callable[[Any], Any]], ...] = (
    (PolicyRow, rows.policy_of),
    (SignalRow, rows.signal_of),
    (DelegationRow, rows.delegation_of),
    (LockRow, rows.lock_of),
    (PolicyProposalRow, rows.proposal_of),
)
Sealed = Policy | Signal | Delegation | Lock | Proposal
Fact = TypeVar("Fact")
_caller: ContextVar[Caller | None] = ContextVar("works_for", default=None)
VERIFY_CHUNK = 1000
# Records that are indexed together touch far fewer pages than each by itself.
INDEX_CHUNK = 5000
# In pages of 4 KB.
_LONG_WAL = 1000


def set_caller(caller: Caller | None) -> None:
    """Lets the store know whom this thread reads and writes for, until it is told of another; None is the service.

    While a lock stands on the caller, whatever is read or written raises Locked: so a lock holds for every call from
    its commit on, whichever the call is.
    """
    _caller.set(caller)


@dataclass(frozen=True, kw_only=True)
class Replay:
    """A request_id that was used: by whom, for which request (a digest), and the answer's JSON at `answered_at`."""

    principal: str
    digest: str
    answered_at: datetime
    answer: str


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
            snapshot = Snapshot(connection, self.clock, self.sealer, known=self._policies)
            snapshot.demand_unlocked()
            yield snapshot
        self._keep_policies(snapshot)

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Writes: commits at the end of the block, or rolls everything back when it raises."""
        with self._write() as connection:
            transaction = Transaction(
                connection, self.clock, self.sealer, known=self._policies, subscriptions=self._subscriptions
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
            head = _head(connection)
            return head.revision > 0 and not head.sums and head.seal is None

    def seal_existing(self) -> int:
        """Seals every row as it is, where none is. Returns how many there were.

        Whoever could write to the database until now is believed.
        """
        with self._write() as connection, Session(connection) as session:
            head = _head(connection, prepared.LOCKED_HEAD)
            sums, count = seal_rows(session, self.sealer)
            seal = self.sealer.of_head(revision=head.revision, locks=head.locks, sums=sums_text(sums))
            session.execute(update(HeadRow).values(sums=sums_text(sums), seal=seal))
            return count

    @contextmanager
    def outbox(self) -> Iterator[Outbox]:
        """Writes to the outbox, in a transaction of its own that waits for no event's."""
        with self._write() as connection, Session(connection) as session:
            yield Outbox(session, now=max(self.clock(), _head(connection).time))

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
        if snapshot.known is not None:
            self._policies = snapshot.known

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


class Snapshot:
    """What can be read. `now` is read once, and never below the latest instant that anything was judged at (I13)."""

    def __init__(
        self,
        connection: Connection,
        clock: Clock,
        sealer: Sealer,
        *,
        known: PolicyCache = NO_POLICIES,
        head: Statement = prepared.HEAD,
    ) -> None:
        found = _head(connection, head)
        self._sealer = sealer
        self._sums = sealer.demand_head(revision=found.revision, locks=found.locks, sums=found.sums, seal=found.seal)
        self._connection = connection
        self.revision: int = found.revision
        self.seq: int = found.seq
        self.head_hash: bytes = found.hash
        self.now = max(clock(), found.time)
        self._lock_count: int = found.locks
        self._known_before = known
        self.known = known if known.head == self.head else None

    @cached_property
    def _session(self) -> Session:
        """The ORM, within the same transaction, for what only some calls need."""
        return Session(self._connection)

    @property
    def head(self) -> Head:
        """Where the store is in its history."""
        return Head(revision=self.revision, seq=self.seq, hash=self.head_hash)

    def has_been_at(self, head: Head) -> bool:
        """Says whether this history has the head in it; one of another history has another hash."""
        return head == self.head or head.is_followed_by(self.revision, self.record_hash(head.seq))

    def grant(self, name: str) -> Grant | None:
        """Returns the grant, or None."""
        return next(iter(self._found_grants(prepared.GRANT, name=name)), None)

    def live_grants(self, subject: str) -> list[Grant]:
        """Returns every grant of the subject that is pending, scheduled or active, by name."""
        return self._found_grants(prepared.LIVE_GRANTS, subject=subject, now=self.now)

    def grants_held_by(self, person: Person) -> list[Grant]:
        """Returns every grant that is pending, scheduled or active and the person's, under whatever name; by name."""
        undecided = and_(col(GrantRow.expires_at).is_(None), col(GrantRow.request_expires_at) > self.now)
        live = and_(col(GrantRow.ended_at).is_(None), or_(col(GrantRow.expires_at) > self.now, undecided))
        return self._grants(select(GrantRow).where(grants_held_by(person), live).order_by(GrantRow.name))

    def past_grants(self, subject: str, *, limit: int) -> list[Grant]:
        """Returns the subject's grants that were usable and are over, the latest first."""
        over = or_(col(GrantRow.ended_at).is_not(None), col(GrantRow.expires_at) <= self.now)
        return self._grants(
            select(GrantRow)
            .where(GrantRow.subject == subject, col(GrantRow.expires_at).is_not(None), over)
            .order_by(col(GrantRow.expires_at).desc(), col(GrantRow.name))
            .limit(limit)
        )

    def grants(
        self,
        scope: ColumnElement[bool],
        *,
        node: Node | None,
        order: Sequence[OrderTerm],
        after: Position | None,
        limit: int,
    ) -> list[tuple[Grant, Position]]:
        """Returns up to `limit` grants of the scope that match, in order, each with its position for the next page."""
        wanted = select(GrantRow).where(scope, matching(node, GRANT_COLUMNS, now=self.now)).limit(limit)
        found = self._session.execute(page(wanted, GRANT_COLUMNS, order=order, after=after)).all()
        grants = self._with_reviews([row[0] for row in found])
        return [(grant, tuple(row[1:])) for grant, row in zip(grants, found, strict=True)]

    def ancestors(self, grants: Iterable[Grant]) -> dict[str, Grant]:
        """Returns the grants that those were passed on from, by name."""
        names = {name for grant in grants for name in grant.chain}
        found = self._grants(select(GrantRow).where(col(GrantRow.name).in_(names))) if names else []
        return {grant.name: grant for grant in found}

    def live_children(self, parent: str) -> list[Grant]:
        """Returns the scheduled and active grants that were passed on from the grant, and from those, and so on."""
        direct = self._found_grants(prepared.CHILDREN, parent=parent, now=self.now)
        return [grant for child in direct for grant in (child, *self.live_children(child.name))]

    def live_orphans(self, *, limit: int) -> list[tuple[Grant, Grant]]:
        """Returns live grants whose parent has ended, each with its parent, by name."""
        parent = aliased(GrantRow)
        # As the index of live children has it: little, however many grants are kept.
        live = and_(col(GrantRow.run_out_at).is_(None), col(GrantRow.ended_at).is_(None), col(GrantRow.parent) != "")
        found = self._session.exec(
            select(GrantRow.name, parent.name)
            .join(parent, col(parent.name) == col(GrantRow.parent))
            .where(live, col(GrantRow.expires_at) > self.now, col(parent.ended_at).is_not(None))
            .order_by(col(GrantRow.name))
            .limit(limit)
        ).all()
        pairs = [(self.grant(child), self.grant(above)) for child, above in found]
        return [(child, above) for child, above in pairs if child is not None and above is not None]

    def count_pending(self, requester: str) -> int:
        """Returns how many undecided requests for access the principal has."""
        undecided = and_(
            col(GrantRow.run_out_at).is_(None), col(GrantRow.ended_at).is_(None), col(GrantRow.expires_at).is_(None)
        )
        own = and_(col(GrantRow.requester) == requester, col(GrantRow.request_expires_at) > self.now)
        return self._session.exec(select(func.count()).select_from(GrantRow).where(own, undecided)).one()

    def count_delegations(self, *, delegator: str, delegate: str) -> tuple[int, int]:
        """Returns how many delegations that are not over the delegator has given, and the delegate has."""
        kept = and_(col(DelegationRow.deleted_at).is_(None), col(DelegationRow.expires_at) > self.now)
        counting = select(func.count()).select_from(DelegationRow)
        given = self._session.exec(counting.where(kept, col(DelegationRow.delegator) == delegator)).one()
        held = self._session.exec(counting.where(kept, col(DelegationRow.delegate) == delegate)).one()
        return given, held

    def owed_reviews(self, person: Person) -> list[Grant]:
        """Returns the person's break-glass uses that nobody has reviewed, under whatever name it took them."""
        owed = and_(grants_held_by(person), col(GrantRow.review_owed_at).is_not(None))
        return self._grants(select(GrantRow).where(owed).order_by(GrantRow.name))

    def overdue_reviews(self, *, limit: int) -> list[Grant]:
        """Returns break-glass uses whose review is overdue and that no event says so of yet, the earliest first."""
        due = col(GrantRow.review_owed_at)
        unrecorded = and_(due <= self.now, col(GrantRow.overdue_recorded_at).is_(None))
        return self._grants(select(GrantRow).where(unrecorded).order_by(due).limit(limit))

    def is_due(self, receiver: str) -> bool:
        """Says whether a notification of the receiver is to be delivered now."""
        due = and_(col(OutboxRow.receiver) == receiver, col(OutboxRow.due_at) <= self.now)
        statement = select(OutboxRow.seq).where(due, col(OutboxRow.gave_up_at).is_(None)).limit(1)
        return self._session.exec(statement).first() is not None

    def lapsed_extensions(self, *, limit: int) -> list[Grant]:
        """Returns grants with a request for more time whose time to be decided has run out, the earliest first."""
        over = col(GrantRow.extension_expires_at) <= self.now
        return self._grants(select(GrantRow).where(over).order_by(col(GrantRow.extension_expires_at)).limit(limit))

    def changes(self, *, after: int, limit: int) -> list[GrantChange]:
        """Returns up to `limit` changes of grants after the revision, in the order of their commits."""
        wanted = select(GrantChangeRow).where(col(GrantChangeRow.revision) > after)
        return self._changes(wanted.order_by(col(GrantChangeRow.revision)).limit(limit))

    def changes_of(self, subject: str) -> list[GrantChange]:
        """Returns every change of the subject's grants, in the order of the commits."""
        wanted = select(GrantChangeRow).join(GrantRow, col(GrantRow.name) == col(GrantChangeRow.grant_name))
        return self._changes(wanted.where(GrantRow.subject == subject).order_by(col(GrantChangeRow.revision)))

    def grant_at(self, name: str, revision: int) -> Grant | None:
        """Returns the grant as it was at the revision, or None."""
        until = and_(col(GrantChangeRow.grant_name) == name, col(GrantChangeRow.revision) <= revision)
        wanted = select(GrantChangeRow).where(until).order_by(col(GrantChangeRow.revision).desc()).limit(1)
        found = self._changes(wanted)
        return found[0].grant if found else None

    def _changes(self, statement: Any) -> list[GrantChange]:
        """Returns the changes that the statement finds; what only a use changed is put onto the grant it changed."""
        whole: dict[str, GrantChangeRow] = {}
        changes = []
        for row in self._session.exec(statement).all():
            if rows.is_whole(row):
                whole[row.grant_name] = row
                changes.append(self._change_of(row))
                continue
            base = whole.get(row.grant_name)
            if base is None or base.revision > row.revision:
                base = whole[row.grant_name] = self._whole_before(row)
            changes.append(self._change_of(row, base))
        return changes

    def _change_of(self, row: GrantChangeRow, base: GrantChangeRow | None = None) -> GrantChange:
        self._sealer.demand(f"changes/{row.revision}", rows.change_fact(row.model_dump()), row.seal)
        return rows.change_of(row, base)

    def _whole_before(self, use: GrantChangeRow) -> GrantChangeRow:
        earlier = and_(
            col(GrantChangeRow.grant_name) == use.grant_name,
            col(GrantChangeRow.revision) < use.revision,
            col(GrantChangeRow.type) != use.type,
        )
        wanted = select(GrantChangeRow).where(earlier).order_by(col(GrantChangeRow.revision).desc()).limit(1)
        return self._session.exec(wanted).one()

    def has_old_replays(self, *, before: datetime) -> bool:
        """Returns whether an answer to a request_id was given before the instant."""
        old = select(ReplayRow.request_id).where(col(ReplayRow.answered_at) < before).limit(1)
        return self._session.exec(old).first() is not None

    def current_grants(self) -> list[Grant]:
        """Returns every grant that is pending, scheduled or active, by name."""
        undecided = and_(col(GrantRow.expires_at).is_(None), col(GrantRow.request_expires_at) > self.now)
        live = or_(col(GrantRow.expires_at) > self.now, undecided)
        return self._grants(select(GrantRow).where(col(GrantRow.ended_at).is_(None), live).order_by(GrantRow.name))

    def started_grants(self, *, after: str, limit: int) -> list[Grant]:
        """Returns up to `limit` scheduled and active grants by name, those after a name; without their reviews."""
        live = and_(col(GrantRow.ended_at).is_(None), col(GrantRow.expires_at) > self.now)
        wanted = select(GrantRow).where(live, col(GrantRow.name) > after).order_by(GrantRow.name).limit(limit)
        found = [self._grant_without_reviews(row) for row in self._session.exec(wanted)]
        # A long list is read page by page; what was read is not kept.
        self._session.expunge_all()
        return found

    @cached_property
    def locks(self) -> Locks:
        """The locks that stand."""
        if not self._lock_count:
            return NO_LOCKS
        found = [self._sealed(row, rows.lock_of(row)) for row in prepared.LOCKS.rows(self._connection)]
        if len(found) != self._lock_count:
            raise self._sealer.refuse(f"{self._lock_count} locks may stand, and {len(found)} are there")
        return Locks(found).at(self.now)

    def demand_unlocked(self) -> None:
        """Raises Locked where a lock stands on whom this thread works for."""
        if self._lock_count and (caller := _caller.get()) is not None:
            demand_unlocked_caller(self.locks, caller)

    def lock(self, name: str) -> Lock | None:
        """Returns the lock, one that does not stand too, or None."""
        row = self._session.get(LockRow, name)
        return None if row is None else self._sealed(row, rows.lock_of(row))

    def all_locks(self, *, over: bool, before: tuple[int, str] | None, limit: int) -> list[Lock]:
        """Returns up to `limit` locks, newest first; lifted ones and those that are `over` only if asked for.

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
        """Returns the revision at which a lock was last created or lifted; 0 where there never was one."""
        return self._session.exec(select(func.max(LockRow.revision))).one() or 0

    def expired_locks(self, *, limit: int) -> list[Lock]:
        """Returns the locks whose time has run out and that no event records yet, the earliest first."""
        if not self._lock_count:
            return []
        unrecorded = and_(col(LockRow.deleted_at).is_(None), col(LockRow.expiry_recorded_at).is_(None))
        over = and_(unrecorded, col(LockRow.expires_at) <= self.now)
        found = self._session.exec(select(LockRow).where(over).order_by(col(LockRow.expires_at)).limit(limit))
        return [self._sealed(row, rows.lock_of(row)) for row in found]

    def grants_under_lock(self, lock: Lock) -> list[Grant]:
        """Returns the grants that the locked hold and the requests that wait by or for them, by name."""
        undecided = and_(col(GrantRow.expires_at).is_(None), col(GrantRow.request_expires_at) > self.now)
        live = and_(col(GrantRow.ended_at).is_(None), or_(col(GrantRow.expires_at) > self.now, undecided))
        if lock.target.group:
            proved = col(GrantRow.subject) == col(GrantRow.requester)
            scope = and_(or_(proved, undecided), query.has_element(col(GrantRow.requester_groups), lock.target.group))
        else:
            # Letter case and the like are folded by the domain alone.
            same = {name.canonical(known) for known in lock.principals}
            asking = select(col(GrantRow.requester)).where(live, undecided).distinct()
            askers = [text for text in self._session.exec(asking) if name.canonical(text) in same]
            holds = col(GrantRow.subject_key).in_(same)
            scope = or_(holds, and_(undecided, col(GrantRow.requester).in_(askers)))
        return self._grants(select(GrantRow).where(live, scope).order_by(GrantRow.name))

    def known_as(self, principal: str) -> tuple[list[Account], list[str]]:
        """Returns what issuers called the principal, and the other names that those accounts had."""
        same = name.canonical(principal)
        holds = and_(col(GrantRow.subject_key) == same, col(GrantRow.subject) == col(GrantRow.requester))
        asked = or_(holds, col(GrantRow.requester) == principal)
        places = (
            (GrantRow.requester_issuer, GrantRow.requester_issuer_subject, asked),
            (ReviewRow.issuer, ReviewRow.issuer_subject, col(ReviewRow.reviewer_key) == same),
            (
                DelegationRow.delegator_issuer,
                DelegationRow.delegator_issuer_subject,
                col(DelegationRow.delegator) == principal,
            ),
        )
        found: set[Account] = set()
        for issuer, subject, where in places:
            wanted = select(issuer, subject).where(where, col(issuer) != "").distinct()
            found |= {Account(*row) for row in self._session.exec(wanted)}
        accounts = sorted(found)
        named = [
            and_(col(GrantRow.requester_issuer) == issuer, col(GrantRow.requester_issuer_subject) == subject)
            for issuer, subject in accounts
        ]
        names = self._session.exec(select(col(GrantRow.requester)).where(or_(*named)).distinct()) if named else ()
        return accounts, sorted(other for other in names if name.canonical(other) != same)

    def usable_delegations(self) -> list[Delegation]:
        """Returns the delegations that are not over, also those that have not begun, by name."""
        unended = and_(col(DelegationRow.deleted_at).is_(None), col(DelegationRow.expires_at) > self.now)
        return self._delegations(select(DelegationRow).where(unended).order_by(DelegationRow.name))

    def live_under(self, policies: Collection[str] | None) -> Iterator[Grant]:
        """Gives every scheduled and active grant under one of the policies (None: under any), without its reviews."""
        started = col(GrantRow.expires_at).is_not(None)
        live = and_(col(GrantRow.ended_at).is_(None), started, col(GrantRow.expires_at) > self.now)
        wanted = select(GrantRow).where(live).execution_options(yield_per=1000)
        if policies is not None:
            wanted = wanted.where(col(GrantRow.policy).in_(policies))
        with Session(self._connection) as session:
            for row in session.exec(wanted):
                yield self._grant_without_reviews(row)
                # There may be many, and none is looked at twice.
                session.expunge(row)

    def delegation(self, name: str) -> Delegation | None:
        """Returns the delegation, one that is over too, or None."""
        row = self._session.get(DelegationRow, name)
        return None if row is None else self._sealed(row, rows.delegation_of(row))

    def delegations_to(self, delegate: str) -> list[Delegation]:
        """Returns the delegations that the principal can use now."""
        found = prepared.DELEGATIONS_TO.rows(self._connection, delegate=delegate, now=self.now)
        return [self._sealed(row, rows.delegation_of(row)) for row in found]

    def delegations_by(self, delegator: str) -> list[Delegation]:
        """Returns what the principal has delegated and is not over, also what has not begun, by name."""
        unended = and_(col(DelegationRow.deleted_at).is_(None), col(DelegationRow.expires_at) > self.now)
        mine = and_(col(DelegationRow.delegator) == delegator, unended)
        return self._delegations(select(DelegationRow).where(mine).order_by(DelegationRow.name))

    def delegations(self, person: Person | None, *, before: tuple[int, str] | None, limit: int) -> list[Delegation]:
        """Returns up to `limit` delegations that the person gave or has (None: anybody), newest first.

        `before` is where the last page ended: created_at in microseconds since 1970, and name.
        """
        wanted = select(DelegationRow)
        if person is not None:
            wanted = wanted.where(delegations_of(person))
        columns = (col(DelegationRow.created_at), col(DelegationRow.name))
        return self._delegations(newest_first(wanted, *columns, before=before, limit=limit))

    def proposal(self, name: str) -> Proposal | None:
        """Returns the proposal, or None."""
        row = self._session.get(PolicyProposalRow, name)
        return None if row is None else self._sealed(row, rows.proposal_of(row))

    def proposals(self, *, before: tuple[int, str] | None, limit: int) -> list[Proposal]:
        """Returns up to `limit` proposals, newest first. `before` is as for `delegations`."""
        columns = (col(PolicyProposalRow.created_at), col(PolicyProposalRow.name))
        return self._proposals(newest_first(select(PolicyProposalRow), *columns, before=before, limit=limit))

    def undecided_proposals(self) -> list[Proposal]:
        """Returns the proposals that wait for a decision, the oldest first."""
        waits = and_(col(PolicyProposalRow.decided_at).is_(None), col(PolicyProposalRow.expires_at) > self.now)
        return self._proposals(select(PolicyProposalRow).where(waits).order_by(col(PolicyProposalRow.created_at)))

    def lapsed_proposals(self, *, limit: int) -> list[Proposal]:
        """Returns the proposals that nobody decided in time and that no event records yet."""
        over = and_(col(PolicyProposalRow.decided_at).is_(None), col(PolicyProposalRow.expires_at) <= self.now)
        unrecorded = and_(over, col(PolicyProposalRow.lapse_recorded).is_(False))
        return self._proposals(
            select(PolicyProposalRow).where(unrecorded).order_by(col(PolicyProposalRow.expires_at)).limit(limit)
        )

    def _proposals(self, statement: Any) -> list[Proposal]:
        return [self._sealed(row, rows.proposal_of(row)) for row in self._session.exec(statement)]

    def _delegations(self, statement: Any) -> list[Delegation]:
        return [self._sealed(row, rows.delegation_of(row)) for row in self._session.exec(statement)]

    def run_out(self, *, limit: int) -> list[Grant]:
        """Returns grants whose time has run out and whose end no event records yet, the earliest first."""
        unrecorded = and_(col(GrantRow.run_out_at).is_(None), col(GrantRow.ended_at).is_(None))
        expired = col(GrantRow.expires_at) <= self.now
        lapsed = and_(col(GrantRow.expires_at).is_(None), col(GrantRow.request_expires_at) <= self.now)
        found: list[Grant] = []
        for over, at in ((expired, GrantRow.expires_at), (lapsed, GrantRow.request_expires_at)):
            statement = select(GrantRow).where(unrecorded, over).order_by(col(at)).limit(limit - len(found))
            found += self._grants(statement)
        return found

    def policy(self, name: str) -> Policy | None:
        """Returns the current revision of the policy, a deleted one too, or None."""
        return self._policies_by_name().get(name)

    def policy_revision(self, name: str, revision: int) -> Policy | None:
        """Returns an earlier revision of the policy, or None."""
        row = self._session.get(PolicyRevisionRow, (name, revision))
        return None if row is None else rows.POLICIES.validate_python(row.document)

    def policies(self, *, deleted: bool = False) -> list[Policy]:
        """Returns every policy in its current revision, by name; deleted ones only if asked for."""
        return [policy for policy in self._policies_by_name().values() if deleted or policy.deleted_at is None]

    def policies_revision(self) -> int:
        """Returns the revision at which a policy was last changed or deleted; 0 where there never was one."""
        return self._session.exec(select(func.max(PolicyRow.revision))).one() or 0

    def signal(self, name: str) -> Signal | None:
        """Returns the signal, an expired one too, or None."""
        row = self._session.get(SignalRow, name)
        return None if row is None else self._sealed(row, rows.signal_of(row))

    def signals(self) -> list[Signal]:
        """Returns every signal by name, expired ones too."""
        found = prepared.SIGNALS.rows(self._connection)
        self._sealer.demand_sum("signal", (row.seal for row in found), self._sums)
        return [self._sealed(row, rows.signal_of(row)) for row in found]

    def signing_keys(self) -> list[SigningKey]:
        """Returns every key that tokens are or were signed with, in the order in which they sign."""
        wanted = select(SigningKeyRow).order_by(col(SigningKeyRow.signs_at), col(SigningKeyRow.kid))
        return [rows.signing_key_of(row) for row in self._session.exec(wanted)]

    def is_denied(self, token_id: str) -> bool:
        """Says whether the token was revoked."""
        return self._session.get(TokenDenialRow, token_id) is not None

    def has_old_denials(self) -> bool:
        """Says whether a revoked token would be over by now anyway."""
        old = select(TokenDenialRow.token_id).where(col(TokenDenialRow.expires_at) <= self.now).limit(1)
        return self._session.exec(old).first() is not None

    def live_grants_of(self, scope: ColumnElement[bool]) -> list[Grant]:
        """Returns every scheduled or active grant of the scope, by name."""
        live = and_(col(GrantRow.ended_at).is_(None), col(GrantRow.expires_at) > self.now)
        return self._grants(select(GrantRow).where(scope, live).order_by(GrantRow.name))

    def replay(self, request_id: str) -> Replay | None:
        """Returns what was answered under the request_id, or None."""
        found = prepared.REPLAY.rows(self._connection, request_id=request_id)
        if not found:
            return None
        row = found[0]
        return Replay(principal=row.principal, digest=row.digest, answered_at=row.answered_at, answer=row.answer)

    def audit_events(
        self, *, node: Node | None, order: Sequence[OrderTerm], after: Position | None, limit: int
    ) -> list[tuple[RecordedEvent, Position]]:
        """Returns up to `limit` records that match, in order, each with its position for the next page.

        Only what `Store.index_audit` has made findable is found.
        """
        wanted = select(AuditRow).join(AuditIndexRow, col(AuditIndexRow.seq) == col(AuditRow.seq))
        wanted = wanted.where(matching(node, AUDIT_COLUMNS, now=self.now)).limit(limit)
        found = self._session.execute(page(wanted, AUDIT_COLUMNS, order=order, after=after))
        return [(rows.recorded_event_of(row[0]), tuple(row[1:])) for row in found]

    def audit_records(self, *, after: int, until: int, limit: int) -> list[RecordedEvent]:
        """Returns up to `limit` records after one place and up to another, in order; those too that cannot be found."""
        within = and_(col(AuditRow.seq) > after, col(AuditRow.seq) <= until)
        found = self._session.exec(select(AuditRow).where(within).order_by(col(AuditRow.seq)).limit(limit))
        return [rows.recorded_event_of(row) for row in found]

    def first_bad_record(self, *, indexed: int, states: dict[str, str]) -> tuple[int, str] | None:
        """Recomputes the chain from the first record to the head. Returns the first wrong seq and why, or None.

        `indexed` is up to where the log had been indexed before this snapshot. `states` is given what the log says of
        each row last.
        """
        previous, expected = GENESIS, 1
        while chunk := self._records_from(expected, VERIFY_CHUNK):
            index = self._index_from(expected, VERIFY_CHUNK)
            for row in chunk:
                if problem := _problem(row, previous, expected):
                    return expected, problem
                if row.seq <= indexed and not rows.index_matches(row, index.get(row.seq)):
                    return expected, f"record {row.seq} is indexed as something else than what was hashed"
                if _STATES in row.payload:
                    states |= rows.recorded_event_of(row).event.states
                previous, expected = row.hash, expected + 1
            self._session.expunge_all()
        if (expected - 1, previous) != (self.seq, self.head_hash):
            return expected, f"the log should have {self.seq} records and has {expected - 1}"
        if indexed > self.seq:
            return self.seq + 1, f"the index has records up to {indexed}, the log up to {self.seq}"
        return None

    def differences(self, states: Mapping[str, str]) -> Iterator[tuple[str, str]]:
        """Gives the names of what is not as its last record says, or not as the service left it, each with why.

        `states` are those of `first_bad_record`. A row from before there were seals has no such record.
        """
        missing = {of for of, state in states.items() if state}
        for of, fact, seal in self._sealed_facts():
            missing.discard(of)
            state = states.get(of)
            if seal is None or self._sealer.of(of, fact) != bytes(seal):
                yield of, "is not as this service left it"
            elif state is not None and state != bytes(seal).hex():
                yield of, "is not as its last record says"
        for of in sorted(missing):
            yield of, "is in the log, and not in the store"

    def _sealed_facts(self) -> Iterator[tuple[str, object, bytes | None]]:
        """Gives everything that is sealed by itself, with its name and seal."""
        after = ""
        while found := self._session.exec(
            select(GrantRow).where(col(GrantRow.name) > after).order_by(col(GrantRow.name)).limit(VERIFY_CHUNK)
        ).all():
            reviews = self._reviews_of(found)
            for row in found:
                yield row.name, rows.grant_of(row, reviews[row.name]), row.seal
            after = found[-1].name
            self._session.expunge_all()
        for table, fact_of in _SEALED_TABLES:
            for row in self._session.exec(select(table)):
                yield row.name, fact_of(row), row.seal

    def record_hash(self, seq: int) -> bytes | None:
        """Returns the hash of the record at the place, or None where there is none."""
        return next((row.hash for row in prepared.RECORD_HASH.rows(self._connection, seq=seq)), None)

    def _records_from(self, seq: int, limit: int) -> Sequence[AuditRow]:
        statement = select(AuditRow).where(col(AuditRow.seq) >= seq).order_by(col(AuditRow.seq)).limit(limit)
        return self._session.exec(statement).all()

    def _index_from(self, seq: int, limit: int) -> dict[int, AuditIndexRow]:
        of = AuditIndexRow
        statement = select(of).where(col(of.seq) >= seq).order_by(col(of.seq)).limit(limit)
        return {row.seq: row for row in self._session.exec(statement)}

    def _policies_by_name(self) -> Mapping[str, Policy]:
        """Returns every policy; reads those that have changed since the last time that this store was asked."""
        if self.known is None:
            before = self._known_before if self.has_been_at(self._known_before.head) else NO_POLICIES
            changed = (
                prepared.CHANGED_POLICIES.rows(self._connection, revision=before.head.revision)
                if before.head.revision < self.revision
                else ()
            )
            if before is NO_POLICIES:
                self._sealer.demand_sum("policy", (row.seal for row in changed), self._sums)
            policies = [self._sealed(row, rows.POLICIES.validate_python(row.document)) for row in changed]
            self.known = before.with_changed(policies, head=self.head)
        return self.known.by_name

    def _found_grants(self, statement: Statement, **values: Any) -> list[Grant]:
        found = statement.rows(self._connection, **values)
        return [
            self._sealed(row, rows.grant_of(row, prepared.REVIEWS.rows(self._connection, name=row.name)))
            for row in found
        ]

    def _grants(self, statement: Any) -> list[Grant]:
        return self._with_reviews(self._session.exec(statement).all())

    def _with_reviews(self, found: Sequence[GrantRow]) -> list[Grant]:
        reviews = self._reviews_of(found)
        return [self._sealed(row, rows.grant_of(row, reviews[row.name])) for row in found]

    def _reviews_of(self, found: Sequence[GrantRow]) -> dict[str, list[ReviewRow]]:
        names = [row.name for row in found]
        reviews: dict[str, list[ReviewRow]] = {name: [] for name in names}
        statement = select(ReviewRow).where(col(ReviewRow.grant_name).in_(names)).order_by(col(ReviewRow.position))
        for review in self._session.exec(statement) if names else ():
            reviews[review.grant_name].append(review)
        return reviews

    def _sealed(self, row: Any, fact: Fact) -> Fact:
        """Returns the fact. Raises StoreUnavailable where the row is not as the service left it."""
        self._sealer.demand(row.name, fact, row.seal)
        return fact

    def _grant_without_reviews(self, row: GrantRow) -> Grant:
        """Returns the grant, without its reviews: what Check holds of it. Raises StoreUnavailable."""
        grant = rows.grant_of(row, [])
        self._sealer.demand_equal(grant.name, self._sealer.of_live(live_text(condense(grant))), row.live_seal)
        return grant


class Transaction(Snapshot):
    """What can be sums_text, under the lock of the head row."""

    def __init__(
        self,
        connection: Connection,
        clock: Clock,
        sealer: Sealer,
        *,
        known: PolicyCache = NO_POLICIES,
        subscriptions: Sequence[Subscription] = (),
    ) -> None:
        super().__init__(connection, clock, sealer, known=known, head=prepared.LOCKED_HEAD)
        self._subscriptions = subscriptions
        # The seals that this has made and that no record has yet.
        self._states: dict[str, str] = {}
        # As they are stored: nobody else can change them before this commits.
        self._stored: dict[str, Grant] = {}

    def save_grant(self, grant: Grant, event: Event) -> Grant:
        """Stores the grant as it follows from the revision it was read at, with its event. Returns it as stored.

        Raises LostRace where the stored grant is not the one that was read.
        """
        saved = self._save_grant(grant, event.type)
        self.record(replace(event, revision=saved.revision))
        return saved

    def save_uses(self, grants: Iterable[Grant], event: Event) -> None:
        """Stores the grants that one check used, with its one event. Raises LostRace as `save_grant` does.

        They keep their revision, and so their etag: who decides on a grant need not mind that it is being used.
        """
        for grant in grants:
            self._update_grant(grant, grant)
            used = rows.GrantChange(revision=self._next_revision(), type=event.type, at=self.now, grant=grant)
            self._insert_change(rows.use_columns(used))
        self.record(event)

    def _save_grant(self, grant: Grant, type_: EventType) -> Grant:
        saved = replace(grant, revision=self._next_revision())
        there = self._count_reviews(grant)
        if grant.revision == 0:
            columns = rows.grant_columns(saved) | self._seals_of(saved, before=None)
            self._insert(GrantRow, columns, run_out_at=None, overdue_recorded_at=None)
            self._stored[saved.name] = saved
        else:
            self._update_grant(grant, saved)
        for position in range(there, len(saved.reviews)):
            self._insert(ReviewRow, rows.review_columns(saved, position))
        self._leave_change(saved, type_, saved.revision)
        return saved

    def _leave_change(self, grant: Grant, type_: EventType, revision: int) -> None:
        """Leaves the change for watchers."""
        change = rows.GrantChange(revision=revision, type=type_, at=self.now, grant=grant)
        self._insert_change(rows.change_columns(change))

    def _insert_change(self, columns: dict[str, Any]) -> None:
        seal = self._sealer.of(f"changes/{columns['revision']}", rows.change_fact(columns))
        self._insert(GrantChangeRow, columns, seal=seal)

    def save_delegation(self, delegation: Delegation, event: Event) -> Delegation:
        """Stores the delegation as it follows from the revision it was read at, with its event; returns it so."""
        saved = replace(delegation, revision=self._next_revision())
        columns = rows.delegation_columns(saved)
        if delegation.revision == 0:
            self._insert_sealed(DelegationRow, saved, columns)
        else:
            self._update_sealed(DelegationRow, delegation, saved, columns)
        self.record(replace(event, revision=saved.revision))
        return saved

    def save_lock(self, lock: Lock, event: Event) -> Lock:
        """Stores the lock as it follows from the revision it was read at, with its event; returns it so."""
        saved = replace(lock, revision=self._next_revision())
        columns = rows.lock_columns(saved)
        if lock.revision == 0:
            self._insert_sealed(LockRow, saved, columns | {"expiry_recorded_at": None})
            self._lock_count += 1
        else:
            self._update_sealed(LockRow, lock, saved, columns)
            self._lock_count -= 1
        self.record(replace(event, revision=saved.revision))
        return saved

    def record_lock_over(self, lock: Lock, event: Event) -> None:
        """Records, once, that the lock's time ran out. Of the lock itself nothing changes."""
        unrecorded = and_(col(LockRow.name) == lock.name, col(LockRow.expiry_recorded_at).is_(None))
        result: Any = self._session.execute(update(LockRow).where(unrecorded).values(expiry_recorded_at=self.now))
        if result.rowcount == 1:
            self._lock_count -= 1
            self.record(replace(event, revision=self.revision))

    def save_proposal(self, proposal: Proposal, event: Event) -> Proposal:
        """Stores the proposal as it follows from the revision it was read at, with its event; returns it so."""
        saved = replace(proposal, revision=self._next_revision())
        columns = rows.proposal_columns(saved)
        if proposal.revision == 0:
            self._insert_sealed(PolicyProposalRow, saved, columns | {"lapse_recorded": False})
        else:
            self._update_sealed(PolicyProposalRow, proposal, saved, columns)
        self.record(replace(event, revision=saved.revision))
        return saved

    def record_lapse(self, proposal: Proposal, event: Event) -> None:
        """Records that nobody decided the proposal in time. Of the proposal itself nothing changes."""
        unrecorded = and_(
            col(PolicyProposalRow.name) == proposal.name, col(PolicyProposalRow.lapse_recorded).is_(False)
        )
        result: Any = self._session.execute(update(PolicyProposalRow).where(unrecorded).values(lapse_recorded=True))
        if result.rowcount == 1:
            self.record(replace(event, revision=self.revision))

    def save_policy(self, policy: Policy, event: Event) -> Policy:
        """Stores the policy as it follows from the revision it was read at, with its event. Returns it as stored.

        Raises LostRace where the stored policy is not the one that was read.
        """
        saved = replace(policy, revision=self._next_revision())
        document = rows.POLICIES.dump_python(saved, mode="json")
        columns = {
            "name": saved.name,
            "revision": saved.revision,
            "deleted_at": saved.deleted_at,
            "document": document,
        }
        as_stored = rows.POLICIES.validate_python(document)
        if policy.revision == 0:
            self._insert_sealed(PolicyRow, as_stored, columns)
        else:
            self._update_sealed(PolicyRow, policy, as_stored, columns)
        self._insert(PolicyRevisionRow, {"name": saved.name, "revision": saved.revision, "document": document})
        self.record(replace(event, revision=saved.revision, policy_revision=saved.revision))
        if self.known is not None:
            self.known = self.known.with_changed([as_stored], head=self.head)
        return saved

    def save_signal(self, signal: Signal, event: Event) -> Signal:
        """Stores the signal as it follows from the revision it was read at, with its event. Returns it as stored."""
        saved = replace(signal, revision=self._next_revision())
        columns = rows.signal_columns(saved)
        if signal.revision == 0:
            self._insert_sealed(SignalRow, saved, columns)
        else:
            self._update_sealed(SignalRow, signal, saved, columns)
        self.record(replace(event, revision=saved.revision))
        return saved

    def delete_signal(self, signal: Signal, event: Event) -> None:
        """Removes the signal that was read, with its event. Raises LostRace where it is not that one any more."""
        self._count(SignalRow, signal.name, new=None)
        self._states[signal.name] = ""
        as_read = and_(col(SignalRow.name) == signal.name, col(SignalRow.revision) == signal.revision)
        result: Any = self._session.execute(delete(SignalRow).where(as_read))
        if result.rowcount != 1:
            raise LostRace(f"{signal.name} was changed by another call; read it again")
        self.record(replace(event, revision=self._next_revision()))

    def add_signing_key(self, key: SigningKey, event: Event) -> None:
        """Stores a new key with its event."""
        columns = {"created_at": key.created_at, "signs_at": key.signs_at, "sealed": key.sealed}
        self._insert(SigningKeyRow, columns, kid=key.kid, last_expires_at=None)
        self.record(event)

    def remove_signing_key(self, key: SigningKey, event: Event) -> None:
        """Removes a key with its event."""
        self._session.execute(delete(SigningKeyRow).where(col(SigningKeyRow.kid) == key.kid))
        self.record(event)

    def save_token(self, key: SigningKey, *, expires_at: datetime, event: Event) -> None:
        """Records that a token was issued, and how long its key must be kept for it. The token itself is not stored."""
        last = max(expires_at, key.last_expires_at or expires_at)
        self._session.execute(
            update(SigningKeyRow).where(col(SigningKeyRow.kid) == key.kid).values(last_expires_at=last)
        )
        self.record(event)

    def deny_token(self, token_id: str, *, expires_at: datetime, event: Event) -> None:
        """Denies a token until it is over, with the event."""
        self._insert(TokenDenialRow, {"token_id": token_id, "expires_at": expires_at})
        self.record(event)

    def forget_old_denials(self) -> None:
        """Removes the denials of tokens that are over."""
        self._session.execute(delete(TokenDenialRow).where(col(TokenDenialRow.expires_at) <= self.now))

    def record_run_out(self, grant: Grant, event: Event) -> None:
        """Records, once, that the grant's time ran out. Of the grant itself only the revision changes."""
        unrecorded = and_(col(GrantRow.name) == grant.name, col(GrantRow.run_out_at).is_(None))
        told = replace(grant, revision=self.revision + 1)
        values = {"run_out_at": self.now, "revision": told.revision, "seal": self._fact_seal(told)}
        before = self._grant_seals(grant.name)
        result: Any = self._session.execute(update(GrantRow).where(unrecorded).values(**values))
        if result.rowcount == 1:
            self._sums = exchange(self._sums, GRANTS, old=before.live_seal if _is_counted(before) else None, new=None)
            self._next_revision()
            self._leave_change(told, event.type, told.revision)
            self.record(replace(event, revision=told.revision))

    def record_overdue(self, grant: Grant, event: Event) -> None:
        """Records, once, that the grant's review is overdue. Of the grant itself nothing changes."""
        unrecorded = and_(col(GrantRow.name) == grant.name, col(GrantRow.overdue_recorded_at).is_(None))
        values = {"overdue_recorded_at": self.now}
        result: Any = self._session.execute(update(GrantRow).where(unrecorded).values(**values))
        if result.rowcount == 1:
            self.record(replace(event, revision=self.revision))

    def record(self, event: Event) -> None:
        """Appends the event to the audit log, and leaves a notification for every receiver that wants it."""
        payload = rows.payload_of(replace(event, states=self._states) if self._states else event)
        self._states = {}
        self.seq += 1
        self.head_hash = link(self.head_hash, self.seq, payload)
        self._insert(AuditRow, {"seq": self.seq, "hash": self.head_hash, "payload": payload})
        told = [subscription.receiver for subscription in self._subscriptions if subscription.wants(event)]
        if told:
            columns = {"seq": self.seq, "type": event.type, "at": event.at, "due_at": self.now}
            waiting = [columns | {"receiver": receiver, "attempts": 0, "fault": ""} for receiver in told]
            self._session.execute(insert(OutboxRow), waiting)

    def remember(self, request_id: str, replay: Replay) -> None:
        """Keeps the answer for when the same request comes again."""
        self._insert(
            ReplayRow,
            {
                "request_id": request_id,
                "principal": replay.principal,
                "digest": replay.digest,
                "answered_at": replay.answered_at,
                "answer": replay.answer,
            },
        )

    def forget_old_replays(self, *, before: datetime, limit: int) -> None:
        """Removes up to `limit` answers to request_ids that were given before the instant."""
        old = select(ReplayRow.request_id).where(col(ReplayRow.answered_at) < before).limit(limit)
        self._session.execute(delete(ReplayRow).where(col(ReplayRow.request_id).in_(old)))

    def finish(self) -> None:
        """Writes the counters, as the last thing before the commit."""
        head = self.head
        sums = sums_text(self._sums) if head.revision else ""
        moved = {"revision": head.revision, "seq": head.seq, "hash": head.hash, "time": self.now}
        seal = self._sealer.of_head(revision=head.revision, locks=self._lock_count, sums=sums)
        prepared.MOVE_HEAD.run(self._connection, moved | {"locks": self._lock_count, "sums": sums, "seal": seal})
        if self.known is not None:
            self.known = self.known.with_changed((), head=head)

    def _next_revision(self) -> int:
        self.revision += 1
        return self.revision

    def _update_grant(self, read: Grant, changed: Grant) -> None:
        """Writes what differs from what this transaction has read; all of it, where it has not read the grant."""
        columns = rows.grant_columns(changed)
        stored = self._stored.get(read.name)
        if stored is not None and stored.revision == read.revision:
            before = rows.grant_columns(stored)
            columns = {name: value for name, value in columns.items() if value != before[name]}
        self._update_read(GrantRow, read, columns | self._seals_of(changed, before=self._grant_seals(read.name)))
        self._stored[changed.name] = changed

    def _update_read(
        self, table: Any, read: Grant | Policy | Signal | Delegation | Lock | Proposal, columns: dict[str, Any]
    ) -> None:
        as_read = {"read_name": read.name, "read_revision": read.revision}
        if prepared.update_of(table, tuple(columns)).run(self._connection, columns | as_read) != 1:
            raise LostRace(f"{read.name} was changed by another call; read it again")

    def _seals_of(self, grant: Grant, *, before: Any) -> dict[str, bytes | None]:
        """Returns the seals of the grant's row, and counts the one that Check's view is held against."""
        is_counted = grant.end is None and (before is None or before.run_out_at is None)
        live_seal = self._sealer.of_live(live_text(condense(grant))) if grant.end is None else None
        old = before.live_seal if before is not None and _is_counted(before) else None
        self._sums = exchange(self._sums, GRANTS, old=old, new=live_seal if is_counted else None)
        return {"seal": self._fact_seal(grant), "live_seal": live_seal}

    def _fact_seal(self, fact: Sealed | Grant) -> bytes:
        """Returns the fact's seal, and has the next record name it."""
        seal = self._sealer.of(fact.name, fact)
        self._states[fact.name] = seal.hex()
        return seal

    def _grant_seals(self, name: str) -> Any:
        return next(iter(prepared.GRANT_SEALS.rows(self._connection, name=name)), None)

    def _insert_sealed(self, table: Any, fact: Sealed, columns: dict[str, Any]) -> None:
        seal = self._fact_seal(fact)
        self._count(table, fact.name, new=seal)
        self._insert(table, columns, seal=seal)

    def _update_sealed(self, table: Any, read: Sealed, fact: Sealed, columns: dict[str, Any]) -> None:
        seal = self._fact_seal(fact)
        self._count(table, fact.name, new=seal)
        self._update_read(table, read, columns | {"seal": seal})

    def _count(self, table: Any, name: str, *, new: bytes | None) -> None:
        """Counts the row's new seal in place of the one that it has."""
        found = prepared.seal_of(table).rows(self._connection, name=name)
        old = found[0].seal if found else None
        self._sums = exchange(self._sums, table.__tablename__, old=old, new=new)

    def _insert(self, table: Any, columns: dict[str, Any], **more: Any) -> None:
        prepared.insert_of(table).run(self._connection, columns | more)

    def _found_grants(self, statement: Statement, **values: Any) -> list[Grant]:
        found = super()._found_grants(statement, **values)
        self._stored |= {grant.name: grant for grant in found}
        return found

    def _count_reviews(self, grant: Grant) -> int:
        """Returns how many reviews of the grant are stored."""
        stored = self._stored.get(grant.name)
        if stored is not None and stored.revision == grant.revision:
            return len(stored.reviews)
        return len(prepared.REVIEWS.rows(self._connection, name=grant.name)) if grant.revision else 0


def seal_rows(session: Session, sealer: Sealer) -> tuple[Sums, int]:
    """Seals every row of the tables as it is. Returns the sums of the seals, and how many rows there were."""
    sums: Sums = {}
    count = 0
    for row in session.exec(select(GrantRow)):
        found = session.exec(
            select(ReviewRow).where(ReviewRow.grant_name == row.name).order_by(col(ReviewRow.position))
        )
        grant = rows.grant_of(row, list(found))
        row.seal = sealer.of(grant.name, grant)
        row.live_seal = None if grant.end is not None else sealer.of_live(live_text(condense(grant)))
        if _is_counted(row):
            sums = exchange(sums, GRANTS, old=None, new=row.live_seal)
        count += 1
    for table, fact_of in _SEALED_TABLES:
        for row in session.exec(select(table)):
            row.seal = sealer.of(row.name, fact_of(row))
            sums = exchange(sums, table.__tablename__, old=None, new=row.seal)
            count += 1
    for change in session.exec(select(GrantChangeRow)):
        change.seal = sealer.of(f"changes/{change.revision}", rows.change_fact(change.model_dump()))
        count += 1
    session.flush()
    return sums, count


def _is_counted(seals: Any) -> bool:
    """Says whether the grant's row is among those whose seals are summed up."""
    return seals is not None and seals.ended_at is None and seals.run_out_at is None


def _head(connection: Connection, statement: Statement = prepared.HEAD) -> Any:
    found = statement.rows(connection)
    if not found:
        raise StoreUnavailable("the store has no head row; run `jit-service migrate`")
    return found[0]


def _problem(row: AuditRow, previous: bytes, expected: int) -> str:
    if row.seq != expected:
        return f"record {expected} is missing"
    # Whoever edits by hand may leave text, or a number, where there were bytes.
    if not isinstance(row.payload, bytes) or link(previous, row.seq, row.payload) != row.hash:
        return f"record {row.seq} is not what was hashed"
    return ""
