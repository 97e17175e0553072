"""What Check holds in memory, read from the store by revision, on a connection of its own.

Plain SQL over the driver: it is read a million rows at a time at start, and before every strong check.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from pydantic_core import from_json
from sqlalchemy import Engine

from jit_service.domain.errors import StoreUnavailable
from jit_service.domain.grant import Limits
from jit_service.domain.live import LiveGrant
from jit_service.domain.lock import NO_LOCKS, Lock, Locks, Target
from jit_service.domain.policy import Policy
from jit_service.domain.signal import Signal
from jit_service.storage import known, postgresql, rows
from jit_service.storage.failures import translated
from jit_service.storage.tables import EPOCH, MICROSECOND

Progress = Callable[[int, int], None]
"""Told how many grants are read, and how many there are."""
_CHUNK: Final = 500
"""How many rows are read at a time: as many as the processor's cache holds until they are grants."""
_NO_LIMITS: Final = Limits()
_MOST_KEPT: Final = 100_000
# NULL where nothing reads it (`LiveGrant`): a million rows are not to carry it.
_COLUMNS: Final = """name, subject, policy, policy_revision, CAST(resources AS TEXT), CAST(actions AS TEXT), duration,
    starts_at, expires_at, CASE WHEN expires_at IS NULL THEN request_expires_at END,
    CASE WHEN requester = subject THEN CAST(requester_groups AS TEXT) END,
    CASE WHEN check_condition <> '' AND requester = subject THEN CAST(claims AS TEXT) END,
    check_condition, CAST(chain AS TEXT), CAST(limits AS TEXT)"""
_LIVE: Final = "ended_at IS NULL AND (expires_at > {now} OR (expires_at IS NULL AND request_expires_at > {now}))"
# Nothing that is live has run out; so said, an index counts them without reading them.
_COUNT: Final = """SELECT
    (SELECT count(*) FROM access_grant WHERE run_out_at IS NULL AND ended_at IS NULL AND expires_at > {now})
    + (SELECT count(*) FROM access_grant
        WHERE run_out_at IS NULL AND ended_at IS NULL AND expires_at IS NULL AND request_expires_at > {now})"""
_OVER: Final = "expires_at IS NOT NULL AND (ended_at IS NOT NULL OR expires_at <= {now})"


class Head(NamedTuple):
    """Where the store is in its history, the latest instant of any judgement, and how many locks may stand."""

    place: known.Head
    time: datetime
    locks: int = 0

    @property
    def revision(self) -> int:
        """The store's commit counter."""
        return self.place.revision


class AnotherHistory(Exception):
    """The store is not what it was read as, gone on: a backup was restored, or a failover lost commits."""


class Changed(NamedTuple):
    """A grant as it is after a change; `live` is None where it is over, and `was_access` if it had been approved."""

    name: str
    subject: str
    live: LiveGrant | None
    was_access: bool = False


class Delta(NamedTuple):
    """What is new since a revision: changed grants and policies, and every signal there is now (None: not told).

    `ended` are subjects that have had access which is over; `locks` are all that may stand now.
    """

    head: Head
    grants: list[Changed]
    policies: list[Policy]
    signals: list[Signal] | None
    ended: frozenset[str] = frozenset()
    locks: Locks = NO_LOCKS


class Everything(NamedTuple):
    """All there is at a head: the live grants, in pieces, policies and signals; `ended` and `locks` as in `Delta`."""

    head: Head
    grants: Iterator[list[LiveGrant]]
    policies: list[Policy]
    signals: list[Signal]
    ended: frozenset[str]
    locks: Locks = NO_LOCKS


