"""Brings a database to the schema of this version, and tells whether it has it."""

from __future__ import annotations

import sqlite3
from contextlib import AbstractContextManager
from importlib.metadata import version
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from jit_service.domain.errors import StoreUnavailable
from jit_service.storage import postgresql
from jit_service.storage.engine import for_writing, open_engine

# Any number that nobody else in the database uses for another lock.
_ADVISORY_LOCK = 7_105_212_114


def migrate(url: str) -> None:
    """Applies every migration that the database lacks, in one transaction, under a lock.

    Raises StoreUnavailable, also if the database is of a newer version.
    """
    engine = open_engine(url)
    writing = for_writing(engine)
    try:
        with writing.begin() as connection, _patiently(connection):
            if connection.dialect.name == "postgresql":
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})")
            found = MigrationContext.configure(connection).get_current_revision()
            if found is not None and not _is_known(found):
                raise StoreUnavailable(_newer(found))
            command.upgrade(_config(connection), "head")
        _remove_old_index(engine)
    except (DBAPIError, sqlite3.Error) as fault:
        raise StoreUnavailable(f"cannot migrate the database: {first_line(fault)}") from fault
    finally:
        for each in (writing, engine):
            each.dispose()


def _patiently(connection: Connection) -> AbstractContextManager[None]:
    """Lets a step take its time: an index of a large table is built for longer than a call may wait."""
    return postgresql.patiently(connection.connection.dbapi_connection, seconds=None)


def is_current(engine: Engine) -> bool:
    """Whether the database has the schema of this version. Raises StoreUnavailable."""
    return not schema_fault(engine)


def schema_fault(engine: Engine) -> str:
    """Returns what to do about a database of another version, or nothing if it has the schema of this version.

    Raises StoreUnavailable.
    """
    try:
        with engine.connect() as connection:
            found = MigrationContext.configure(connection).get_current_revision()
    except (DBAPIError, sqlite3.Error) as fault:
        raise StoreUnavailable(f"cannot open the database: {first_line(fault)}") from fault
    wanted = _scripts().get_current_head()
    if found == wanted:
        return ""
    if found is None:
        return "the database has no schema yet; run `jit-service migrate`"
    if not _is_known(found):
        return _newer(found)
    return f"the database has the schema {found} of an older version, not {wanted}; run `jit-service migrate`"


def _remove_old_index(engine: Engine) -> None:
    """Removes the index of the audit log that releases before revision 0017 kept beside SQLite's database."""
    if engine.dialect.name == "sqlite":
        for suffix in ("", "-wal", "-shm"):
            Path(f"{engine.url.database}.audit-index{suffix}").unlink(missing_ok=True)


def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config(None))


def _is_known(revision: str) -> bool:
    return any(script.revision == revision for script in _scripts().walk_revisions())


def _newer(found: str) -> str:
    return (
        f"the database is of a newer version ({found}); this is jit-service {version('jit-service')}, which knows "
        f"{_scripts().get_current_head()}: upgrade jit-service, or restore a backup from before the migration"
    )


def first_line(fault: Exception) -> str:
    """Returns what the database says, without the statement and its values."""
    return str(getattr(fault, "orig", fault)).splitlines()[0]


def _config(connection: Connection | None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    return config
