"""The statements of every write: built once, compiled once per database, and run by the driver alone.

SQLAlchemy knows the SQL and converts values to and from the database's types; what else it does at each execution
costs more than the statement itself.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache
from typing import Any, Final

from sqlalchemy import ClauseElement, Connection, Dialect, Select, String, and_, bindparam, func, insert, select, update
from sqlmodel import col

from jit_service.storage import predicates
from jit_service.storage.columns import Instant
from jit_service.storage.tables import (
    DelegationRow,
    GrantRow,
    HeadRow,
    LockRow,
    OutboxRow,
    PolicyRow,
    ReplayRow,
    ReviewRow,
    SignalRow,
)

_Convert = Callable[[Any], Any] | None


class Statement:
    """A Core statement. It is run with values for its `bindparam` names, or for the columns of an INSERT."""

    def __init__(self, clause: ClauseElement, *, columns: Sequence[str] | None = None) -> None:
        """`columns` are the columns that an INSERT or UPDATE sets; None means all."""
        self._clause = clause
        self._columns = columns
        self._compiled: dict[str, _Compiled] = {}

    def rows(self, connection: Connection, **values: Any) -> list[Any]:
        """Returns every row as a named tuple of its columns."""
        compiled = self._for(connection.dialect)
        return [compiled.row(found) for found in compiled.execute(connection, values).fetchall()]

    def run(self, connection: Connection, values: Mapping[str, Any]) -> int:
        """Returns how many rows were changed."""
        changed: int = self._for(connection.dialect).execute(connection, values).rowcount
        return changed

    def _for(self, dialect: Dialect) -> _Compiled:
        known = self._compiled.get(dialect.name)
        if known is None:
            known = self._compiled[dialect.name] = _Compiled(self._clause, dialect, self._columns)
        return known


class _Compiled:
    """The statement in one database's SQL, with the converters between Python's values and the driver's."""

    def __init__(self, clause: ClauseElement, dialect: Dialect, columns: Sequence[str] | None) -> None:
        compiled: Any = clause.compile(dialect=dialect, column_keys=columns)
        binds = {name: bind for bind, name in compiled.bind_names.items()}
        self._sql = str(compiled)
        self._is_positional = compiled.positiontup is not None
        self._given = {name: bind.value for name, bind in binds.items() if not bind.required}
        self._binds: list[tuple[str, _Convert]] = [
            (name, binds[name].type.dialect_impl(dialect).bind_processor(dialect))
            for name in compiled.positiontup or binds
        ]
        selected = list(clause.selected_columns) if isinstance(clause, Select) else []
        self._results: list[tuple[int, Callable[[Any], Any]]] = [
            (place, convert)
            for place, column in enumerate(selected)
            if (convert := column.type.dialect_impl(dialect).result_processor(dialect, None)) is not None
        ]
        self._row = _row_of(tuple(column.key for column in selected))

    def execute(self, connection: Connection, values: Mapping[str, Any]) -> Any:
        """Returns the driver's cursor."""
        given = {**self._given, **values}
        bound: Any = [given[name] if to is None else to(given[name]) for name, to in self._binds]
        if not self._is_positional:
            bound = dict(zip((name for name, _ in self._binds), bound, strict=True))
        driver: Any = connection.connection.dbapi_connection
        return driver.execute(self._sql, bound)

    def row(self, found: tuple[Any, ...]) -> Any:
        """Returns the row, converted to Python's values."""
        values = list(found)
        for place, convert in self._results:
            if values[place] is not None:
                values[place] = convert(values[place])
        return self._row._make(values)


