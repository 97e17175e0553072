"""Loads what Check keeps in memory, all of it at start and then by revision, on a connection of its own.

It uses plain SQL over the driver: it loads up to a million rows at start, and reads before every strong check.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from sqlalchemy import Engine, and_
from sqlmodel import col

from jit_service.domain.checks.cached_grant import CachedGrant
from jit_service.domain.conditions.signal import Signal
from jit_service.domain.errors import StoreUnavailable
from jit_service.domain.grants.lock import NO_LOCKS, Lock, Locks, Target
from jit_service.domain.person import Account
from jit_service.domain.policies.policy import Policy
from jit_service.storage import postgresql, predicates, rows
from jit_service.storage.audit_log import AuditLog
from jit_service.storage.columns import EPOCH, MICROSECOND
from jit_service.storage.door import Door
from jit_service.storage.grant_decoder import COLUMNS, GrantChanged, GrantDecoder, instant
from jit_service.storage.head import BEGINNING, Head
from jit_service.storage.predicates import text_of
from jit_service.storage.sealing import GRANTS, TABLES, Sealer, Sums, list_text, live_text, seal_number
from jit_service.storage.sealing_keys import SealingKeys, Superseded
from jit_service.storage.tables import GrantRow

FindGrant = Callable[[str], CachedGrant | None]
Progress = Callable[[int, int], None]
"""Called with the number of grants that are read, and the number of all."""
_CHUNK: Final = 500
"""How many rows are read at a time: as many as fit the processor's cache until they are made into grants."""
from_bytes: Final = int.from_bytes


class HeadState(NamedTuple):
    """The store's place in its history, the latest instant of any decision, and how many locks may be in force."""

    place: Head
    time: datetime
    locks: int = 0

    @property
    def revision(self) -> int:
        """The store's commit counter."""
        return self.place.revision


class AnotherHistory(Exception):
    """The store does not continue from where it was read: a backup was restored, or a failover lost commits."""


class Delta(NamedTuple):
    """What changed since a revision: grants and policies that changed, and all signals (None: unchanged).

    `ended` are the subjects of changed grants that gave access and are over. `locks` are all that may be in force. With
    `forgot`, grants that were over for long are gone.
    """

    head: HeadState
    grants: list[GrantChanged]
    policies: list[Policy]
    signals: list[Signal] | None
    ended: frozenset[str] = frozenset()
    locks: Locks = NO_LOCKS
    forgot: bool = False


class FullLoad(NamedTuple):
    """Everything at a head: live grants in chunks, policies and signals. `locks` is as in `Delta`.

    `ended` are all subjects with grants that gave access and are over.
    """

    head: HeadState
    grants: Iterator[list[CachedGrant]]
    policies: list[Policy]
    signals: list[Signal]
    ended: frozenset[str]
    locks: Locks = NO_LOCKS


class _SealedHead(NamedTuple):
    revision: int
    locks: int
    sums: str
    seal: bytes
    sealing_key: str


