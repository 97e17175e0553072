"""The database's failures as ours; their texts may hold addresses and values, so they stay in the cause."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

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
try:
    import psycopg
except ImportError:  # PostgreSQL is an extra.
    pass
else:
    _AWAY += (psycopg.OperationalError, psycopg.InterfaceError)
    _BROKEN += (psycopg.IntegrityError,)


@contextmanager
def translated() -> Iterator[None]:
    """Raises StoreUnavailable where the database does not answer, LostRace where somebody else was first."""
    try:
        yield
    except _BROKEN as fault:
        raise LostRace("another call stored the same thing first; read it again") from fault
    except _AWAY as fault:
        raise StoreUnavailable("the store does not answer") from fault
    except DBAPIError as fault:
        if fault.connection_invalidated:
            raise StoreUnavailable("the store does not answer") from fault
        raise
