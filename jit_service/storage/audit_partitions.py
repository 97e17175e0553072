"""The partitions of the audit log on PostgreSQL: made before they are needed, dropped as a whole once they are pruned.

`audit_piece` and `audit_digests` are partitioned by the seq of the piece (docs/adr/0073-partition-the-audit-log.md).
What has no partition of its own goes to one called `_rest`, so that a missing one refuses nothing. SQLite has none.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from typing import Final, NamedTuple

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from jit_service.storage.audit_log import FIELD
from jit_service.storage.door import Door
from jit_service.storage.failures import waited_for_lock

RECORDS: Final = 2**26
"""A new partition takes so many records: some 3.5 GB, a week of 100 checks a second."""
_TABLES: Final = ("audit_piece", "audit_digests")
_LOCK_MILLISECONDS: Final = 200
"""How long a lock is waited for: all who come to the table meanwhile queue up behind whoever waits."""
# Any number that nobody else in the database uses for another lock.
_ADVISORY_LOCK: Final = 7_105_212_115
_BOUND: Final = re.compile(r"FOR VALUES FROM \((?:'(?P<first>\d+)'|MINVALUE)\) TO \('(?P<end>\d+)'\)")
_FOUND: Final = """
    SELECT part.relname, pg_get_expr(part.relpartbound, part.oid), pg_relation_size(part.oid),
    quote_ident(pg_get_userbyid(whole.relowner)), whole.relnamespace::regnamespace::text,
    pg_has_role(whole.relowner, 'USAGE') AND has_schema_privilege(whole.relnamespace, 'CREATE')
    FROM pg_inherits JOIN pg_class AS part ON part.oid = inhrelid JOIN pg_class AS whole ON whole.oid = inhparent
    WHERE whole.oid = to_regclass('audit_piece')
"""
_USED_REST: Final = """
    SELECT greatest((SELECT max(seq) FROM {schema}.audit_piece_rest),
    (SELECT max(place & {seq}) FROM {schema}.audit_digests_rest))
