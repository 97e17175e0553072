"""Translates the database's errors into ours. Their texts may contain addresses and values, so they stay in causes."""

from __future__ import annotations

import sqlite3
from types import TracebackType
from typing import Final

from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from jit_service.domain.errors import LostRace, StoreUnavailable

_Types = tuple[type[BaseException], ...]
_AWAY: _Types = (
    OperationalError,
    InterfaceError,
    PoolTimeout,
    sqlite3.OperationalError,
    sqlite3.InterfaceError,
)
_BROKEN: _Types = (IntegrityError, sqlite3.IntegrityError)
_READ_ONLY: Final = "25006"
"""The SQLSTATE of a write to a read-only server: a standby, or a primary that was demoted."""
try:
    import psycopg
except ImportError:  # PostgreSQL is an extra.
    pass
else:
    _AWAY += (psycopg.OperationalError, psycopg.InterfaceError)
    _BROKEN += (psycopg.IntegrityError,)


class translate_errors:
    """Raises StoreUnavailable if the database does not answer, LostRace if another call stored the same thing first."""

    __slots__ = ()

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: type[BaseException] | None, fault: BaseException | None, __: TracebackType | None) -> None:
        if fault is None:
            return
        if isinstance(fault, _BROKEN):
            raise LostRace("another call stored the same thing first; read it again") from fault
        if isinstance(fault, _AWAY) or (isinstance(fault, DBAPIError) and fault.connection_invalidated):
            raise StoreUnavailable("the store does not answer") from fault
        if getattr(getattr(fault, "orig", fault), "sqlstate", None) == _READ_ONLY:
            raise StoreUnavailable("the store takes no writes") from fault
