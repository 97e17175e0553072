"""The two spellings of a field's name: the proto's `create_time`, and `createTime` as JSON writes it."""

from __future__ import annotations

from collections.abc import Iterable


def json_name(name: str) -> str:
    """Returns the name as proto3 JSON writes it."""
    first, *others = name.split("_")
    return first + "".join(part[:1].upper() + part[1:] for part in others)


def spellings(names: Iterable[str]) -> dict[str, str]:
    """Returns the name that each spelling of the names stands for."""
    return {spelling: name for name in names for spelling in (name, json_name(name))}
