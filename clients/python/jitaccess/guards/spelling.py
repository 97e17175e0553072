"""One value, one spelling: the text that a guard checks must be what its handler gets as a value.

A policy names `database/orders/7`. Where the handler gets a whole number, `07`, `+7` and `7.0` reach the same order
under another name, so they are refused (invariant I34).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal
from enum import Enum
from typing import Final
from uuid import UUID

from jitaccess._error import invalid_field
from jitaccess.naming import rfc3339


def canonical(value: object) -> str | None:
    """Returns the one text that stands for the value and for no other equal to it; None for a type that has none.

    Numbers are decimal without leading zeros or plus, booleans `true` and `false`, UUIDs lower case with hyphens,
    instants and dates as RFC 3339 writes them, aware instants in UTC with `Z`; an enum's member is its value.
    """
    match value:
        case Enum():
            return canonical(value.value)
        case bool():
            return "true" if value else "false"
        case str():
            return str(value)
        case int() | UUID():
            return str(value)
        case float():
            return repr(value or 0.0) if math.isfinite(value) else None
        case Decimal():
            return _decimal(value) if value.is_finite() else None
        case datetime():
            return _instant(value)
        case date():
            return value.isoformat()
        case time() if value.tzinfo is None:
            return value.isoformat()
    return None


def demand_canonical(text: str, value: object, field: str) -> None:
    """Raises InvalidArgument unless the text is the one spelling of the value."""
    spelling = canonical(value)
    if spelling is None:
        raise invalid_field(field, f"is a {type(value).__name__}, of which several texts may mean the same")
    if text != spelling:
        raise invalid_field(
            field,
            "is not spelt as the value is: decimal without zeros or plus before it, true or false, "
            "a UUID in lower case with hyphens, RFC 3339",
        )


def _decimal(value: Decimal) -> str:
    return format(value.normalize(), "f") if value else "0"


def _instant(value: datetime) -> str:
    if value.tzinfo is None:
        return value.isoformat()
    return rfc3339.exact(value.astimezone(UTC))


def _flag(text: str) -> bool:
    return {"true": True, "false": False}[text]


PARSERS: Final[Mapping[str, Callable[[str], object]]] = {
    "str": str,
    "int": int,
    "float": float,
    "decimal": Decimal,
    "bool": _flag,
    "uuid": UUID,
    "date": date.fromisoformat,
    "datetime": datetime.fromisoformat,
}
"""The types that a parameter may be declared with, `{number:int}`, and what reads each from text."""


def is_read_as(kind: str, text: str) -> bool:
    """Returns whether the text may stand for a value of that kind, a key of PARSERS, in whatever spelling."""
    try:
        PARSERS[kind](text)
    except (ValueError, ArithmeticError, KeyError):
        return False
    return True


def demand_spelt_as(kind: str, given: object, field: str) -> str:
    """Returns the one spelling of what is given, as text or as a value of that kind, a key of PARSERS.

    Raises InvalidArgument for text that is spelt in another way, or is no such value.
    """
    if not isinstance(given, str):
        spelling = canonical(given)
        if spelling is None:
            raise invalid_field(field, f"is no {kind}")
        given = spelling
    if not is_read_as(kind, given):
        raise invalid_field(field, f"is no {kind}")
    demand_canonical(given, PARSERS[kind](given), field)
    return given
