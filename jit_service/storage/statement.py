"""Statements that every write runs: built once, compiled once a database, and run by the driver alone.

SQLAlchemy knows the SQL and how values become the database's; what it does at each execution costs more than the
statement does.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import ClauseElement, Connection, Dialect, Select

_Convert = Callable[[Any], Any] | None


class Statement:
    """A Core statement; its `bindparam` names, or those of an INSERT's columns, are the values it is run with."""

    def __init__(self, clause: ClauseElement, *, columns: Sequence[str] | None = None) -> None:
        """`columns` are those that an INSERT or UPDATE sets; None: all."""
        self._clause = clause
        self._columns = columns
        self._compiled: dict[str, _Compiled] = {}

    def rows(self, connection: Connection, **values: Any) -> list[Any]:
        """Returns every row, with its columns by name."""
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
    """The statement in one database's SQL, with what turns Python's values into the driver's and back."""

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
        self._row: Any = namedtuple("Row", [column.key for column in selected])  # type: ignore[misc]

    def execute(self, connection: Connection, values: Mapping[str, Any]) -> Any:
        """Returns the driver's cursor."""
        given = {**self._given, **values}
        bound: Any = [given[name] if to is None else to(given[name]) for name, to in self._binds]
        if not self._is_positional:
            bound = dict(zip((name for name, _ in self._binds), bound, strict=True))
        driver: Any = connection.connection.dbapi_connection
        return driver.execute(self._sql, bound)

    def row(self, found: tuple[Any, ...]) -> Any:
        """Returns the row with Python's values."""
        values = list(found)
        for place, convert in self._results:
            if values[place] is not None:
                values[place] = convert(values[place])
        return self._row._make(values)
