"""The mark beside a schema's revision: the oldest revision whose version of the service may serve this schema.

So a version that does not know the schema can tell whether it may serve it, during an upgrade and on the way back.
`migrate` writes the mark; it counts only for the revision that it was written for. Without one that counts, nobody
serves a schema that they do not know (docs/adr/0068-drain-before-stopping.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol

from sqlalchemy import Connection, inspect, text

_TABLE: Final = "alembic_version"
_OLDEST, _MARKED = "oldest_serving", "marked_revision"


class Migration(Protocol):
    """One migration; its module may have `oldest_serving`, the oldest revision that its schema leaves able to serve."""

    revision: str
    module: Any


def oldest_serving(migrations: Sequence[Migration]) -> str:
    """Returns the oldest revision that may serve the schema after all of these, which are in order.

    One that does not say so may be served by nothing older than itself. Raises ValueError for one that names none of
    those up to itself.
    """
    order = [migration.revision for migration in migrations]
    oldest = 0
    for place, migration in enumerate(migrations):
        said = getattr(migration.module, _OLDEST, migration.revision)
        if said not in order[: place + 1]:
            raise ValueError(f"migration {migration.revision}: oldest_serving is {said!r}, which does not come before")
        oldest = max(oldest, order.index(said))
    return order[oldest]


def mark(connection: Connection, oldest: str) -> None:
    """Writes the mark of the schema that is there. Its columns are made where an older version made the table."""
    there = _columns(connection)
    for column in (_OLDEST, _MARKED):
        if column not in there:
            connection.execute(text(f"ALTER TABLE {_TABLE} ADD COLUMN {column} VARCHAR(32)"))
    connection.execute(
        text(f"UPDATE {_TABLE} SET {_OLDEST} = :oldest, {_MARKED} = version_num"),  # noqa: S608 (our own names)
        {"oldest": oldest},
    )


def marked(connection: Connection) -> str:
    """Returns the oldest revision that may serve the schema; empty where nothing that counts says so."""
    if not {_OLDEST, _MARKED} <= _columns(connection):
        return ""
    found = connection.execute(
        text(f"SELECT {_OLDEST} FROM {_TABLE} WHERE {_MARKED} = version_num")  # noqa: S608 (our own names)
    ).scalars()
    return next(iter(found), None) or ""


def _columns(connection: Connection) -> set[str]:
    return {column["name"] for column in inspect(connection).get_columns(_TABLE)}
