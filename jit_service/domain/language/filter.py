"""The filter language: a subset of AIP-160.

    filter     = sequence
    sequence   = factor { [AND] factor }
    factor     = term { OR term }              OR binds tighter than AND, as in AIP-160
    term       = [NOT | -] ( "(" sequence ")" | comparison )
    comparison = field [ "." key ] ( = | != | < | <= | > | >= | : ) value

A value is a bare word, or quoted with ' or " and backslash escapes. A field's name may also be written as JSON has it
(`createTime`).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Final

from jit_service.domain.errors import InvalidField
from jit_service.domain.language.field_name import spellings
from jitaccess.naming import names, rfc3339
from jitaccess.naming.names import BadName

MAX_LENGTH: Final = 2000
MAX_COMPARISONS: Final = 50
MAX_NESTING: Final = 20

_TOKEN = re.compile(
    r"""\s*(?:(?P<operator><=|>=|!=|[=<>:])|(?P<bracket>[()])|(?P<quoted>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')"""
    r"""|(?P<word>[^\s()=<>:!"'\\]+))""",
    re.DOTALL,
)
_INTEGER = re.compile(r"-?\d{1,18}")


class Kind(Enum):
    """What a field holds, and so what may be said of it."""

    TEXT = "text"
    NAME = "name"
    INSTANT = "instant"
    INTEGER = "integer"
    ENUM = "enum"
    LIST = "list"
    MAP = "map"
    RESOURCE = "resource"
    """Patterns of resources, asked for one that covers a resource or pattern."""
    ACTION = "action"
    """Patterns of actions, asked for one that covers an action or pattern."""


_OPERATORS: Final = {
    Kind.TEXT: ("=", "!=", "<", "<=", ">", ">="),
    Kind.NAME: ("=", "!="),
    Kind.INSTANT: ("=", "!=", "<", "<=", ">", ">="),
    Kind.INTEGER: ("=", "!=", "<", "<=", ">", ">="),
    Kind.ENUM: ("=", "!="),
    Kind.LIST: (":",),
    Kind.MAP: (":", "=", "!="),
    Kind.RESOURCE: (":",),
    Kind.ACTION: (":",),
}
_CHECKS: Final[Mapping[Kind, Callable[[str], str]]] = {
    Kind.RESOURCE: names.resource_pattern,
    Kind.ACTION: names.action_pattern,
}


@dataclass(frozen=True, kw_only=True)
class FieldSpec:
    """One field of a list; `values` are the words that an ENUM may be compared with."""

    kind: Kind
    values: tuple[str, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """`field operator value`; `key` is the map's key in `labels.key = value`. For NAME, a trailing * is a prefix."""

    field: str
    key: str
    operator: str
    value: str | int | datetime


@dataclass(frozen=True)
class And:
    """All of them."""

    operands: tuple[Node, ...]


@dataclass(frozen=True)
class Or:
    """One of them."""

    operands: tuple[Node, ...]


@dataclass(frozen=True)
class Not:
    """Not it."""

    operand: Node


Node = Comparison | And | Or | Not


def parse(text: str, fields: Mapping[str, FieldSpec]) -> Node | None:
    """Returns the filter, None for an empty one. Raises InvalidField with the position of the fault."""
    if len(text) > MAX_LENGTH:
        raise InvalidField("filter", f"has {len(text)} characters; at most {MAX_LENGTH} are allowed")
    parser = _Parser(_tokens(text), fields)
    if parser.at_end():
        return None
    node = parser.sequence(nesting=0)
    if not parser.at_end():
        raise parser.fault("the end, or AND")
    return node


@dataclass(frozen=True)
class _Token:
    text: str
    column: int
    kind: str


def _tokens(text: str) -> list[_Token]:
    tokens, position = [], 0
    end = len(text.rstrip())
    while position < end:
        found = _TOKEN.match(text, position)
        if found is None or found.lastgroup is None:
            column = position + 1
            raise InvalidField("filter", f"column {column}: {text[position : position + 20]!a} is not part of a filter")
        tokens.append(_Token(found[found.lastgroup], found.start(found.lastgroup) + 1, found.lastgroup))
        position = found.end()
    return [*tokens, _Token("", end + 1, "end")]


class _Parser:
    def __init__(self, tokens: list[_Token], fields: Mapping[str, FieldSpec]) -> None:
        self._tokens = tokens
        self._next = 0
        self._fields = fields
        self._spellings = spellings(fields)
        self._comparisons = 0

    def at_end(self) -> bool:
        return self._peek().kind == "end"

    def fault(self, expected: str) -> InvalidField:
        token = self._peek()
        found = "the end" if token.kind == "end" else ascii(token.text[:40])
        return InvalidField("filter", f"column {token.column}: found {found}; expected {expected}")

    def sequence(self, nesting: int) -> Node:
        operands = [self._factor(nesting)]
        while not self.at_end() and self._peek().text != ")":
            self._accept("AND")
            operands.append(self._factor(nesting))
        return operands[0] if len(operands) == 1 else And(tuple(operands))

    def _factor(self, nesting: int) -> Node:
        operands = [self._term(nesting)]
        while self._accept("OR"):
            operands.append(self._term(nesting))
        return operands[0] if len(operands) == 1 else Or(tuple(operands))

    def _term(self, nesting: int) -> Node:
        if nesting > MAX_NESTING:
            raise self.fault(f"at most {MAX_NESTING} levels of nesting")
        if self._accept("NOT"):
            return Not(self._term(nesting + 1))
        if self._accept("("):
            node = self.sequence(nesting + 1)
            if not self._accept(")"):
                raise self.fault("a closing bracket")
            return node
        token = self._peek()
        if token.kind == "word" and token.text.startswith("-"):
            self._tokens[self._next] = _Token(token.text[1:], token.column + 1, "word")
            return Not(self._comparison())
        return self._comparison()

    def _comparison(self) -> Comparison:
        self._comparisons += 1
        if self._comparisons > MAX_COMPARISONS:
            raise self.fault(f"at most {MAX_COMPARISONS} comparisons")
        name, key, spec = self._field()
        operator = self._operator(name, key, spec)
        return Comparison(name, key, operator, self._value(spec))

    def _field(self) -> tuple[str, str, FieldSpec]:
        token = self._peek()
        spelling, _, key = token.text.partition(".")
        name = self._spellings.get(spelling, "") if token.kind == "word" else ""
        spec = self._fields.get(name)
        if spec is None or (key and spec.kind is not Kind.MAP):
            raise self.fault(f"one of {', '.join(sorted(self._fields))}")
        self._next += 1
        return name, key, spec

    def _operator(self, name: str, key: str, spec: FieldSpec) -> str:
        allowed = [
            operator
            for operator in _OPERATORS[spec.kind]
            if spec.kind is not Kind.MAP or (operator == ":") == (not key)
        ]
        token = self._peek()
        if token.kind != "operator" or token.text not in allowed:
            raise self.fault(f"{' or '.join(allowed)} after {name}{'.' if key else ''}{key}")
        self._next += 1
        return token.text

    def _value(self, spec: FieldSpec) -> str | int | datetime:
        token = self._peek()
        if token.kind not in ("word", "quoted"):
            raise self.fault("a value")
        text = re.sub(r"\\(.)", r"\1", token.text[1:-1]) if token.kind == "quoted" else token.text
        text = unicodedata.normalize("NFC", text)
        if any(unicodedata.category(character) in ("Cc", "Cs") for character in text):
            raise self.fault("a value without control characters")
        value = self._converted(text, spec)
        self._next += 1
        return value

    def _converted(self, text: str, spec: FieldSpec) -> str | int | datetime:
        match spec.kind:
            case Kind.ENUM if text not in spec.values:
                raise self.fault(f"one of {', '.join(spec.values)}")
            case Kind.INTEGER if not _INTEGER.fullmatch(text):
                raise self.fault("a whole number")
            case Kind.INTEGER:
                return int(text)
            case Kind.INSTANT:
                return self._instant(text)
            case Kind.RESOURCE | Kind.ACTION:
                return self._name(text, _CHECKS[spec.kind])
            case _:
                return text

    def _instant(self, text: str) -> datetime:
        # RFC 3339 lets a space stand for the T.
        instant = rfc3339.parse(text.replace(" ", "T"))
        if instant is not None:
            return instant
        raise self.fault('an instant such as "2026-01-31T12:00:00Z"')

    def _name(self, text: str, check: Callable[[str], str]) -> str:
        try:
            return check(text)
        except BadName as fault:
            raise InvalidField("filter", f"column {self._peek().column}: {fault}") from None

    def _accept(self, text: str) -> bool:
        # The text of a quoted token has its quotes.
        if self._peek().text != text:
            return False
        self._next += 1
        return True

    def _peek(self) -> _Token:
        return self._tokens[self._next]
