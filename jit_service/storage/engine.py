"""Connections: what each database must be told so that commits are durable, reads are snapshots, and waits end."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Connection, Engine, create_engine, event, make_url

WAIT_SECONDS: Final = 5
"""How long a statement waits for a lock or a connection before the store counts as unavailable."""


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
        write = connection.get_execution_options().get("jit_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine


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