class LiveReader:
    """Reads what Check holds. For one thread at a time. Every method raises StoreUnavailable.

    The connection never writes and has no transaction open between reads, since SQLite's `data_version` shows neither
    its own commits nor anything within a transaction.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._sqlite = engine.dialect.name == "sqlite"
        self._mark = "?" if self._sqlite else "%s"
        self._connection: Any = None
        self._seen: int | None = None
        self._rights = _Rights()

    def moved(self, since: known.Head) -> Head | None:
        """Returns the head, or None where no commit can have moved it since the last call that returned one.

        Raises AnotherHistory where the store does not go on from `since`.
        """
        with self._connected() as connection:
            version = connection.execute("PRAGMA data_version").fetchone()[0] if self._sqlite else None
            if version is not None and version == self._seen:
                return None
            head = self._head(connection, since)
            # Only now: a read that failed has seen nothing.
            self._seen = version
            return head

    def since(self, place: known.Head) -> Delta:
        """Returns what is new since the place, as one snapshot. Raises AnotherHistory as `moved` does."""
        with self._connected() as connection, _snapshot(connection, self._sqlite):
            head, revision = self._head(connection, place), place.revision
            after = f"revision > {self._mark}"
            found = connection.execute(f"SELECT ended_at, {_COLUMNS} FROM access_grant WHERE {after}", (revision,))  # noqa: S608
            now = _microseconds(head.time)
            grants = [self._rights.changed(row, now) for row in found.fetchall()]
            found = connection.execute(f"SELECT CAST(document AS TEXT) FROM policy WHERE {after}", (revision,))  # noqa: S608
            policies = [rows.POLICIES.validate_json(row[0]) for row in found.fetchall()]
            ended = frozenset(changed.subject for changed in grants if changed.was_access)
            return Delta(head, grants, policies, _signals(connection), ended, _locks(connection, head))

    @contextmanager
    def load(self, told: Progress) -> Iterator[Everything]:
        """Gives everything that is live, as one snapshot; the grants are read, and `told` of, as they are taken."""
        with self._connected() as connection, _snapshot(connection, self._sqlite):
            head = self._head(connection, known.BEGINNING)
            now = _microseconds(head.time)
            documents = connection.execute("SELECT CAST(document AS TEXT) FROM policy").fetchall()
            policies = [rows.POLICIES.validate_json(row[0]) for row in documents]
            over = _OVER.format(now=now)
            found = connection.execute(f"SELECT DISTINCT subject FROM access_grant WHERE {over}")  # noqa: S608
            ended = frozenset(row[0] for row in found.fetchall())
            grants, locks = self._pieces(connection, now, told), _locks(connection, head)
            yield Everything(head, grants, policies, _signals(connection), ended, locks)

    def close(self) -> None:
        """Gives the connection back."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _head(self, connection: Any, since: known.Head) -> Head:
        # In one statement, so that both are of one commit, and a check that appended a record costs no other look.
        there = f"(SELECT hash FROM audit_event WHERE seq = {self._mark})"  # noqa: S608
        wrong = "false" if self._sqlite else postgresql.NO_PRIMARY
        asked = f"SELECT revision, seq, hash, time, locks, {there}, {wrong} FROM head"  # noqa: S608
        revision, seq, hash_, time, locks, hash_there, is_no_primary = connection.execute(
            asked, (since.seq,)
        ).fetchone()
        if is_no_primary:
            raise StoreUnavailable("the database server takes no writes: it is a standby, or read-only")
        place = known.Head(revision, seq, bytes(hash_))
        if place != since and not since.is_followed_by(revision, hash_there and bytes(hash_there)):
            raise AnotherHistory(f"the store is at revision {revision} of another history than {since.revision}")
        return Head(place, EPOCH + time * MICROSECOND, locks)

    def _pieces(self, connection: Any, now: int, told: Progress) -> Iterator[list[LiveGrant]]:
        total = connection.execute(_COUNT.format(now=now)).fetchone()[0]
        cursor = connection.cursor() if self._sqlite else connection.cursor(name="live")
        cursor.execute(f"SELECT {_COLUMNS} FROM access_grant WHERE {_LIVE.format(now=now)}")  # noqa: S608
        self._rights = _Rights()
        read = 0
        while chunk := cursor.fetchmany(_CHUNK):
            yield self._rights.live(chunk)
            read += len(chunk)
            told(read, total)
        cursor.close()

    @contextmanager
    def _connected(self) -> Iterator[Any]:
        with translated():
            if self._connection is not None and not self._sqlite:
                self._replace_ended()
            if self._connection is None:
                self._connection = self._engine.raw_connection()
                self._connection.detach()
                if not self._sqlite:
                    self._connection.dbapi_connection.autocommit = True
            try:
                yield self._connection.dbapi_connection
            except BaseException:
                self._seen = None
                connection, self._connection = self._connection, None
                # Not given back in order: whatever it is, the next read has another one.
                connection.invalidate()
                raise

    def _replace_ended(self) -> None:
        if postgresql.has_ended(self._connection.dbapi_connection):
            self._connection.invalidate()
            self._connection = None