"""
_log = logging.getLogger(__name__)


class Partition(NamedTuple):
    """Has the pieces with a seq from `first` up to, but not, `end`. Its tables are called after `name`."""

    name: str
    first: int
    end: int


class Layout(NamedTuple):
    """The partitions in order, whether `_rest` has been used, and whose they are.

    `may_change` says whether this user may make and drop partitions: only the owner of the tables may.
    """

    partitions: tuple[Partition, ...] = ()
    uses_rest: bool = False
    owner: str = ""
    schema: str = ""
    may_change: bool = False

    @property
    def end(self) -> int:
        """The first seq that no partition is for."""
        return max((partition.end for partition in self.partitions), default=0)

    def of(self, seq: int) -> Partition | None:
        """Returns the partition for the piece with the seq; None if it is in the rest."""
        return next((each for each in self.partitions if each.first <= seq < each.end), None)


def layout(connection: Connection) -> Layout:
    """Returns how the log is partitioned; on SQLite it is not."""
    if connection.dialect.name != "postgresql":
        return Layout()
    rows = connection.exec_driver_sql(_FOUND).all()
    if not rows:
        return Layout()
    bounds = ((name, _BOUND.fullmatch(bound)) for name, bound, *_ in rows)
    partitions = [
        Partition(name.removeprefix("audit_piece"), int(bound["first"] or 0), int(bound["end"]))
        for name, bound in bounds
        if bound is not None
    ]
    owner, schema, may_change = rows[0][3:]
    uses_rest = any(size for name, _, size, *_ in rows if name == "audit_piece_rest")
    return Layout(tuple(sorted(partitions, key=lambda each: each.first)), uses_rest, owner, schema, may_change)


class AuditPartitions:
    """Makes and drops partitions, each in a transaction of its own; several hosts may at the same time."""

    def __init__(self, engine: Engine, door: Door) -> None:
        self._engine = engine
        self._door = door
        self._is_told = False

    def make_ahead(self, *, room: int = 0) -> int:
        """Makes partitions until there is room for a partition's records more, or for `room`. Returns how many it made.

        It makes none where another process does, where somebody uses the table for long, or where the user may not.
        Raises StoreUnavailable.
        """
        if self._engine.dialect.name != "postgresql":
            return 0
        room = max(room, RECORDS)
        with self._door.passed(), self._engine.connect() as connection, connection.begin() as transaction:
            found = layout(connection)
            seq = connection.exec_driver_sql("SELECT seq FROM head").scalar_one()
            if found.end >= seq + room:
                return 0
            if not found.may_change:
                self._tell(connection, found, seq)
                return 0
            try:
                made = _make(connection, seq=seq, room=room)
                transaction.commit()
            except DBAPIError as fault:
                _demand_in_use(fault)
                return 0
            return made

    def drop(self, partitions: Iterable[Partition]) -> list[Partition]:
        """Drops the partitions, with all that is in them. Returns those that it could lock; the others stay.

        Raises StoreUnavailable.
        """
        return [partition for partition in partitions if self._is_dropped(partition)]

    def _is_dropped(self, partition: Partition) -> bool:
        with self._door.passed(), self._engine.connect() as connection, connection.begin() as transaction:
            schema = _take(connection).schema
            tables = ", ".join(f"{schema}.{table}{partition.name}" for table in _TABLES)
            try:
                connection.exec_driver_sql(f"DROP TABLE IF EXISTS {tables}")
                transaction.commit()
            except DBAPIError as fault:
                _demand_in_use(fault)
                return False
            return True

    def _tell(self, connection: Connection, found: Layout, seq: int) -> None:
        """Says once that somebody else has to make partitions."""
        if not self._is_told:
            user = connection.exec_driver_sql("SELECT current_user").scalar_one()
            _log.warning(
                "the audit log has partitions for %d more records, and %s may not make any: run `jit-service migrate` "
                "as %s; until then further records go to audit_piece_rest, which is never dropped",
                max(0, found.end - seq),
                user,
                found.owner,
            )
        self._is_told = True


def _make(connection: Connection, *, seq: int, room: int) -> int:
    """Makes the partitions that are missing behind the last one, and behind all that went to the rest meanwhile."""
    is_alone = connection.exec_driver_sql(f"SELECT pg_try_advisory_xact_lock({_ADVISORY_LOCK})").scalar_one()
    if not is_alone:
        return 0
    # Read again: whoever had the lock before may have made them.
    found = _take(connection)
    used = connection.exec_driver_sql(_USED_REST.format(schema=found.schema, seq=FIELD - 1)).scalar_one()
    begin = found.end
    if used is not None or seq >= begin:
        begin = max(begin, _next(max(used or 0, seq)))
    firsts = range(begin, seq + room, RECORDS)
    for first in firsts:
        for table, key in zip(_TABLES, ("seq", "place"), strict=True):
            name = f"{found.schema}.{table}_{first}"
            # Made apart and attached, so that only the rest is locked, and not the whole table.
            connection.exec_driver_sql(
                f"CREATE TABLE {name} (LIKE {found.schema}.{table} INCLUDING STORAGE, PRIMARY KEY ({key}))"
            )
            connection.exec_driver_sql(
                f"ALTER TABLE {found.schema}.{table} ATTACH PARTITION {name} "
                f"FOR VALUES FROM ({first}) TO ({first + RECORDS})"
            )
    return len(firsts)


def _take(connection: Connection) -> Layout:
    """Bounds how long the transaction waits for locks, and acts as the owner, to whom all partitions then belong."""
    connection.exec_driver_sql(f"SELECT set_config('lock_timeout', '{_LOCK_MILLISECONDS}', true)")
    found = layout(connection)
    connection.exec_driver_sql(f"SET LOCAL ROLE {found.owner}")
    return found


def _next(seq: int) -> int:
    """Returns the seq at which the partition after that of the seq begins."""
    return (seq // RECORDS + 1) * RECORDS


def _demand_in_use(fault: DBAPIError) -> None:
    """Raises the fault unless somebody held a lock for too long: then it is tried again later."""
    if not waited_for_lock(fault):
        raise fault
