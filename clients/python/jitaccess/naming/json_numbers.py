"""Numbers of JSON, which a google.protobuf.Struct holds as doubles."""

from __future__ import annotations

from typing import Any


def with_whole_numbers(value: Any) -> Any:
    """Returns the JSON value with `2` for `2.0`, as the service's REST interface writes it."""
    if isinstance(value, dict):
        return {name: with_whole_numbers(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [with_whole_numbers(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
