"""Translates the database's errors into ours. Their texts may contain addresses and values, so they stay in causes."""

from __future__ import annotations

import sqlite3
import sys
from types import TracebackType
from typing import Final

from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from jit_service.domain.errors import JitError, LostRace, StoreUnavailable
from jit_service.metrics.catalogue import STORE_ERRORS

_Types = tuple[type[BaseException], ...]
# What the first two characters of a SQLSTATE tell (https://www.postgresql.org/docs/current/errcodes-appendix.html).
_CLASSES: Final = {"08": "connection", "25": "read_only", "40": "conflict", "53": "full", "55": "busy", "57": "stopped"}
_CODES: Final = {
    sqlite3.SQLITE_BUSY: "busy",
    sqlite3.SQLITE_LOCKED: "busy",
    sqlite3.SQLITE_FULL: "full",
    sqlite3.SQLITE_IOERR: "disk",
    sqlite3.SQLITE_READONLY: "read_only",
    sqlite3.SQLITE_CANTOPEN: "connection",
    sqlite3.SQLITE_CORRUPT: "corrupt",
    sqlite3.SQLITE_NOTADB: "corrupt",
}
_SAID: Final = {
    "25006": "the store takes no writes",
    "42501": "the database refuses the service's user a right that it needs; see `jit-service check`",
    "42P01": "the database lacks a table; run `jit-service migrate`, or end the restore that is under way",
    # A session that did nothing for too long in a transaction, as after a pause of this host.
    "25P03": "the store does not answer",
    # A pooler that gives each transaction another session, and was not seen to be one.
    "26000": "a pooler mixes up sessions; say pooler=transaction in the database URL",
    "42P05": "a pooler mixes up sessions; say pooler=transaction in the database URL",
}
"""What is said of a SQLSTATE (https://www.postgresql.org/docs/current/errcodes-appendix.html)."""
_AWAY: Final = ("08", "53", "57", "58", "XX")
"""Classes of SQLSTATEs of a server that cannot do now what it can do: connections, resources, shutdown, disk."""
_ENDED: Final = ("08", "57P")
"""Of these the SQLSTATEs of a connection that ended. It may have ended between a commit and the answer to it."""
_LOCK_NOT_AVAILABLE: Final = "55P03"
_BROKEN_FILES: Final = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def _away_and_broken() -> tuple[_Types, _Types]:
    """Returns the errors of a database that does not answer, and those of a constraint.

    psycopg is not imported here: where nobody has, no fault is of its. A process without a free file could not either.
    """
    away: _Types = OperationalError, InterfaceError, PoolTimeout, sqlite3.OperationalError, sqlite3.InterfaceError
    broken: _Types = IntegrityError, sqlite3.IntegrityError
    psycopg = sys.modules.get("psycopg")
    if psycopg is None:
        return away, broken
    return (*away, psycopg.OperationalError, psycopg.InterfaceError), (*broken, psycopg.IntegrityError)


def kind_of(fault: BaseException) -> str:
    """Returns what kind of fault it is, in one word of a few."""
    cause = getattr(fault, "orig", fault)
    if isinstance(fault, PoolTimeout):
        return "pool"
    if isinstance(cause, sqlite3.Error):
        # The low byte is the primary code; extended codes say more.
        return _CODES.get(getattr(cause, "sqlite_errorcode", 0) & 0xFF, "other")
    if (state := getattr(cause, "sqlstate", None)) is not None:
        return _CLASSES.get(state[:2], "other")
    return "connection" if isinstance(fault, _away_and_broken()[0]) else "other"


def waited_for_lock(fault: BaseException) -> bool:
    """Whether PostgreSQL gave up a statement since somebody held a lock for longer than `lock_timeout`."""
    return getattr(getattr(fault, "orig", fault), "sqlstate", None) == _LOCK_NOT_AVAILABLE


def is_silence(fault: BaseException | None) -> bool:
    """Whether the fault is that nobody answered, for which its call has waited for seconds."""
    if isinstance(fault, PoolTimeout):
        return True
    psycopg = sys.modules.get("psycopg")
    if psycopg is None:
        return False
    driver = getattr(fault, "orig", fault)
    from jit_service.storage.bounded_connection import NoAnswer

    return isinstance(driver, NoAnswer | psycopg.errors.ConnectionTimeout)


class translate_errors:
    """Raises StoreUnavailable if the database does not answer, LostRace if another call stored the same thing first."""

    __slots__ = ()

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: type[BaseException] | None, fault: BaseException | None, __: TracebackType | None) -> None:
        if fault is None or isinstance(fault, JitError):
            return
        away, broken = _away_and_broken()
        if isinstance(fault, broken):
            STORE_ERRORS.add("conflict")
            raise LostRace("another call stored the same thing first; read it again") from fault
        STORE_ERRORS.add(kind_of(fault))
        if isinstance(fault, away) or (isinstance(fault, DBAPIError) and fault.connection_invalidated):
            raise StoreUnavailable("the store does not answer") from fault
        driver = getattr(fault, "orig", fault)
        state = getattr(driver, "sqlstate", None) or ""
        if state in _SAID or state.startswith(_AWAY):
            raise StoreUnavailable(_SAID.get(state, "the store does not answer")) from fault
        if getattr(driver, "sqlite_errorcode", 0) & 0xFF in _BROKEN_FILES:
            raise StoreUnavailable("the database file is damaged") from fault


class demand_outcome:
    """Around a commit: raises StoreUnavailable, which says so, where nobody knows whether it happened.

    The same request with the same request_id then gets the answer of the commit, if it did.
    """

    __slots__ = ()

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: type[BaseException] | None, fault: BaseException | None, __: TracebackType | None) -> None:
        if not isinstance(fault, Exception) or isinstance(fault, JitError):
            return
        state = getattr(getattr(fault, "orig", fault), "sqlstate", None) or ""
        if not state or state.startswith(_ENDED):
            STORE_ERRORS.add(kind_of(fault))
            raise StoreUnavailable(
                "the store did not say whether it took the change; repeat the call with the same request_id"
            ) from fault
