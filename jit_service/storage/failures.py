"""Translates the database's errors into ours. Their texts may contain addresses and values, so they stay in causes."""

from __future__ import annotations

import sqlite3
from functools import cache
from types import TracebackType
from typing import Final

from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from jit_service.domain.errors import JitError, LostRace, StoreUnavailable

_Types = tuple[type[BaseException], ...]
_READ_ONLY: Final = "25006"
"""The SQLSTATE of a write to a read-only server: a standby, or a primary that was demoted."""


@cache
def _away_and_broken() -> tuple[_Types, _Types]:
    """Returns the errors of a database that does not answer, and those of a constraint.

    Only a fault asks for them, since importing psycopg takes 60 ms, which a service on SQLite does without.
    """
    away: _Types = OperationalError, InterfaceError, PoolTimeout, sqlite3.OperationalError, sqlite3.InterfaceError
    broken: _Types = IntegrityError, sqlite3.IntegrityError
    try:
        import psycopg
    except ImportError:  # PostgreSQL is an extra.
        return away, broken
    return (*away, psycopg.OperationalError, psycopg.InterfaceError), (*broken, psycopg.IntegrityError)


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
            raise LostRace("another call stored the same thing first; read it again") from fault
        if isinstance(fault, away) or (isinstance(fault, DBAPIError) and fault.connection_invalidated):
            raise StoreUnavailable("the store does not answer") from fault
        if getattr(getattr(fault, "orig", fault), "sqlstate", None) == _READ_ONLY:
            raise StoreUnavailable("the store takes no writes") from fault
