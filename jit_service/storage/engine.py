"""Connections, set up so that commits are durable, reads are snapshots, and waits end."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from pydantic_core import from_json, to_json
from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, event

from jit_service.storage import postgresql

WAIT_SECONDS: Final = 5
"""How long a statement waits for a lock or a connection before the store counts as unavailable."""
_BUSY_SECONDS: Final = WAIT_SECONDS
_TURN_SECONDS: Final = 0.0005
_CHECKPOINT_PAGES: Final = 20_000
"""After how many pages of WAL (80 MB) a writer itself copies them into the database.

All writers wait meanwhile, so `Store.checkpoint_wal` does it earlier, from another connection.
"""
# SQLite must not wait in its own way: `begin_immediate` waits.
# What was merged need not be overwritten with zeros, which some builds of SQLite do.
_OF_WRITERS: Final = ("busy_timeout=0", f"wal_autocheckpoint={_CHECKPOINT_PAGES}", "secure_delete=OFF")
_WAL_BYTES: Final = 32 * 2**20
"""How long SQLite's WAL stays at most, once all of it is in the database."""
_Execute = Callable[[str], object]


class JsonText(str):
    """JSON text for a JSON column: it is stored as it is."""

    __slots__ = ()


def _json(value: Any) -> str:
    return value if isinstance(value, JsonText) else to_json(value).decode()


_OPTIONS: Final[dict[str, Any]] = {
    "json_serializer": _json,
    "json_deserializer": from_json,
    # An error's text goes into the log, and a statement's values are what people wrote and what tokens said.
    "hide_parameters": True,
}


def open_engine(url: str) -> Engine:
    """Returns an engine for a `sqlite:///FILE` or `postgresql+psycopg://…` URL. Connects to nothing yet.

    Raises StoreUnavailable for a URL that cannot be read.
    """
    read = postgresql.read_url(url)
    if read.get_backend_name() == "sqlite":
        return _sqlite(read)
    return postgresql.open_engine(read, wait_seconds=WAIT_SECONDS, **_OPTIONS)


def open_read_only(url: str) -> Engine:
    """Returns an engine that cannot write, and that makes no file beside SQLite's. Raises StoreUnavailable."""
    read = postgresql.read_url(url)
    if read.get_backend_name() != "sqlite":
        return for_reading(open_engine(url))
    path = Path(read.database or "").absolute()
    # Where there is no WAL, nobody has the database open; SQLite would make one even to read.
    manner = "mode=ro" if Path(f"{path}-wal").exists() else "mode=ro&immutable=1"

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(f"file:{quote(str(path))}?{manner}", uri=True, timeout=_BUSY_SECONDS)

    return create_engine("sqlite://", creator=connect, poolclass=NullPool, **_OPTIONS)


def for_reading(engine: Engine) -> Engine:
    """Returns a view of the engine whose transactions read one snapshot and cannot write."""
    if engine.dialect.name == "sqlite":
        return engine
    return engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)


def for_writing(engine: Engine) -> Engine:
    """Returns an engine whose transactions take the write lock at once, on SQLite; PostgreSQL locks rows."""
    if engine.dialect.name != "sqlite":
        return engine
    return _sqlite(engine.url, begin=begin_immediate, pragmas=_OF_WRITERS)


def for_merging(engine: Engine) -> Engine:
    """Returns an engine that merges rows of the audit log. Its commits do not wait for the disk on SQLite.

    What a power cut may undo of it is only how records are stored (https://sqlite.org/pragma.html#pragma_synchronous).
    """
    if engine.dialect.name != "sqlite":
        return engine
    return _sqlite(engine.url, pragmas=(*_OF_WRITERS, "synchronous=NORMAL"))


def _begin(execute: _Execute) -> None:
    execute("BEGIN")


def _sqlite(
    url: URL,
    *,
    begin: Callable[[_Execute], None] = _begin,
    pragmas: Sequence[str] = (),
) -> Engine:
    engine = create_engine(url, connect_args={"timeout": _BUSY_SECONDS, "check_same_thread": False}, **_OPTIONS)

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _: Any) -> None:
        # The driver must not begin transactions by itself: `begin` does.
        connection.isolation_level = None
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
            f"journal_size_limit={_WAL_BYTES}",
            *pragmas,
        ):
            _patiently(partial(connection.execute, f"PRAGMA {pragma}"))

    @event.listens_for(engine, "begin")
    def begin_by(connection: Connection) -> None:
        driver: Any = connection.connection.dbapi_connection
        begin(driver.execute)

    return engine


def begin_immediate(execute: _Execute) -> None:
    """Begins a SQLite transaction with the write lock, for which it waits up to WAIT_SECONDS.

    It polls in short steps, since SQLite's own steps grow to 100 ms and other processes write too. It is for the
    connections of `for_writing`, on which SQLite itself does not wait.
    """
    _patiently(lambda: execute("BEGIN IMMEDIATE"))


def _patiently(run: Callable[[], object]) -> None:
    """Runs a call, and retries it while another connection holds the lock that it needs, for up to WAIT_SECONDS.

    SQLite does not wait at all while another connection changes the journal mode or recovers the WAL
    (https://sqlite.org/wal.html#sometimes_queries_return_sqlite_busy_in_wal_mode).
    """
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            run()
        except sqlite3.OperationalError as fault:
            if not _is_busy(fault) or time.monotonic() > deadline:
                raise
            time.sleep(_TURN_SECONDS)
        else:
            return


def _is_busy(fault: sqlite3.OperationalError) -> bool:
    # The low byte is the primary code; extended codes say why it is busy.
    return fault.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