class GrantLoader:
    """Loads what Check keeps in memory. One thread at a time may use it. Every method raises StoreUnavailable.

    The connection never writes and has no transaction open between reads: SQLite's `data_version` shows neither the
    connection's own commits nor any commit during a transaction.
    """

    def __init__(self, engine: Engine, keys: SealingKeys, door: Door) -> None:
        self._engine = engine
        self._door = door
        self._keys = keys
        # Of the key that sealed what was loaded.
        self._sealer = keys.first
        # The sum of the seals of all counted grants, and the seals of those of them that are over: Check drops those.
        self._total = 0
        self._aside: dict[str, int] = {}
        self._sqlite = engine.dialect.name == "sqlite"
        self._mark = "?" if self._sqlite else "%s"
        self._connection: Any = None
        self._seen: int | None = None
        self._decoder = GrantDecoder()

    def moved(self, since: Head) -> HeadState | None:
        """Returns the head, or None if no commit can have moved it since the last call that returned one.

        Raises AnotherHistory if the store does not continue from `since`.
        """
        with self._connected() as connection:
            version = connection.execute("PRAGMA data_version").fetchone()[0] if self._sqlite else None
            if version is not None and version == self._seen:
                return None
            head = self._head(connection, since)
            # Only now: if the read failed, the next call must read again.
            self._seen = version
            return head

    def since(self, place: Head, held: FindGrant) -> Delta:
        """Returns what changed since the place, as one snapshot. Raises AnotherHistory as `moved` does, or if too old.

        Also if the store was sealed with another key since: the sums that were kept are of the seals of before. `held`
        returns the grant of a name as it was kept until now. Raises StoreUnavailable if the sum of all seals shows that
        a row is missing, too many or an older one.
        """
        with self._connected() as connection, _snapshot(connection, self._sqlite):
            head, revision = self._head(connection, place), place.revision
            after = f"revision > {self._mark}"
            forgot = self._has_forgotten(connection, revision)
            sums = self._sums_as_before(connection)
            columns = f"run_out_at, ended_at, {COLUMNS}"
            found = connection.execute(f"SELECT {columns} FROM access_grant WHERE {after}", (revision,))  # noqa: S608
            changed_rows, now = found.fetchall(), _microseconds(head.time)
            total, aside = self._advanced_sum(changed_rows, held, now, sums)
            grants = [self._decoder.changed(row[1:], now) for row in changed_rows]
            policies = self._policies(connection, f" WHERE {after}", (revision,))
            ended = frozenset(changed.subject for changed in grants if changed.was_access)
            signals, locks = self._signals(connection, sums), self._locks(connection, head)
        # Only now: after a fault until here, the next call reads the same changes again, and must not count them twice.
        self._total, self._aside = total, aside
        return Delta(head, grants, policies, signals, ended, locks, forgot)

    @contextmanager
    def load(self, progress: Progress) -> Iterator[FullLoad]:
        """Yields all that is live, as one snapshot. Grants are read as they are taken; `progress` counts them."""
        with self._connected() as connection, _snapshot(connection, self._sqlite), postgresql.loading(connection):
            head = self._head(connection, BEGINNING)
            self._sealer, sums = self._opened(connection)
            for table in TABLES:
                seals = connection.execute(f"SELECT seal FROM {table}").fetchall()  # noqa: S608
                self._sealer.demand_sum(table, (row[0] for row in seals), sums)
            policies = self._policies(connection, "", ())
            over = text_of(predicates.was_granted_and_is_over(head.time))
            found = connection.execute(f"SELECT DISTINCT subject FROM access_grant WHERE {over}")  # noqa: S608
            ended = frozenset(row[0] for row in found.fetchall())
            grants, locks = self._read_grants(connection, head.time, progress, sums), self._locks(connection, head)
            yield FullLoad(head, grants, policies, self._signals(connection, sums), ended, locks)

    def close(self) -> None:
        """Closes the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _head(self, connection: Any, since: Head) -> HeadState:
        # One statement, so that head and hash are of one commit, and records of checks cost no further read.
        there = f"(SELECT hash FROM audit_event WHERE seq = {self._mark})"  # noqa: S608
        wrong = "false" if self._sqlite else postgresql.NO_PRIMARY
        query = f"SELECT revision, seq, hash, time, locks, {there}, {wrong} FROM head"  # noqa: S608
        revision, seq, hash_, time, locks, hash_there, is_no_primary = connection.execute(
            query, (since.seq,)
        ).fetchone()
        if is_no_primary:
            raise StoreUnavailable(postgresql.TAKES_NO_WRITES)
        place = Head(revision, seq, bytes(hash_))
        if hash_there is None and since.seq:
            # The record is within a row, or in a piece since the last look.
            hash_there = AuditLog(connection, sqlite=self._sqlite).hash_at(since.seq)
        if place != since and not since.is_followed_by(revision, hash_there and bytes(hash_there)):
            raise AnotherHistory(f"the store is at revision {revision} of another history than {since.revision}")
        return HeadState(place, EPOCH + time * MICROSECOND, locks)

    def _has_forgotten(self, connection: Any, revision: int) -> bool:
        """Returns whether grants were forgotten since the revision.

        Raises AnotherHistory if they had changed since then, as after days of standstill.
        """
        found = connection.execute("SELECT revision, moved_revision FROM grant_beginning").fetchone()
        changed, moved = found or (0, 0)
        if changed > revision:
            raise AnotherHistory(f"grants that changed after revision {revision} were forgotten")
        return bool(moved > revision)

    def _sums_as_before(self, connection: Any) -> Sums:
        """Returns the sums of the seals. Raises AnotherHistory if these are of another key than what was loaded."""
        try:
            sealer, sums = self._opened(connection)
        except Superseded as fault:
            # This state was read just before another thread saw the new key; a load reads the state after it.
            raise AnotherHistory(str(fault)) from fault
        if sealer.key_id != self._sealer.key_id:
            raise AnotherHistory(f"the store was sealed anew with key {sealer.key_id}")
        return sums

    def _opened(self, connection: Any) -> tuple[Sealer, Sums]:
        """Returns the sealer of the key in effect, and the sums of the seals. Raises Superseded, StoreUnavailable."""
        columns = _SealedHead._fields
        row = connection.execute(f"SELECT {', '.join(columns)} FROM head").fetchone()  # noqa: S608
        return self._keys.opening(_SealedHead(*row))

    def _policies(self, connection: Any, where: str, values: tuple[Any, ...]) -> list[Policy]:
        found = connection.execute(f"SELECT CAST(document AS TEXT), seal FROM policy{where}", values)  # noqa: S608
        policies = []
        for document, seal in found.fetchall():
            policy = rows.POLICIES.validate_json(document)
            self._sealer.demand(policy.name, policy, seal)
            policies.append(policy)
        return policies

    def _signals(self, connection: Any, sums: Sums) -> list[Signal]:
        found = connection.execute(
            "SELECT name, value, expires_at, setter, updated_at, revision, seal FROM signal ORDER BY name"
        ).fetchall()
        self._sealer.demand_sum("signal", (row[-1] for row in found), sums)
        signals = []
        for name, value, expires, setter, updated, revision, seal in found:
            signal = Signal(
                name=name,
                value=json.loads(value),
                expires_at=_at(expires),
                setter=setter,
                updated_at=_at(updated),
                revision=revision,
            )
            self._sealer.demand(name, signal, seal)
            signals.append(signal)
        return signals

    def _locks(self, connection: Any, head: HeadState) -> Locks:
        """Returns the locks that are not lifted and not recorded as expired."""
        if not head.locks:
            return NO_LOCKS
        found = connection.execute(
            f"""SELECT name, principal, group_name, token_id, CAST(accounts AS TEXT), CAST(also AS TEXT), comment,
                creator, created_at, expires_at, end_grants, ended_grants, revision, seal
            FROM access_lock WHERE {text_of(predicates.lock_counted())} ORDER BY name"""  # noqa: S608
        ).fetchall()
        if len(found) != head.locks:
            raise self._sealer.refuse(f"{head.locks} locks may stand, and {len(found)} are there")
        locks = []
        for (name, principal, group, token_id, accounts, also, comment, creator, created, expires, ends, ended,
                revision, seal) in found:  # fmt: skip
            lock = Lock(
                name=name,
                target=Target(principal=principal, group=group, token_id=token_id),
                comment=comment,
                creator=creator,
                created_at=_at(created),
                expires_at=instant(expires),
                end_grants=bool(ends),
                ended_grants=ended,
                revision=revision,
                accounts=tuple(Account(*account) for account in json.loads(accounts)),
                also=tuple(json.loads(also)),
            )
            self._sealer.demand(name, lock, seal)
            locks.append(lock)
        return Locks(locks)

    def _advanced_sum(
        self, found: Iterable[tuple[Any, ...]], held: FindGrant, now: int, sums: Sums
    ) -> tuple[int, dict[str, int]]:
        """Returns what `_total` and `_aside` are after these changes.

        Raises StoreUnavailable unless these are all grants that changed, each with its seal.
        """
        total, aside = self._total, dict(self._aside)
        for run_out, ended, *columns, seal in found:
            name = columns[0]
            before = held(name)
            old = aside.pop(name, None)
            if old is None and before is not None:
                old = seal_number(self._sealer.of_live(live_text(before)))
            total -= old or 0
            if run_out is None and ended is None:
                new = self._demand_live(columns, seal)
                total += new
                if not self._decoder.is_live(columns, now):
                    aside[name] = new
        self._sealer.demand_total(GRANTS, total, sums)
        return total, aside

    def _demand_live(self, columns: Sequence[Any], seal: bytes | None) -> int:
        """Returns the grant's seal as a number. Raises StoreUnavailable if it is not the seal of the columns."""
        (grant,) = self._decoder.live([(*columns, seal)])
        wanted = self._sealer.of_live(live_text(grant))
        self._sealer.demand_equal(grant.name, wanted, seal)
        return seal_number(wanted)

    def _read_grants(
        self, connection: Any, now: datetime, progress: Progress, sums: Sums
    ) -> Iterator[list[CachedGrant]]:
        total, live = _count_live(connection, now), text_of(predicates.live(now))
        cursor = connection.cursor() if self._sqlite else connection.cursor(name="live")
        cursor.execute(f"SELECT {COLUMNS} FROM access_grant WHERE {live}")  # noqa: S608
        self._decoder = GrantDecoder()
        read = counted = 0
        while chunk := cursor.fetchmany(_CHUNK):
            grants = self._decoder.live(chunk)
            counted += self._demand_seals(grants, chunk)
            yield grants
            read += len(chunk)
            progress(read, total)
        cursor.close()
        # CASE, not NOT: for an undecided request SQL's answer may be NULL, both for "is live" and for its negation.
        over = f"{text_of(predicates.end_unrecorded())} AND CASE WHEN {live} THEN 0 ELSE 1 END = 1"
        left = connection.execute(f"SELECT {COLUMNS} FROM access_grant WHERE {over}").fetchall()  # noqa: S608
        self._aside = {row[0]: self._demand_live(row[:-1], row[-1]) for row in left}
        self._total = counted + sum(self._aside.values())
        # After the last chunk, but before the caller has taken over anything: it keeps nothing that does not add up.
        self._sealer.demand_total(GRANTS, self._total, sums)

    def _demand_seals(self, grants: Iterable[CachedGrant], found: Iterable[tuple[Any, ...]]) -> int:
        """Returns the sum of their seals. Raises StoreUnavailable if one is not the seal of its grant.

        The texts equal those of `live_text`, but are put together from the rows in a third of the time: there are up to
        a million at start.
        """
        kept, state, counted, is_sqlite = self._decoder.sealed, self._sealer.live_state, 0, self._sqlite
        lists, groups, texts = kept.lists, kept.groups, kept.texts
        for grant, row in zip(grants, found, strict=True):
            (name, subject, policy, revision, resources, actions, duration, starts, expires, asked_until, proved,
                claims, condition, chain, _, seal) = row  # fmt: skip
            if claims is not None:
                text = live_text(grant)
            else:
                # On SQLite the column's text is as this service wrote it.
                listed_resources = resources if is_sqlite else list_text(grant.resources)
                is_metered = grant.is_metered
                text = (
                    f"{name}\x1f{subject}\x1f{policy}\x1f{revision}\x1f{listed_resources}\x1f{lists[actions]}\x1f{duration}"
                    f"\x1f{'' if starts is None else starts}\x1f{'' if expires is None or is_metered else expires}"
                    f"\x1f{'' if asked_until is None else asked_until}\x1f{groups[proved] or ''}\x1f"
                    f"\x1f{texts[condition]}\x1f{lists[chain]}\x1f{is_metered}"
                )
            hashed = state.copy()
            hashed.update(text.encode())
            wanted = hashed.digest()
            if wanted != seal:
                self._sealer.demand_equal(name, wanted, seal)
            counted += from_bytes(wanted, "big")
        return counted

    @contextmanager
    def _connected(self) -> Iterator[Any]:
        with self._door.passed():
            kept = self._connection
            if kept is not None and not self._sqlite and postgresql.has_ended(kept.dbapi_connection):
                self._give_up()
            if self._connection is None:
                self._connection = self._engine.raw_connection()
                self._connection.detach()
                if not self._sqlite:
                    self._connection.dbapi_connection.autocommit = True
            try:
                yield self._connection.dbapi_connection
            except BaseException:
                self._seen = None
                # Its state is not known: the next read takes a new connection.
                self._give_up()
                raise

    def _give_up(self) -> None:
        """Closes the connection without a rollback, which a broken one would refuse."""
        connection, self._connection = self._connection, None
        # By the driver: the pool does not close a detached connection, and the garbage collector may never get to it.
        with suppress(Exception):
            connection.dbapi_connection.close()
        connection.invalidate()


def _count_live(connection: Any, now: datetime) -> int:
    """Returns how many grants are live. By these conditions two indexes count them, and no row is read."""
    counts = []
    for since in (col(GrantRow.expires_at) > now, predicates.undecided(now)):
        condition = text_of(and_(predicates.end_unrecorded(), since))
        counts.append(connection.execute(f"SELECT count(*) FROM access_grant WHERE {condition}").fetchone()[0])  # noqa: S608
    return sum(counts)


@contextmanager
def _snapshot(connection: Any, sqlite: bool) -> Iterator[None]:
    connection.execute("BEGIN" if sqlite else "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")


def _at(microseconds: int) -> datetime:
    return EPOCH + timedelta(microseconds=microseconds)


def _microseconds(instant: datetime) -> int:
    return (instant - EPOCH) // MICROSECOND
