"""What Check holds in memory, read from the store by revision, on a connection of its own.

Plain SQL over the driver: it is read a million rows at a time at start, and before every strong check.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from sqlalchemy import Engine

from jit_service.domain.grant import Limits
from jit_service.domain.live import LiveGrant
from jit_service.domain.policy import Policy
from jit_service.domain.signal import Signal
from jit_service.storage import rows
from jit_service.storage.failures import translated
from jit_service.storage.tables import EPOCH, MICROSECOND

Progress = Callable[[int, int], None]
"""Told how many grants are read, and how many there are."""
_CHUNK: Final = 5_000
_NO_LIMITS: Final = Limits()
_COLUMNS: Final = """name, subject, policy, policy_revision, CAST(resources AS TEXT), CAST(actions AS TEXT), duration,
    starts_at, expires_at, request_expires_at, requester, CAST(requester_groups AS TEXT), CAST(claims AS TEXT),
    check_condition, CAST(chain AS TEXT), CAST(limits AS TEXT), ended_at"""
_LIVE: Final = "ended_at IS NULL AND (expires_at > {now} OR (expires_at IS NULL AND request_expires_at > {now}))"

_OVER: Final = "expires_at IS NOT NULL AND (ended_at IS NOT NULL OR expires_at <= {now})"


class Head(NamedTuple):
    """The store's commit counter, and the latest instant that anything was judged at."""

    revision: int
    time: datetime


class Changed(NamedTuple):
    """A grant as it is after a change; `live` is None where it is over, and `was_access` if it had been approved."""

    name: str
    subject: str
    live: LiveGrant | None
    was_access: bool = False


