"""Which claims of a token a condition can read, by its syntax tree.

The tree is a `cel.expr.CheckedExpr` in protobuf's wire format:
https://github.com/google/cel-spec/blob/master/proto/cel/expr/syntax.proto. The numbers below are its fields'.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

_CLAIMS: Final = b"claims"
_VALUE: Final = 2
"""The serialised expression in its `google.protobuf.Any`."""
_EXPRESSION: Final = 4
_CONSTANT, _IDENTIFIER, _SELECT, _CALL, _LIST, _STRUCT, _COMPREHENSION = range(3, 10)
_PARTS: Final = {_LIST: (1,), _COMPREHENSION: (2, 4, 5, 6, 7)}
"""The fields of these nodes that are expressions."""
_ENTRIES, _ENTRY_PARTS = 2, (3, 4)
_VARINT, _FIXED_64, _BYTES, _FIXED_32 = 0, 1, 2, 5
_SIZES: Final = {_FIXED_64: 8, _FIXED_32: 4}


class _AnyClaim(Exception):
    """The condition uses `claims` as a whole, or under a name that is made while it is judged."""


def names_read(serialised: bytes) -> frozenset[str] | None:
    """Returns the names under which a checked expression can read `claims`; None where it can read any."""
    try:
        checked = _only(_fields(serialised), _VALUE)
        return frozenset(_names(_only(_fields(checked), _EXPRESSION)))
    except _AnyClaim:
        return None


def _names(expression: bytes) -> Iterator[str]:
    for number, node in _fields(expression):
        fields = list(_fields(node))
        if number == _IDENTIFIER:
            if _only(fields, 1) == _CLAIMS:
                raise _AnyClaim
        elif number == _SELECT:
            operand = _only(fields, 1)
            if _is_claims(operand):
                yield _only(fields, 2).decode()
            else:
                yield from _names(operand)
        elif number == _CALL:
            yield from _names_in_call(fields)
        elif number == _STRUCT:
            for entry in _all(fields, _ENTRIES):
                for part in (part for number, part in _fields(entry) if number in _ENTRY_PARTS):
                    yield from _names(part)
        elif number in _PARTS:
            for part in (part for field, part in fields if field in _PARTS[number]):
                yield from _names(part)
        elif number != _CONSTANT:
            raise _AnyClaim


def _names_in_call(fields: list[tuple[int, bytes]]) -> Iterator[str]:
    function, operands = _only(fields, 2), [*_all(fields, 1), *_all(fields, 3)]
    if function == b"@in":
        key, claims = operands
    elif function == b"_[_]":
        claims, key = operands
    else:
        key, claims = b"", b""
    name = _text(key)
    if name is not None and _is_claims(claims):
        yield name
        return
    for operand in operands:
        yield from _names(operand)


def _is_claims(expression: bytes) -> bool:
    return any(number == _IDENTIFIER and _only(_fields(node), 1) == _CLAIMS for number, node in _fields(expression))


def _text(expression: bytes) -> str | None:
    """Returns the text that the expression is; None for any other."""
    for number, node in _fields(expression):
        if number == _CONSTANT:
            # `string_value`; an empty text has the field too, since it is one of several.
            return next((value.decode() for field, value in _fields(node) if field == 6), None)
    return None


def _only(fields: Iterator[tuple[int, bytes]] | list[tuple[int, bytes]], number: int) -> bytes:
    return next((value for field, value in fields if field == number), b"")


def _all(fields: list[tuple[int, bytes]], number: int) -> list[bytes]:
    return [value for field, value in fields if field == number]


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Yields the fields of a message that are bytes, texts or messages: https://protobuf.dev/programming-guides/encoding."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, kind = key >> 3, key & 7
        if kind == _BYTES:
            length, at = _varint(message, at)
            yield number, message[at : at + length]
            at += length
        elif kind == _VARINT:
            _, at = _varint(message, at)
        else:
            at += _SIZES[kind]


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """Returns the number that begins there, and where the next byte is."""
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
