"""Tells whether a standby of PostgreSQL has what was acknowledged before it is acknowledged."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection

# Whoever may not read the columns of other users sees the rows, without their states.
_SETTINGS: Final = """
    SELECT current_setting('synchronous_standby_names') AS names, current_setting('synchronous_commit') AS level,
    count(pid) AS standbys, count(sync_state) AS seen,
    count(pid) FILTER (WHERE sync_state IN ('sync', 'quorum')) AS synchronous
    FROM pg_stat_replication WHERE state IS DISTINCT FROM 'backup'
"""
_IN_MEMORY: Final = "off"
_ON_THIS_SERVER: Final = "local"


def promise_fault(connection: Connection) -> str:
    """Returns what may be lost although it was acknowledged, and by which setting; nothing if nothing may be.

    It is judged by the settings alone where the user may not see the standbys (`pg_monitor` lets it). SQLite has none.
    https://www.postgresql.org/docs/current/runtime-config-replication.html#GUC-SYNCHRONOUS-STANDBY-NAMES
    """
    if connection.dialect.name != "postgresql":
        return ""
    names, level, standbys, seen, synchronous = connection.exec_driver_sql(_SETTINGS).one()
    if level == _IN_MEMORY:
        return (
            "synchronous_commit is off: a crash of PostgreSQL loses the last moments that were acknowledged, "
            "revocations too; set it to on"
        )
    if not names and not standbys:
        return "PostgreSQL is one server without a standby: what it loses is lost"
    lost = "a failover loses the last moments that were acknowledged, revocations too"
    if not names:
        return f"no standby of PostgreSQL is synchronous: {lost}; set synchronous_standby_names"
    if level == _ON_THIS_SERVER:
        return f"synchronous_commit is local, so that commits wait for no standby: {lost}; set it to on"
    if seen == standbys and not synchronous:
        return f"no synchronous standby is connected (synchronous_standby_names is {names!r}): commits wait for one"
    return ""
