"""Makes an audit log long: repeats the pieces of a real one, each at a place and a time of its own.

The records and digests of a repeated piece are those of the real one. So the service finds, passes over and reads as
many pieces as in a log that grew to that length. Nothing else may be asked of it: the chain does not verify.
"""

from __future__ import annotations

from math import ceil
from typing import Any, Final

from sqlalchemy import text

from jit_service.storage import Store
from jit_service.storage.audit_log import FIELD
from jit_service.storage.engine import for_writing

# The first piece, which has what was before the checks, stays the only one of its kind.
_ENDS: Final = "SELECT min(seq) AS first, max(seq) AS last, max(last_at) - min(first_at) + 1 AS span FROM audit_piece"
_REPEAT: Final = (
    """
    INSERT INTO audit_piece (seq, count, first_at, last_at, hash, seal, marks, payload)
    SELECT seq + :further, count, first_at + :later, last_at + :later, hash, seal, marks, payload
    FROM audit_piece WHERE seq > :first AND seq <= :last
    """,
    f"""
    INSERT INTO audit_digests (place, digests) SELECT place + :further, digests
    FROM audit_digests WHERE (place & {FIELD - 1}) > :first AND (place & {FIELD - 1}) <= :last
    """,  # noqa: S608 (our own number)
)
_END: Final = "UPDATE head SET seq = :seq, hash = (SELECT hash FROM audit_piece WHERE seq = :seq)"


def lengthen(store: Store, records: int) -> int:
    """Repeats all merged pieces but the first until the log has so many records, and returns how many pieces it has.

    Records that are not merged are left out. Needs two pieces.
    """
    while store.merge_audit():
        pass
    writing = for_writing(store.engine)
    with writing.begin() as connection:
        first, last, span = connection.execute(text(_ENDS)).one()
        connection.execute(text("DELETE FROM audit_event"))
    copies = ceil((records - last) / (last - first))
    for number in range(1, copies + 1):
        further = {"further": number * (last - first), "later": number * span, "first": first, "last": last}
        with writing.begin() as connection:
            for statement in _REPEAT:
                connection.execute(text(statement), further)
    with writing.begin() as connection:
        connection.execute(text(_END), {"seq": last + copies * (last - first)})
        pieces = int(connection.execute(text("SELECT count(*) FROM audit_piece")).scalar_one())
    writing.dispose()
    _tidy(store)
    return pieces


def disk_bytes(store: Store) -> int:
    """Returns the size of the whole database on the disk."""
    sizes = {
        "sqlite": "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size",
        "postgresql": "SELECT pg_database_size(current_database())",
    }
    with store.engine.connect() as connection:
        return int(connection.execute(text(sizes[store.engine.dialect.name])).scalar_one())


def _tidy(store: Store) -> None:
    """Leaves the database as one that grew slowly."""
    statement = {"sqlite": "PRAGMA wal_checkpoint(TRUNCATE)", "postgresql": "VACUUM (ANALYZE)"}
    with store.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        driver: Any = connection.connection.dbapi_connection
        if store.engine.dialect.name == "postgresql":
            # It takes minutes, and no statement of the service's connections may.
            connection.exec_driver_sql("SET statement_timeout = 0")
            driver.answer_seconds = None
        connection.exec_driver_sql(statement[store.engine.dialect.name])
