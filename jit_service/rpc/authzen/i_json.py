"""Reads bodies as I-JSON (RFC 7493): JSON that every parser reads in the same way."""

from __future__ import annotations

import json
import math
from typing import Any, Final

from google.api.httpbody_pb2 import HttpBody

from jit_service.domain.errors import InvalidField
from jit_service.domain.language import name
from jit_service.rpc.media_types import JSON, is_utf8

_MAX_BODY: Final = 1 << 20
_MAX_DEPTH: Final = 32
_MAX_EXACT: Final = 2**53
Object = dict[str, Any]


def object_of(body: HttpBody) -> Object:
    """Returns the object in the body. Raises InvalidField for another content type, and for what is not I-JSON."""
    if not is_utf8(body.content_type, JSON):
        raise InvalidField("content-type", f"is {name.harmless(body.content_type, 100)!a}; it must be {JSON}, in UTF-8")
    if body.extensions:
        raise InvalidField("body.extensions", "must be empty")
    if len(body.data) > _MAX_BODY:
        raise InvalidField("body", f"has {len(body.data)} bytes; at most {_MAX_BODY} are allowed")
    try:
        value = json.loads(
            body.data.decode(),
            object_pairs_hook=_object_of_pairs,
            parse_constant=_refuse_constant,
            parse_int=_whole_number,
        )
    except _NotIJson as fault:
        raise InvalidField("body", str(fault)) from None
    except (ValueError, RecursionError):
        raise InvalidField("body", "is not JSON in UTF-8") from None
    _check_i_json(value, 0)
    if not isinstance(value, dict):
        raise InvalidField("body", "must be a JSON object")
    return value


class _NotIJson(Exception):
    """The text is JSON, but not I-JSON."""


def _object_of_pairs(pairs: list[tuple[str, Any]]) -> Object:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for key in found if sum(key == other for other, _ in pairs) > 1)
        raise _NotIJson(f"has the name {name.harmless(twice, 80)!a} twice in one object")
    return found


def _refuse_constant(text: str) -> None:
    raise _NotIJson(f"has {text}, which is not JSON")


def _whole_number(text: str) -> int:
    number = int(text) if len(text) <= 20 else _MAX_EXACT + 1
    if abs(number) > _MAX_EXACT:
        raise _NotIJson("has a whole number beyond 2^53, which not every parser reads exactly")
    return number


def _check_i_json(value: Any, depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise InvalidField("body", f"is nested more than {_MAX_DEPTH} deep")
    if isinstance(value, dict):
        for key, inner in value.items():
            _check_text(key)
            _check_i_json(inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            _check_i_json(inner, depth + 1)
    elif isinstance(value, str):
        _check_text(value)
    elif isinstance(value, float) and not math.isfinite(value):
        raise InvalidField("body", "has a number that no double can hold")


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidField("body", "has half of a surrogate pair") from None
