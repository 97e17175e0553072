"""Looks at a database without writing to it, and without making a file: for `jit-service check`."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from jit_service.domain.errors import StoreUnavailable
from jit_service.domain.tokens.signing_key import SigningKey
from jit_service.storage import engine as engines
from jit_service.storage import postgresql
from jit_service.storage.migrate import first_line, newer_schema, schema_fault
from jit_service.storage.readers.reading import Clock
from jit_service.storage.sealing_keys import SealingKeys
from jit_service.storage.snapshot import Snapshot
from jit_service.storage.standbys import promise_fault


class Found(NamedTuple):
    """What a database is. `schema_fault` and `seal_fault` are empty if nothing is wrong.

    `newer` says that it is of a newer version that this one may serve, `promise_fault` what may be lost although it was
    acknowledged.
    `keys` are those that sign tokens, still sealed; there are none to be seen where something is wrong.
    `sealing_key` is the id of the key that sealed the store.
    """

    server: str
    schema_fault: str
    newer: str = ""
    promise_fault: str = ""
    seal_fault: str = ""
    keys: tuple[SigningKey, ...] = ()
    sealing_key: str = ""


def sqlite_file(url: str) -> Path | None:
    """Returns the file of a SQLite database, None for PostgreSQL. Raises StoreUnavailable."""
    read = postgresql.read_url(url)
    return Path(read.database or "").absolute() if read.get_backend_name() == "sqlite" else None


def inspect(url: str, *, keys: SealingKeys | None, clock: Clock) -> Found:
    """Returns what the database is. Without keys, seals are not looked at. Raises StoreUnavailable."""
    path = sqlite_file(url)
    if path is not None and not path.exists():
        raise StoreUnavailable(f"there is no database {path} yet; run `jit-service migrate`")
    try:
        engine = engines.open_read_only(url)
        try:
            return _found(engine, keys, clock)
        finally:
            engine.dispose()
    except (SQLAlchemyError, sqlite3.Error) as fault:
        raise StoreUnavailable(f"cannot read the database: {first_line(fault)}") from fault


def promise_fault_of(url: str) -> str:
    """Returns what may be lost although it was acknowledged. Raises StoreUnavailable."""
    try:
        engine = engines.open_read_only(url)
        try:
            with engine.connect() as connection:
                return promise_fault(connection)
        finally:
            engine.dispose()
    except (SQLAlchemyError, sqlite3.Error) as fault:
        raise StoreUnavailable(f"cannot read the database: {first_line(fault)}") from fault


def _found(engine: Engine, keys: SealingKeys | None, clock: Clock) -> Found:
    fault = schema_fault(engine)
    newer = "" if fault else newer_schema(engine)
    with engine.connect() as connection:
        server, promise = _server(connection), promise_fault(connection)
        if fault or keys is None:
            return Found(server, fault, newer, promise)
        try:
            snapshot = Snapshot(connection, clock, keys)
            found = tuple(snapshot.signing_keys())
            return Found(server, "", newer, promise, keys=found, sealing_key=snapshot.sealing_key)
        except StoreUnavailable as seal:
            return Found(server, "", newer, promise, seal_fault=str(seal))


def _server(connection: Connection) -> str:
    if connection.dialect.name == "sqlite":
        return f"SQLite {sqlite3.sqlite_version}"
    return "PostgreSQL " + ".".join(map(str, connection.dialect.server_version_info or ()))