class _Kept(dict[Any, Any]):
    """What was made of a value, for as long as there are not too many."""

    def __init__(self, make: Callable[[Any], Any]) -> None:
        self._make = make

    def __missing__(self, value: Any) -> Any:
        if len(self) >= _MOST_KEPT:
            self.clear()
        made = self[value] = None if value is None else self._make(value)
        return made


class _Rights:
    """Makes live grants of rows. Equal texts, lists and groups of many grants are one object."""

    def __init__(self) -> None:
        self._texts = _Kept(str)
        self._lists = _Kept(_list)
        self._groups = _Kept(_groups)
        self._spans = _Kept(lambda microseconds: timedelta(microseconds=microseconds))
        self._metered = _Kept(lambda text: rows.LIMITS.validate_json(text) != _NO_LIMITS)

    def changed(self, row: tuple[Any, ...], now: int) -> Changed:
        """Returns what the row, whose first column is `ended_at`, says of its grant."""
        ended, name, subject = row[:3]
        expires, asked_until = row[9:11]
        if ended is not None or now >= (asked_until if expires is None else expires):
            return Changed(name, subject, None, was_access=expires is not None)
        (live,) = self.live([row[1:]])
        return Changed(name, subject, live)

    def live(self, found: Iterable[tuple[Any, ...]]) -> list[LiveGrant]:
        """Returns the grants of rows that are live. In one loop without calls: a million are made at start."""
        texts, lists, groups, spans, metered = self._texts, self._lists, self._groups, self._spans, self._metered
        made: list[LiveGrant] = []
        for (name, subject, policy, revision, resources, actions, duration, starts, expires, asked_until, proved,
                claims, condition, chain, limits) in found:  # fmt: skip
            span = spans[duration]
            # Positional, since keywords cost as much as the rest.
            starts_at = None if starts is None else EPOCH + timedelta(0, 0, starts)
            if starts_at is not None and expires == starts + duration:
                expires_at: datetime | None = starts_at + span
            else:
                expires_at = _instant(expires)
            made.append(
                LiveGrant(
                    name,
                    subject,
                    texts[policy],
                    revision,
                    tuple(from_json(resources, cache_strings="none")),
                    lists[actions],
                    span,
                    starts_at,
                    expires_at,
                    None if asked_until is None else _instant(asked_until),
                    groups[proved],
                    None if claims is None else json.loads(claims),
                    texts[condition],
                    lists[chain],
                    metered[limits],
                )
            )
        return made


@contextmanager
def _snapshot(connection: Any, sqlite: bool) -> Iterator[None]:
    connection.execute("BEGIN" if sqlite else "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")


def _signals(connection: Any) -> list[Signal]:
    found = connection.execute("SELECT name, value, expires_at FROM signal ORDER BY name").fetchall()
    return [Signal(name=name, value=json.loads(value), expires_at=_at(expires)) for name, value, expires in found]


def _groups(text: str) -> frozenset[str] | None:
    """Returns the groups; JSON's null are those that a token left out."""
    found = from_json(text)
    return None if found is None else frozenset(found)


def _locks(connection: Any, head: Head) -> Locks:
    """Returns the locks that may stand, without what no decision reads."""
    if not head.locks:
        return NO_LOCKS
    found = connection.execute(
        """SELECT name, principal, group_name, token_id, comment, creator, created_at, expires_at, revision
        FROM access_lock WHERE deleted_at IS NULL AND expiry_recorded_at IS NULL ORDER BY name"""
    )
    return Locks(
        Lock(
            name=name,
            target=Target(principal=principal, group=group, token_id=token_id),
            comment=comment,
            creator=creator,
            created_at=_at(created),
            expires_at=_instant(expires),
            revision=revision,
        )
        for name, principal, group, token_id, comment, creator, created, expires, revision in found.fetchall()
    )


def _list(text: str) -> tuple[str, ...]:
    return tuple(from_json(text, cache_strings="none"))


def _instant(microseconds: int | None) -> datetime | None:
    # In this order, since a keyword costs as much as the rest.
    return None if microseconds is None else EPOCH + timedelta(0, 0, microseconds)


def _at(microseconds: int) -> datetime:
    return EPOCH + timedelta(microseconds=microseconds)


def _microseconds(instant: datetime) -> int:
    return (instant - EPOCH) // MICROSECOND
