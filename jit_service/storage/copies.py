"""Copies of a whole database: SQLite's while others write to it, PostgreSQL's by its own pg_dump and pg_restore."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

from sqlalchemy import URL, text
from sqlalchemy.exc import SQLAlchemyError

from jit_service.configuration import durable_file
from jit_service.domain.errors import StoreUnavailable
from jit_service.storage import postgresql
from jit_service.storage.engine import for_reading, open_engine
from jit_service.storage.migrate import first_line

Progress = Callable[[int, int], None]
"""Called with how much is copied, and how much there is in all."""
_PAGES: Final = 5_000
"""How many pages of SQLite (4 KB) are copied between two calls of the progress."""
_BESIDE: Final = ("-wal", "-shm", "-journal")
_PLACE: Final = "SELECT seq, hash, (SELECT version_num FROM alembic_version) FROM head"


class Place(NamedTuple):
    """How far a copy goes: its last audit record with the hash, and the revision of its schema."""

    event_count: int
    head_hash: bytes
    schema: str


def copy_sqlite(source: Path, target: Path, progress: Progress) -> Place:
    """Copies a database that others may write to meanwhile: all of the copy is as at one instant, in one file.

    Raises StoreUnavailable.
    """
    try:
        with closing(_opened(source)) as read, closing(sqlite3.connect(target, isolation_level=None)) as written:
            # Within a transaction the copy goes on from one state; else it begins anew at each commit of another.
            read.execute("BEGIN")
            seq, hash_, schema = read.execute(_PLACE).fetchone()
            read.backup(
                written, pages=_PAGES, progress=lambda _, left, pages: progress(pages - left, pages), sleep=0.001
            )
            # Else whoever opens the copy, even to read, makes files beside it.
            written.execute("PRAGMA journal_mode=DELETE")
            _demand_sound(written, "quick_check")
        durable_file.synchronize(target)
    except (sqlite3.Error, TypeError) as fault:
        raise StoreUnavailable(f"cannot copy {source}: {fault}") from fault
    return Place(seq, bytes(hash_), schema)


def demand_sound_sqlite(path: Path) -> None:
    """Raises StoreUnavailable if SQLite's own check finds the file damaged."""
    try:
        with closing(_opened(path)) as connection:
            _demand_sound(connection, "integrity_check")
    except sqlite3.Error as fault:
        raise StoreUnavailable(f"{path} is damaged: {fault}") from fault


def set_aside(path: Path, *, name: Path) -> None:
    """Renames a SQLite database that nobody has open. Raises StoreUnavailable if somebody has."""
    try:
        with closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as connection:
            # In this mode the lock is had only while no other process is connected, and closing ends the WAL.
            connection.execute("PRAGMA locking_mode=EXCLUSIVE")
            connection.execute("BEGIN EXCLUSIVE")
            connection.execute("COMMIT")
    except sqlite3.OperationalError as fault:
        raise StoreUnavailable(f"{path} is in use ({fault}); stop the service first") from fault
    except sqlite3.DatabaseError:
        pass  # It is damaged, which may be why it is replaced.
    for suffix in ("", *_BESIDE):
        beside = Path(f"{path}{suffix}")
        if beside.exists():
            beside.rename(f"{name}{suffix}")


def left_beside(path: Path) -> list[Path]:
    """Returns the files that SQLite would take for a part of a database at the path."""
    return [beside for suffix in _BESIDE if (beside := Path(f"{path}{suffix}")).exists()]


def put_in_place(made: Path, path: Path) -> None:
    """Gives a database, which nobody has open, its name. A power cut leaves it whole or not there."""
    with closing(_opened(made)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
    durable_file.synchronize(made)
    made.rename(path)
    durable_file.synchronize(path.parent)


def dump_postgresql(url: str, target: Path) -> Place:
    """Dumps a database by pg_dump, as at one instant. Raises StoreUnavailable, also where there is no pg_dump."""
    engine = open_engine(url)
    try:
        with for_reading(engine).begin() as connection:
            seq, hash_, schema = connection.execute(text(_PLACE)).one()
            snapshot = connection.execute(text("SELECT pg_export_snapshot()")).scalar_one()
            _run("pg_dump", url, "--format=custom", f"--snapshot={snapshot}", f"--file={target}")
    except SQLAlchemyError as fault:
        raise StoreUnavailable(f"cannot dump the database: {first_line(fault)}") from fault
    finally:
        engine.dispose()
    durable_file.synchronize(target)
    return Place(seq, bytes(hash_), schema)


def restore_postgresql(url: str, source: Path) -> None:
    """Restores a dump into an empty database by pg_restore, all of it or nothing. Raises StoreUnavailable."""
    engine = open_engine(url)
    try:
        with engine.connect() as connection:
            count = connection.execute(
                text("SELECT count(*) FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')")
            ).scalar_one()
    except SQLAlchemyError as fault:
        raise StoreUnavailable(f"cannot look into the database: {first_line(fault)}") from fault
    finally:
        engine.dispose()
    if count:
        raise StoreUnavailable(f"the database has {count} tables; restore into a new, empty one (createdb)")
    _run("pg_restore", url, "--single-transaction", "--exit-on-error", "--no-owner", str(source))


def command_for(program: str, url: str, *arguments: str) -> str:
    """Returns what to call by hand; its password, if it has one, is to be given in PGPASSWORD or a password file."""
    return " ".join((program, *arguments, f"--dbname={_conninfo(postgresql.read_url(url))}"))


def _run(program: str, url: str, *arguments: str) -> None:
    found = shutil.which(program)
    if found is None:
        raise StoreUnavailable(
            f"{program} is not installed here (Debian: postgresql-client); where it is, call "
            f"`{command_for(program, url, *arguments)}`"
        )
    read = postgresql.read_url(url)
    # In the command line everybody on the host would see the password.
    environment = dict(os.environ) | ({"PGPASSWORD": str(read.password)} if read.password else {})
    done = subprocess.run(  # noqa: S603 (PostgreSQL's own program, without a shell)
        [found, *arguments, f"--dbname={_conninfo(read)}"], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        raise StoreUnavailable(f"{program} failed: {' '.join(said[:3]) or f'exit code {done.returncode}'}")


def _conninfo(url: URL) -> str:
    return url.set(drivername="postgresql", password=None).render_as_string(hide_password=False)


def _opened(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None)


def _demand_sound(connection: sqlite3.Connection, check: str) -> None:
    (said,) = connection.execute(f"PRAGMA {check}(1)").fetchone()
    if said != "ok":
        raise sqlite3.DatabaseError(said)
