"""A store that is brought back to what it was, under those who have read on: a restored backup, a lossy failover."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from sqlmodel import SQLModel, delete, insert, select

from jit_service.storage import Store

Rows = dict[str, list[dict[str, Any]]]


def tables(store: Store) -> Rows:
    """Returns every row of every table but the index, which is made again."""
    with store.engine.connect() as connection:
        return {
            table.name: [dict(row) for row in connection.execute(select(table)).mappings()] for table in _in_order()
        }


def put_back(store: Store, rows: Rows) -> None:
    """Puts those rows in place of all that there are, as pg_restore does: in one commit of somebody else's."""
    with store.engine.begin() as connection:
        for table in reversed(_in_order()):
            connection.execute(delete(table))
        for table in _in_order():
            if rows[table.name]:
                connection.execute(insert(table), rows[table.name])


def copy_sqlite(store: Store, path: Path) -> None:
    """Copies the store's file as it is now, as a standby or a backup has it."""
    _back_up(str(store.engine.url.database), str(path))


def restore_sqlite(store: Store, path: Path) -> None:
    """Makes the store's file what the other is, by SQLite's own means, under whoever has it open."""
    _back_up(str(path), str(store.engine.url.database))


def _back_up(source: str, target: str) -> None:
    with closing(sqlite3.connect(source)) as read, closing(sqlite3.connect(target)) as written:
        read.backup(written)


def _in_order() -> list[Any]:
    return list(SQLModel.metadata.sorted_tables)
