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
_READ_ONLY: Final = "25006"
"""The SQLSTATE of a write to a read-only server: a standby, or a primary that was demoted."""
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
        if getattr(getattr(fault, "orig", fault), "sqlstate", None) == _READ_ONLY:
            raise StoreUnavailable("the store takes no writes") from fault
