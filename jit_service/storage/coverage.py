"""Coverage in SQL: which of the patterns in a JSON list cover a name or pattern, as `jitaccess.naming.pattern` has it.

The name is cut into the few texts that a pattern may match as a whole: itself, and each of its beginnings with `**` in
place of the rest. A pattern covers the name if it matches one of these texts that has as many separators. Its own
separators then stand against those of the text one by one, so that a `*` cannot reach over one, and the database's own
matching is exact.
"""

from __future__ import annotations

import json
from typing import Any, Final

from sqlalchemy import Boolean, ColumnElement, Text, literal, literal_column
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

_REST: Final = "**"
# How many separators a text has.
_DEPTH: Final = "length({0}) - length(replace({0}, {1}, ''))"
# A record of a refused call holds what its caller wrote. What is no pattern covers only itself.
_SQLITE: Final = """EXISTS (
    SELECT 1 FROM (SELECT value AS held FROM json_each({values})), (SELECT value AS wanted FROM json_each({wanted}))
    WHERE held = wanted OR (
        instr(held, '*') > 0 AND {depth_of_held} = {depth_of_wanted}
        AND (held GLOB '*[*][*]' OR wanted NOT GLOB '*[*][*]')
        AND CASE WHEN {separator} || held GLOB '*' || {separator} || '[*][*]' THEN substr(held, 1, length(held) - 1)
            ELSE held END NOT GLOB '*[*][^' || {separator} || ']*'
        AND wanted GLOB replace(replace(held, '[', '[[]'), '?', '[?]')))"""
_POSTGRESQL: Final = r"""EXISTS (
    SELECT 1 FROM jsonb_array_elements_text({values}) AS held,
        jsonb_array_elements_text(CAST({wanted} AS jsonb)) AS wanted
    WHERE held = wanted OR (
        strpos(held, '*') > 0 AND {depth_of_held} = {depth_of_wanted}
        AND (right(held, 2) = '**' OR right(wanted, 2) <> '**')
        AND regexp_replace({separator} || held, '([' || {separator} || '][*])[*]$', '\1')
            !~ ('[*][^' || {separator} || ']')
        AND wanted LIKE replace(replace(replace(replace(held, '\', '\\'), '%', '\%'), '_', '\_'), '*', '%')))"""


def covers(patterns: Any, name: str, separator: str) -> ColumnElement[bool]:
    """Selects the rows whose JSON list `patterns` has one that covers the canonical name or pattern."""
    wanted = literal(json.dumps(_texts(name, separator), ensure_ascii=False), Text)
    return has_covering(patterns, wanted, literal_column(f"'{separator}'"))


def _texts(name: str, separator: str) -> list[str]:
    segments = name.split(separator)
    beginnings = [separator.join([*segments[:length], _REST]) for length in range(len(segments))]
    return beginnings if segments[-1] == _REST else [name, *beginnings]


class has_covering(FunctionElement[bool]):
    """`has_covering(json_list, json_texts, separator)`."""

    inherit_cache = True
    type = Boolean()


@compiles(has_covering, "sqlite")
def _on_sqlite(element: has_covering, compiler: SQLCompiler, **options: Any) -> str:
    return _compiled(_SQLITE, element, compiler, options)


@compiles(has_covering, "postgresql")
def _on_postgresql(element: has_covering, compiler: SQLCompiler, **options: Any) -> str:
    # In the SQL of this driver a percent sign stands twice.
    return _compiled(_POSTGRESQL.replace("%", "%%"), element, compiler, options)


def _compiled(template: str, element: has_covering, compiler: SQLCompiler, options: dict[str, Any]) -> str:
    values, wanted, separator = (compiler.process(clause, **options) for clause in element.clauses)
    return template.format(
        values=values,
        wanted=wanted,
        separator=separator,
        depth_of_held=_DEPTH.format("held", separator),
        depth_of_wanted=_DEPTH.format("wanted", separator),
    )
