"""Pages of a list (AIP-158), their order (AIP-132), and the token that continues one."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from jit_service.domain.errors import InvalidField
from jit_service.domain.language.field_name import spellings

DEFAULT_PAGE_SIZE: Final = 50
MAX_PAGE_SIZE: Final = 1000
MAX_TOKEN: Final = 8192
_MAX_NUMBER: Final = 2**63 - 1

Position = tuple[int | str, ...]
"""The end of a page: the values of the order's fields in its last row."""


@dataclass(frozen=True, kw_only=True)
class OrderTerm:
    """One field of an order."""

    field: str
    descending: bool = False


def page_size(requested: int) -> int:
    """Returns the number of rows of a page: 50 for 0, at most 1,000. Raises InvalidField for a negative number."""
    if requested < 0:
        raise InvalidField("page_size", f"is {requested}; 0 to {MAX_PAGE_SIZE} are allowed")
    return min(requested or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)


def order_by(text: str, fields: Sequence[str], *, default: str) -> tuple[OrderTerm, ...]:
    """Returns the terms of the order. The last of `fields`, which must be unique, is added at the end.

    A field may also be written as JSON has it (`createTime`). Raises InvalidField.
    """
    terms: list[OrderTerm] = []
    known = spellings(fields)
    for part in (text.strip() or default).split(","):
        words = part.split()
        if not words or len(words) > 2 or words[1:] not in ([], ["asc"], ["desc"]):
            raise InvalidField("order_by", f"{part.strip()[:80]!a} is not FIELD or `FIELD desc`")
        if (name := known.get(words[0])) is None:
            raise InvalidField("order_by", f"{words[0][:80]!a} is not one of {', '.join(fields)}")
        if any(term.field == name for term in terms):
            raise InvalidField("order_by", f"{name} is there twice")
        terms.append(OrderTerm(field=name, descending=words[1:] == ["desc"]))
    if fields[-1] not in (term.field for term in terms):
        terms.append(OrderTerm(field=fields[-1]))
    return tuple(terms)


def digest(*parts: str) -> str:
    """Returns a digest of a query without its page; a page token carries it, so that it fits no other query."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def encode(position: Position, *, query: str) -> str:
    """Returns the opaque token for the page after `position` of the query with this digest."""
    content = json.dumps([query, *position], separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def decode(token: str, *, query: str, shape: Sequence[type[int] | type[str]]) -> Position:
    """Returns the token's position, whose values have the types of `shape`. Raises InvalidField."""
    if len(token) > MAX_TOKEN:
        raise InvalidField("page_token", f"has {len(token)} characters; it is not one that the service gave")
    try:
        content = json.loads(base64.urlsafe_b64decode(token.encode() + b"=" * (-len(token) % 4)))
    except (binascii.Error, ValueError, RecursionError):
        content = None
    if not isinstance(content, list) or not content or not isinstance(content[0], str):
        raise InvalidField("page_token", "is not one that the service gave")
    if content[0] != query:
        raise InvalidField("page_token", "belongs to another query; send it with everything else unchanged")
    position = tuple(content[1:])
    if [type(value) for value in position] != list(shape) or not all(map(_storable, position)):
        raise InvalidField("page_token", "is not one that the service gave")
    return position


def _storable(value: int | str) -> bool:
    return "\0" not in value if isinstance(value, str) else abs(value) <= _MAX_NUMBER
