"""Brings a database to the schema of this version, and tells whether it has it."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import Script, ScriptDirectory
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from jit_service.domain.errors import StoreUnavailable
from jit_service.storage import postgresql
from jit_service.storage.engine import for_writing, open_engine
from jit_service.storage.failures import waited_for_lock
from jit_service.storage.migration_log import MigrationLog
from jit_service.storage.schema_mark import mark, marked, oldest_serving

LOCK_SECONDS: Final = 2.0
"""How long a migration of PostgreSQL waits for a lock of a table: less than a call may wait for the store."""
PATIENCE_SECONDS: Final = 300.0
_PAUSE_SECONDS: Final = 1.0
_log = logging.getLogger(__name__)
# Any number that nobody else in the database uses for another lock.
_ADVISORY_LOCK = 7_105_212_114


def migrate(url: str) -> None:
    """Applies every migration that the database lacks, in one transaction, under a lock.

    Another `migrate` waits, and then finds nothing to do. Where somebody uses a table for longer than LOCK_SECONDS,
    all is undone and tried again for up to PATIENCE_SECONDS. A database of a newer version that this one may serve is
    left as it is. Raises StoreUnavailable, also if this version may not serve it.
    """
    engine = open_engine(url)
    writing = for_writing(engine)
    try:
        _upgrade_patiently(writing)
        _remove_old_index(engine)
    except (DBAPIError, sqlite3.Error) as fault:
        raise StoreUnavailable(f"cannot migrate the database: {first_line(fault)}") from fault
    finally:
        for each in (writing, engine):
            each.dispose()


def _upgrade_patiently(writing: Engine) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            _upgrade(writing)
        except (DBAPIError, sqlite3.Error) as fault:
            if not _is_in_use(fault) or time.monotonic() > until:
                raise
            _log.warning("%s; the migration is undone, lets the others go first, and is tried again", first_line(fault))
            time.sleep(_PAUSE_SECONDS)
        else:
            return


def _upgrade(writing: Engine) -> None:
    with writing.begin() as connection, _patiently(connection):
        _lock(connection)
        found = MigrationContext.configure(connection).get_current_revision()
        if found is not None and not _is_known(found):
            if not _may_serve(connection):
                raise StoreUnavailable(_newer(found))
            _log.warning("%s; nothing is changed", newer_but_served(found))
            return
        command.upgrade(_config(connection, on_step=MigrationLog(connection).applied), "head")
        _mark(connection, before=found)


def _mark(connection: Connection, *, before: str | None) -> None:
    """Marks who may serve the schema, and says when the version of before may not."""
    oldest = oldest_serving(_in_order())
    mark(connection, oldest)
    served = [each.revision for each in _in_order()]
    if before is not None and served.index(before) < served.index(oldest):
        _log.warning(
            "no version from before %s may serve this schema: replace its processes; the way back is a backup", oldest
        )


def _patiently(connection: Connection) -> AbstractContextManager[None]:
    """Lets a step take its time: an index of a large table is built for longer than a call may wait."""
    return postgresql.patiently(connection.connection.dbapi_connection, seconds=None)


def _lock(connection: Connection) -> None:
    """Waits for another `migrate` to end; SQLite's transaction has waited for that when it began.

    A lock of a table is waited for only shortly from then on: all calls that come after queue up behind whoever waits.
    """
    if connection.dialect.name != "postgresql":
        return
    connection.exec_driver_sql("SELECT set_config('lock_timeout', '0', true)")
    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})")
    connection.exec_driver_sql(f"SELECT set_config('lock_timeout', '{int(LOCK_SECONDS * 1000)}', true)")


def _is_in_use(fault: Exception) -> bool:
    cause = getattr(fault, "orig", fault)
    is_busy = getattr(cause, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF == sqlite3.SQLITE_BUSY
    return is_busy or waited_for_lock(fault)


def is_current(engine: Engine) -> bool:
    """Whether this version may serve the database's schema. Raises StoreUnavailable."""
    return not schema_fault(engine)


def schema_fault(engine: Engine) -> str:
    """Returns what to do about a database of another version, or nothing if this version may serve its schema.

    Raises StoreUnavailable.
    """
    try:
        with engine.connect() as connection:
            found = MigrationContext.configure(connection).get_current_revision()
            if found is not None and not _is_known(found):
                return "" if _may_serve(connection) else _newer(found)
    except (DBAPIError, sqlite3.Error) as fault:
        raise StoreUnavailable(f"cannot open the database: {first_line(fault)}") from fault
    wanted = _scripts().get_current_head()
    if found == wanted:
        return ""
    if found is None:
        return "the database has no schema yet; run `jit-service migrate`"
    return f"the database has the schema {found} of an older version, not {wanted}; run `jit-service migrate`"


def newer_schema(engine: Engine) -> str:
    """Returns that the database is of a newer version that this one may serve; nothing if it is not newer."""
    with engine.connect() as connection:
        found = MigrationContext.configure(connection).get_current_revision()
        return newer_but_served(found) if found is not None and not _is_known(found) else ""


def _remove_old_index(engine: Engine) -> None:
    """Removes the index of the audit log that releases before revision 0017 kept beside SQLite's database."""
    if engine.dialect.name == "sqlite":
        for suffix in ("", "-wal", "-shm"):
            Path(f"{engine.url.database}.audit-index{suffix}").unlink(missing_ok=True)


@cache
def _scripts() -> ScriptDirectory:
    """Returns this version's migrations, each of which is a module to load: once for a process."""
    return ScriptDirectory.from_config(_config(None))


def _is_known(revision: str) -> bool:
    return any(script.revision == revision for script in _scripts().walk_revisions())


def _in_order() -> list[Script]:
    return list(reversed(list(_scripts().walk_revisions())))


def _may_serve(connection: Connection) -> bool:
    """Whether a schema that this version does not know is marked as one that it may serve."""
    oldest = marked(connection)
    return bool(oldest) and _is_known(oldest)


def newer_but_served(found: str) -> str:
    """Returns what is to be said of a newer schema that this version may serve."""
    return (
        f"the database has the schema {found} of a newer version, which jit-service {version('jit-service')} (schema "
        f"{_scripts().get_current_head()}) may serve too"
    )


def _newer(found: str) -> str:
    return (
        f"the database is of a newer version ({found}); this is jit-service {version('jit-service')}, which knows "
        f"{_scripts().get_current_head()}: upgrade jit-service, or restore a backup from before the migration"
    )


def first_line(fault: Exception) -> str:
    """Returns what the database says, without the statement and its values."""
    return str(getattr(fault, "orig", fault)).splitlines()[0]


def _config(connection: Connection | None, *, on_step: Callable[..., None] | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    config.attributes["on_step"] = on_step
    return config
