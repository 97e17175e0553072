"""The audit index: the columns by which searches find records, extracted from the records' bytes by the database.

The columns are those of `rows.audit_columns`, with which verification of the log compares them. SQL alone makes them:
every check has a record, and to do it in Python would cost more than the check. On SQLite the index is a file of its
own. It is created if it is missing, and made again if it belongs to another log than the one beside it.
"""

from __future__ import annotations

import sqlite3
from functools import cache
from typing import Any, Final, cast

from sqlalchemy import Connection, CursorResult, TextClause, text
from sqlalchemy.dialects.sqlite import dialect as sqlite
from sqlalchemy.exc import DataError
from sqlalchemy.schema import CreateIndex, CreateTable, DDLElement

from jit_service.storage.tables import AuditIndexRow

_TABLE: Final = AuditIndexRow.__table__  # type: ignore[attr-defined]
_MAKE: Final[tuple[DDLElement, ...]] = (
    CreateTable(_TABLE, if_not_exists=True),
    *(CreateIndex(index, if_not_exists=True) for index in _TABLE.indexes),
)
# How far the log is indexed. The hash at that record identifies the log.
_MAKE_INDEXED: Final = (
    "CREATE TABLE IF NOT EXISTS indexed_log (id INTEGER PRIMARY KEY, seq INTEGER NOT NULL, hash BLOB NOT NULL)"
)
_REMEMBER_LOG: Final = text(
    "INSERT OR REPLACE INTO indexed_log (id, seq, hash) "
    "SELECT 1, seq, hash FROM audit_event WHERE seq = (SELECT max(seq) FROM audit_index)"
)
_FORGET_ANOTHER: Final = (
    "DELETE FROM audit_index WHERE NOT EXISTS (SELECT 1 FROM indexed_log JOIN audit_event USING (seq, hash))"
)
_TEXTS: Final = {
    "type": "type",
    "principal": "principal",
    "subject": "subject",
    "decision": "decision",
    "reason": "reason",
    "grant_name": "grant",
    "policy": "policy",
    "method": "origin.method",
    "source_address": "origin.source_address",
    "subject_source_ip": "subject_source_ip",
    "trace_id": "origin.trace_id",
    "request_id": "origin.request_id",
    "decision_id": "decision_id",
}
_LISTS: Final = ("resources", "actions")
# A payload that is not JSON was changed in the store. It is indexed as empty; verification of the log reports it.
_SQLITE: Final = "CASE WHEN json_valid(CAST(payload AS TEXT)) THEN CAST(payload AS TEXT) ELSE '{}' END"
_POSTGRESQL: Final = "CAST(convert_from(payload, 'UTF8') AS json)"
_NOTHING: Final = "CAST('{}' AS json)"
# `2026-03-02T12:00:00Z`, with `.123456` before the Z where there are microseconds.
_SQLITE_AT: Final = """coalesce(CAST(strftime('%s', substr(json_extract(record, '$.at'), 1, 19)) AS INTEGER) * 1000000
    + CAST(substr(json_extract(record, '$.at'), 21, 6) AS INTEGER), 0)"""
_POSTGRESQL_AT: Final = (
    "coalesce(CAST(extract(epoch FROM CAST(record ->> 'at' AS timestamptz)) * 1000000 AS bigint), 0)"
)


def prepare(connection: sqlite3.Connection) -> None:
    """Makes SQLite's index where it is missing, and empties one that is of another log.

    Such as where the log was brought back from a backup, and the index beside it was not. One that an earlier release
    made, with fewer columns, is made anew as well.
    """
    found = {name for _, name, *_ in connection.execute("PRAGMA main.table_info(audit_index)")}
    if found and found != set(_TABLE.columns.keys()):
        connection.execute("DROP TABLE IF EXISTS main.audit_index")
    for table_or_index in _MAKE:
        connection.execute(str(table_or_index.compile(dialect=sqlite())))
    connection.execute(_MAKE_INDEXED)
    connection.execute(_FORGET_ANOTHER)


def index_next(connection: Connection, *, limit: int) -> int:
    """Makes up to `limit` more records findable, in order and without gaps. Returns how many there were.

    Two that do so at once make the same ones findable, once.
    """
    if connection.dialect.name == "sqlite":
        made = _run(connection, _next_of("sqlite", _SQLITE), limit)
        if made:
            connection.execute(_REMEMBER_LOG)
        return made
    try:
        with connection.begin_nested():
            return _run(connection, _next_of("postgresql", _POSTGRESQL), limit)
    except DataError:
        # One of them is no record. PostgreSQL says so by failing alone, before its version 16.
        return sum(_index_one(connection) for _ in range(limit))


def _index_one(connection: Connection) -> int:
    try:
        with connection.begin_nested():
            return _run(connection, _next_of("postgresql", _POSTGRESQL), 1)
    except DataError:
        return _run(connection, _next_of("postgresql", _NOTHING), 1)


def _run(connection: Connection, statement: TextClause, limit: int) -> int:
    return cast(CursorResult[Any], connection.execute(statement, {"limit": limit})).rowcount


@cache
def _next_of(dialect: str, record: str) -> TextClause:
    """Returns what indexes the next records, each as the SQL of `record` has it."""
    on_sqlite = dialect == "sqlite"
    columns = {"seq": "seq", "at": _SQLITE_AT if on_sqlite else _POSTGRESQL_AT}
    columns |= {column: _of_sqlite(path) if on_sqlite else _of_postgresql(path) for column, path in _TEXTS.items()}
    for column in _LISTS:
        columns[column] = (
            f"coalesce(json_extract(record, '$.{column}'), '[]')"
            if on_sqlite
            else f"coalesce(CAST(record -> '{column}' AS jsonb), CAST('[]' AS jsonb))"
        )
    return text(
        f"INSERT INTO audit_index ({', '.join(columns)}) SELECT {', '.join(columns.values())} "  # noqa: S608 (constants)
        f"FROM (SELECT seq, {record} AS record FROM audit_event "
        "WHERE seq > (SELECT coalesce(max(seq), 0) FROM audit_index) ORDER BY seq LIMIT :limit) AS found "
        "WHERE true ON CONFLICT (seq) DO NOTHING"
    )


def _of_sqlite(path: str) -> str:
    return f"coalesce(json_extract(record, '$.{path}'), '')"


def _of_postgresql(path: str) -> str:
    *outer, last = path.split(".")
    within = "".join(f" -> '{name}'" for name in outer)
    return f"coalesce(record{within} ->> '{last}', '')"
