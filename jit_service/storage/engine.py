"""Connections: what each database must be told so that commits are durable, reads are snapshots, and waits end."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import OperationalError

WAIT_SECONDS: Final = 5
"""How long a statement waits for a lock or a connection before the store counts as unavailable."""
_TURN_SECONDS: Final = 0.0005


def open_engine(url: str) -> Engine:
    """Returns an engine for a `sqlite:///FILE` or `postgresql+psycopg://…` URL. Connects to nothing yet."""
    if make_url(url).get_backend_name() == "sqlite":
        return _sqlite(url)
    return _postgresql(url)


def for_reading(engine: Engine) -> Engine:
    """Returns a view of the engine whose transactions read one snapshot and cannot write."""
    if engine.dialect.name == "sqlite":
        return engine
    return engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)


def for_writing(engine: Engine) -> Engine:
    """Returns a view of the engine whose transactions take the write lock at once, on SQLite; PostgreSQL locks rows."""
    return engine.execution_options(jit_write=True)


def _sqlite(url: str) -> Engine:
    engine = create_engine(url, connect_args={"timeout": WAIT_SECONDS, "check_same_thread": False})

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _: Any) -> None:
        # The driver must not begin transactions by itself: `begin` below says how.
        connection.isolation_level = None
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        if connection.get_execution_options().get("jit_write", False):
            begin_immediate(connection.exec_driver_sql)
        else:
            connection.exec_driver_sql("BEGIN")

    return engine


def begin_immediate(execute: Callable[[str], object]) -> None:
    """Begins a SQLite transaction with the write lock, for which it waits up to WAIT_SECONDS.

    It waits in short steps: SQLite's own grow to 100 ms, and other processes write too.
    """
    deadline = time.monotonic() + WAIT_SECONDS
    execute("PRAGMA busy_timeout=0")
    try:
        while True:
            try:
                execute("BEGIN IMMEDIATE")
            except (OperationalError, sqlite3.OperationalError) as fault:
                if not _is_busy(fault) or time.monotonic() > deadline:
                    raise
                time.sleep(_TURN_SECONDS)
            else:
                return
    finally:
        execute(f"PRAGMA busy_timeout={WAIT_SECONDS * 1000}")


def _is_busy(fault: OperationalError | sqlite3.OperationalError) -> bool:
    cause = fault.orig if isinstance(fault, OperationalError) else fault
    return getattr(cause, "sqlite_errorcode", None) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_BUSY_SNAPSHOT)


def _postgresql(url: str) -> Engine:
    milliseconds = WAIT_SECONDS * 1000
    return create_engine(
        url,
        pool_size=16,
        pool_timeout=WAIT_SECONDS,
        pool_pre_ping=True,
        connect_args={
            "connect_timeout": WAIT_SECONDS,
            "options": f"-c lock_timeout={milliseconds} -c statement_timeout={2 * milliseconds} -c timezone=UTC",
        },
    )
