"""Makes audit records findable: the columns that searches use, taken out of the records' bytes by the database itself.

They are those of `rows.audit_columns`, which verifying the log compares them with. By SQL alone, since there is a
record for each check: in Python it would cost more than the check.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import TextClause, text

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
    "trace_id": "origin.trace_id",
    "request_id": "origin.request_id",
    "decision_id": "decision_id",
}
_LISTS: Final = ("resources", "actions")
# What is no JSON has been changed in the store. It is indexed as nothing, and verifying the log tells.
_SQLITE: Final = "CASE WHEN json_valid(CAST(payload AS TEXT)) THEN CAST(payload AS TEXT) ELSE '{}' END"
_POSTGRESQL: Final = "CASE WHEN convert_from(payload, 'UTF8') IS JSON THEN convert_from(payload, 'UTF8') ELSE '{}' END"
# `2026-03-02T12:00:00Z`, with `.123456` before the Z where there are microseconds.
_SQLITE_AT: Final = """coalesce(CAST(strftime('%s', substr(json_extract(record, '$.at'), 1, 19)) AS INTEGER) * 1000000
    + CAST(substr(json_extract(record, '$.at'), 21, 6) AS INTEGER), 0)"""
_POSTGRESQL_AT: Final = (
    "coalesce(CAST(extract(epoch FROM CAST(record ->> 'at' AS timestamptz)) * 1000000 AS bigint), 0)"
)


def next_of(dialect: str) -> TextClause:
    """Returns the statement that makes the next `limit` records findable, in order and without gaps.

    Two that run at once make the same ones findable, once.
    """
    sqlite = dialect == "sqlite"
    columns = {"seq": "seq", "at": _SQLITE_AT if sqlite else _POSTGRESQL_AT}
    columns |= {column: _of_sqlite(path) if sqlite else _of_postgresql(path) for column, path in _TEXTS.items()}
    for column in _LISTS:
        columns[column] = (
            f"coalesce(json_extract(record, '$.{column}'), '[]')"
            if sqlite
            else f"coalesce(CAST(record -> '{column}' AS jsonb), CAST('[]' AS jsonb))"
        )
    record = _SQLITE if sqlite else f"CAST({_POSTGRESQL} AS json)"
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
