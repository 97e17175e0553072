"""Brings a database to the schema of this version, and tells whether it has it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from jit_service.domain.errors import StoreUnavailable
from jit_service.storage.engine import for_indexing, for_writing, open_engine

# Any number that nobody else in the database uses for another lock.
_ADVISORY_LOCK = 7_105_212_114


def migrate(url: str) -> None:
    """Applies every migration that the database lacks, in one transaction, under a lock. Raises StoreUnavailable."""
    engine = open_engine(url)
    writing, indexing = for_writing(engine), for_indexing(engine)
    try:
        with writing.begin() as connection:
            if connection.dialect.name == "postgresql":
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})")
            command.upgrade(_config(connection), "head")
        with indexing.connect():
            # Connecting creates SQLite's audit index; here, nobody else does so at the same time.
            pass
    except (DBAPIError, sqlite3.Error) as fault:
        raise StoreUnavailable(f"cannot migrate the database: {_words(fault)}") from fault
    finally:
        for each in (writing, indexing, engine):
            each.dispose()


def is_current(engine: Engine) -> bool:
    """Whether the database has the schema of this version. Raises StoreUnavailable."""
    try:
        with engine.connect() as connection:
            found = MigrationContext.configure(connection).get_current_revision()
    except (DBAPIError, sqlite3.Error) as fault:
        raise StoreUnavailable(f"cannot open the database: {_words(fault)}") from fault
    return found == ScriptDirectory.from_config(_config(None)).get_current_head()


def _words(fault: Exception) -> str:
    return str(getattr(fault, "orig", fault)).splitlines()[0]


def _config(connection: Connection | None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    return config
