"""Says of each step of a migration how long it took, and which tables it keeps from others."""

from __future__ import annotations

import logging
import time
from typing import Any, Final

from alembic.runtime.migration import MigrationInfo
from sqlalchemy import Connection, inspect

_LOCKS: Final = """
    SELECT relation.relname, held.mode FROM pg_locks AS held JOIN pg_class AS relation ON relation.oid = held.relation
    WHERE held.pid = pg_backend_pid() AND held.granted AND held.locktype = 'relation' AND relation.relkind IN ('r', 'p')
    AND held.mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
"""
"""Those that keep others from writing; AccessExclusiveLock keeps them from reading too.

https://www.postgresql.org/docs/current/explicit-locking.html#LOCKING-TABLES
"""
_log = logging.getLogger(__name__)


class MigrationLog:
    """What is said while the migrations run in the connection's transaction, which holds its locks to its end."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        # Nobody waits for a table that is new.
        self._there = frozenset(inspect(connection).get_table_names())
        self._held: frozenset[str] = frozenset()
        self._began_at = self._at = time.monotonic()

    def applied(self, *, step: MigrationInfo, **_: Any) -> None:
        """Logs the step, which has just been applied."""
        now = time.monotonic()
        held = self._locks()
        locked = ", ".join(sorted(held - self._held))
        _log.info(
            "migration %s took %.3f s, %.3f s so far%s",
            step.up_revision_id,
            now - self._at,
            now - self._began_at,
            f"; until the last one is done it holds {locked}" if locked else "",
        )
        self._held, self._at = held, now

    def _locks(self) -> frozenset[str]:
        if self._connection.dialect.name != "postgresql":
            return frozenset()
        found = self._connection.exec_driver_sql(_LOCKS)
        return frozenset(f"{mode} of {table}" for table, mode in found if table in self._there)