_GRANTS: Final = select(GrantRow.__table__)  # type: ignore[attr-defined]
_NOW: Final = bindparam("now", type_=Instant)
HEAD: Final = Statement(select(HeadRow.__table__))  # type: ignore[attr-defined]
LOCKED_HEAD: Final = Statement(select(HeadRow.__table__).with_for_update())  # type: ignore[attr-defined]
GRANT: Final = Statement(_GRANTS.where(col(GrantRow.name) == bindparam("name")))
GRANTS_AFTER: Final = Statement(
    _GRANTS.where(col(GrantRow.name) > bindparam("name")).order_by(col(GrantRow.name)).limit(bindparam("limit"))
)
REVIEWS: Final = Statement(
    select(ReviewRow.__table__)  # type: ignore[attr-defined]
    .where(col(ReviewRow.grant_name) == bindparam("name"))
    .order_by(col(ReviewRow.position))
)
LIVE_GRANTS: Final = Statement(
    _GRANTS.where(col(GrantRow.subject) == bindparam("subject"), predicates.live(_NOW)).order_by(col(GrantRow.name))
)
COUNT_PENDING: Final = Statement(
    select(func.count().label("count"))
    .select_from(GrantRow.__table__)  # type: ignore[attr-defined]
    .where(col(GrantRow.requester) == bindparam("requester"))
    .where(predicates.end_unrecorded(), predicates.undecided(_NOW))
)
CHILDREN: Final = Statement(
    # The condition of the index `access_grant_children`.
    _GRANTS.where(col(GrantRow.parent) == bindparam("parent"), col(GrantRow.parent) != "")
    .where(predicates.granted(_NOW))
    .order_by(col(GrantRow.name))
)
DUE_NOTIFICATION: Final = Statement(
    select(col(OutboxRow.seq)).where(predicates.due(bindparam("receiver", type_=String), _NOW)).limit(1)
)
DELEGATIONS_TO: Final = Statement(
    select(DelegationRow.__table__)  # type: ignore[attr-defined]
    .where(col(DelegationRow.delegate) == bindparam("delegate"), predicates.delegation_kept(_NOW))
    .where(col(DelegationRow.starts_at) <= _NOW)
    .order_by(col(DelegationRow.name))
)
LOCKS: Final = Statement(
    select(LockRow.__table__)  # type: ignore[attr-defined]
    .where(predicates.lock_counted())
    .order_by(col(LockRow.name))
)
SIGNALS: Final = Statement(select(SignalRow.__table__).order_by(col(SignalRow.name)))  # type: ignore[attr-defined]
CHANGED_POLICIES: Final = Statement(
    select(col(PolicyRow.name), col(PolicyRow.document), col(PolicyRow.seal)).where(
        col(PolicyRow.revision) > bindparam("revision")
    )
)
GRANT_SEALS: Final = Statement(
    select(col(GrantRow.seal), col(GrantRow.live_seal), col(GrantRow.ended_at), col(GrantRow.run_out_at)).where(
        col(GrantRow.name) == bindparam("name")
    )
)
REPLAY: Final = Statement(
    select(ReplayRow.__table__).where(col(ReplayRow.request_id) == bindparam("request_id"))  # type: ignore[attr-defined]
)
MOVE_HEAD: Final = Statement(
    update(HeadRow.__table__),  # type: ignore[attr-defined]
    columns=("revision", "seq", "hash", "time", "locks", "sums", "seal", "sealing_key"),
)


def fetch(connection: Connection, statement: Select[Any]) -> list[Any]:
    """Returns every row of a statement that is made for one call, as a named tuple of its columns.

    The ORM would make an object of each row and keep it; that takes as long as to read the row.
    """
    found = connection.execute(statement)
    make = _row_of(tuple(found.keys()))._make
    return [make(row) for row in found]


@cache
def _row_of(columns: tuple[str, ...]) -> Any:
    return namedtuple("Row", columns)


@cache
def insert_of(table: Any) -> Statement:
    """Returns the INSERT of a whole row."""
    return Statement(insert(table.__table__).inline())


@cache
def seal_of(table: Any) -> Statement:
    """Returns the SELECT of a row's seal."""
    return Statement(select(col(table.seal)).where(col(table.name) == bindparam("name")))


@cache
def name_after(named: Any, issuer: Any, subject: Any) -> Statement:
    """Returns the SELECT of the first name after `last` that the columns have for an account; NULL if there is none."""
    of_account = and_(col(subject) == bindparam("subject"), col(issuer) == bindparam("issuer"), col(subject) != "")
    first = func.min(col(named)).label("name")
    return Statement(select(first).where(of_account, col(named) > bindparam("last")))


@lru_cache(maxsize=256)
def update_of(table: Any, columns: tuple[str, ...]) -> Statement:
    """Returns the UPDATE of these columns in the row with the name and revision that were read."""
    known = table.__table__
    as_read = and_(known.c.name == bindparam("read_name"), known.c.revision == bindparam("read_revision"))
    return Statement(update(known).where(as_read), columns=columns)