class Delta(NamedTuple):
    """What is new since a revision: changed grants and policies, and every signal there is now (None: not told).

    `ended` are subjects that have had access which is over.
    """

    head: Head
    grants: list[Changed]
    policies: list[Policy]
    signals: list[Signal] | None
    ended: frozenset[str] = frozenset()


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

    def moved(self) -> Head | None:
        """Returns the head, or None where no commit can have moved it since the last call that returned one."""
        with self._connected() as connection:
            version = connection.execute("PRAGMA data_version").fetchone()[0] if self._sqlite else None
            if version is not None and version == self._seen:
                return None
            head = _head(connection)
            # Only now: a read that failed has seen nothing.
            self._seen = version
            return head

    def since(self, revision: int) -> Delta:
        """Returns what is new since the revision, as one snapshot."""
        with self._connected() as connection, _snapshot(connection, self._sqlite):
            head = _head(connection)
            after = f"revision > {self._mark}"
            found = connection.execute(f"SELECT {_COLUMNS} FROM access_grant WHERE {after}", (revision,))  # noqa: S608
            now = _microseconds(head.time)
            grants = [self._rights.changed(row, now) for row in found.fetchall()]
            found = connection.execute(f"SELECT CAST(document AS TEXT) FROM policy WHERE {after}", (revision,))  # noqa: S608
            policies = [rows.POLICIES.validate_json(row[0]) for row in found.fetchall()]
            ended = frozenset(changed.subject for changed in grants if changed.was_access)
            return Delta(head, grants, policies, _signals(connection), ended)

    def load(self, told: Progress) -> Iterator[Delta]:
        """Yields everything that is live, in pieces of one snapshot; the first has all policies and signals."""
        with self._connected() as connection, _snapshot(connection, self._sqlite):
            head = _head(connection)
            where = _LIVE.format(now=_microseconds(head.time))
            total = connection.execute(f"SELECT count(*) FROM access_grant WHERE {where}").fetchone()[0]  # noqa: S608
            documents = connection.execute("SELECT CAST(document AS TEXT) FROM policy").fetchall()
            policies = [rows.POLICIES.validate_json(row[0]) for row in documents]
            over = _OVER.format(now=_microseconds(head.time))
            found = connection.execute(f"SELECT DISTINCT subject FROM access_grant WHERE {over}")  # noqa: S608
            ended = frozenset(row[0] for row in found.fetchall())
            yield Delta(head, [], policies, _signals(connection), ended)
            cursor = connection.cursor() if self._sqlite else connection.cursor(name="live")
            cursor.execute(f"SELECT {_COLUMNS} FROM access_grant WHERE {where}")  # noqa: S608
            read, now = 0, _microseconds(head.time)
            while chunk := cursor.fetchmany(_CHUNK):
                read += len(chunk)
                yield Delta(head, [self._rights.changed(row, now) for row in chunk], [], None)
                told(read, total)
            cursor.close()
        self._rights = _Rights()

    def close(self) -> None:
        """Gives the connection back."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @contextmanager
    def _connected(self) -> Iterator[Any]:
        with translated():
            if self._connection is None:
                self._connection = self._engine.raw_connection()
                self._connection.detach()
                if not self._sqlite:
                    self._connection.dbapi_connection.autocommit = True
            try:
                yield self._connection.dbapi_connection
            except BaseException:
                self._seen = None
                self.close()
                raise


class _Rights:
    """Makes live grants of rows. Equal texts, lists and groups of many grants are one object."""

    def __init__(self) -> None:
        self._lists: dict[str, tuple[str, ...]] = {}
        self._groups: dict[str, frozenset[str]] = {}
        self._spans: dict[int, timedelta] = {}
        self._texts: dict[str, str] = {}

    def changed(self, row: tuple[Any, ...], now: int) -> Changed:
        (name, subject, policy, policy_revision, resources, actions, duration, starts, expires, asked_until) = row[:10]
        requester, groups, claims, condition, chain, limits, ended = row[10:]
        over = ended is not None or now >= (asked_until if expires is None else expires)
        if over:
            return Changed(name, subject, None, was_access=expires is not None)
        live = LiveGrant(
            name,
            subject,
            self._text(policy),
            policy_revision,
            tuple(json.loads(resources)),
            self._list(actions),
            self._span(duration),
            _instant(starts),
            _instant(expires),
            _instant(asked_until) if expires is None else None,
            self._group(groups) if subject == requester else None,
            json.loads(claims) if condition else None,
            self._text(condition),
            self._list(chain),
            limits != "{}" and rows.LIMITS.validate_json(limits) != _NO_LIMITS,
        )
        return Changed(name, subject, live)

    def _text(self, text: str) -> str:
        return self._texts.setdefault(text, text)

    def _list(self, text: str) -> tuple[str, ...]:
        known = self._lists.get(text)
        if known is None:
            known = self._lists[text] = tuple(json.loads(text))
        return known

    def _group(self, text: str) -> frozenset[str]:
        known = self._groups.get(text)
        if known is None:
            known = self._groups[text] = frozenset(json.loads(text))
        return known

    def _span(self, microseconds: int) -> timedelta:
        known = self._spans.get(microseconds)
        if known is None:
            known = self._spans[microseconds] = timedelta(microseconds=microseconds)
        return known


@contextmanager
def _snapshot(connection: Any, sqlite: bool) -> Iterator[None]:
    connection.execute("BEGIN" if sqlite else "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")


def _head(connection: Any) -> Head:
    revision, time = connection.execute("SELECT revision, time FROM head").fetchone()
    return Head(revision, EPOCH + time * MICROSECOND)


def _signals(connection: Any) -> list[Signal]:
    found = connection.execute("SELECT name, value, expires_at FROM signal ORDER BY name").fetchall()
    return [Signal(name=name, value=json.loads(value), expires_at=_at(expires)) for name, value, expires in found]


def _instant(microseconds: int | None) -> datetime | None:
    return None if microseconds is None else EPOCH + timedelta(microseconds=microseconds)


def _at(microseconds: int) -> datetime:
    return EPOCH + timedelta(microseconds=microseconds)


def _microseconds(instant: datetime) -> int:
    return (instant - EPOCH) // MICROSECOND
