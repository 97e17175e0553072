"""Filters, orders and positions as SQL, the same on SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol, TypeVar, cast

from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    Text,
    and_,
    false,
    func,
    literal,
    not_,
    or_,
    true,
    type_coerce,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlmodel import col, select

from jit_service.domain.grants.grant import GrantState
from jit_service.domain.language import paging
from jit_service.domain.language.filter import And, Comparison, FieldSpec, Kind, Node, Not, Or
from jit_service.domain.language.name import canonical
from jit_service.domain.language.paging import OrderTerm, Position
from jit_service.domain.person import Person
from jit_service.storage import coverage
from jit_service.storage.columns import EPOCH, MICROSECOND, Instant
from jit_service.storage.tables import DelegationRow, GrantRow, ReviewRow

Scope = ColumnElement[bool]


NEVER: Final = EPOCH
"""For filters whose meaning does not depend on the time."""


class _Named(Protocol):
    """A fact with a name and an instant of creation, which lists show newest first."""

    @property
    def name(self) -> str: ...

    @property
    def created_at(self) -> datetime: ...


Named = TypeVar("Named", bound=_Named)
_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "=": lambda left, right: left == right,
    "!=": lambda left, right: left != right,
    "<": lambda left, right: left < right,
    "<=": lambda left, right: left <= right,
    ">": lambda left, right: left > right,
    ">=": lambda left, right: left >= right,
}


@dataclass(frozen=True, kw_only=True)
class Field:
    """A field of the API in SQL: what a filter may say of it, and the expression to compare.

    `in_state` replaces the expression if the field is derived, and `having` if its elements are rows of their own.
    """

    spec: FieldSpec
    expression: Any
    in_state: Callable[[GrantState, datetime], Scope] | None = None
    having: Callable[[str], Scope] | None = None


def of_person(person: Person) -> Scope:
    """Selects the grants that the person requested or is the subject of, by this name or by its account."""
    named = or_(col(GrantRow.requester) == person.principal, col(GrantRow.subject) == person.principal)
    return or_(named, has_account(GrantRow.requester_issuer, GrantRow.requester_issuer_subject, person))


def grants_held_by(person: Person) -> Scope:
    """Selects the grants that the person is the subject of, under any name, since they count against it."""
    itself = col(GrantRow.requester) == col(GrantRow.subject)
    by_account = and_(itself, has_account(GrantRow.requester_issuer, GrantRow.requester_issuer_subject, person))
    return or_(col(GrantRow.subject_key) == canonical(person.principal), by_account)


def delegations_of(person: Person) -> Scope:
    """Selects the delegations that the person gave or received, by this name, or gave by its account."""
    named = or_(col(DelegationRow.delegator) == person.principal, col(DelegationRow.delegate) == person.principal)
    return or_(named, has_account(DelegationRow.delegator_issuer, DelegationRow.delegator_issuer_subject, person))


def has_account(issuer: Any, subject: Any, person: Person) -> Scope:
    """Selects the rows whose columns name the person's account."""
    if person.account is None:
        return false()
    return and_(col(subject) == person.account.subject, col(issuer) == person.account.issuer)


def grants_matching(*, subject: str = "", policy: str = "", labels: Mapping[str, str] | None = None) -> Scope:
    """Selects the grants that match all given criteria. The subject matches in any letter case: this ends grants."""
    wanted = [col(GrantRow.labels)[key].as_string() == value for key, value in (labels or {}).items()]
    if subject:
        wanted.append(col(GrantRow.subject_key) == canonical(subject))
    if policy:
        wanted.append(col(GrantRow.policy) == policy)
    return and_(true(), *wanted)


def matching(node: Node | None, fields: Mapping[str, Field], *, now: datetime) -> Scope:
    """Returns the filter as SQL. A comparison with a value that is not set is false, but `!=` is true."""
    match node:
        case None:
            return true()
        case And(operands=operands):
            return and_(*(matching(operand, fields, now=now) for operand in operands))
        case Or(operands=operands):
            return or_(*(matching(operand, fields, now=now) for operand in operands))
        case Not(operand=operand):
            return not_(matching(operand, fields, now=now))
        case Comparison():
            return _comparison(node, fields[node.field], now)


def position(page_token: str, query: str, order: Sequence[OrderTerm], fields: Mapping[str, Field]) -> Position | None:
    """Returns the position at which the page begins, None for the first. Raises InvalidField for a foreign token."""
    if not page_token:
        return None
    shape = tuple(int if _is_number(fields[term.field]) else str for term in order)
    return paging.decode(page_token, query=query, shape=shape)


def page(statement: Any, fields: Mapping[str, Field], *, order: Sequence[OrderTerm], after: Position | None) -> Any:
    """Returns the statement in order, from after the position. Each row ends with its own position.

    The order must end with a unique field.
    """
    keys = [_sort_key(fields[term.field]) for term in order]
    if after is not None:
        statement = statement.where(beyond(order, keys, after))
    return statement.add_columns(*keys).order_by(*directed(order, keys))


def newest_first(statement: Any, created_at: Any, name: Any, *, before: tuple[int, str] | None, limit: int) -> Any:
    """Returns the statement with up to `limit` rows from before the position, the newest first by these columns."""
    created = type_coerce(created_at, BigInteger)
    if before is not None:
        statement = statement.where(or_(created < before[0], and_(created == before[0], name < before[1])))
    return statement.order_by(created.desc(), name.desc()).limit(limit)


def newest_page(
    find: Callable[[tuple[int, str] | None, int], list[Named]], *, query: str, page_size: int, page_token: str
) -> tuple[tuple[Named, ...], str]:
    """Returns a page of the results of `find(before, limit)`, the newest first, and the token of the next page.

    Raises InvalidField.
    """
    size = paging.page_size(page_size)
    before = paging.decode(page_token, query=query, shape=(int, str)) if page_token else None
    found = find((int(before[0]), str(before[1])) if before else None, size + 1)
    last = found[size - 1] if len(found) > size else None
    token = paging.encode(((last.created_at - EPOCH) // MICROSECOND, last.name), query=query) if last else ""
    return tuple(found[:size]), token


def beyond(order: Sequence[OrderTerm], keys: Sequence[Any], after: Position) -> Scope:
    """Selects what is later in the first key, or equal in it and later in the next, and so on.

    The first condition repeats what the others say of the first key, so that it is a range of an index.
    """
    if not order:
        return true()
    steps = []
    for index, term in enumerate(order):
        same = [key == value for key, value in zip(keys[:index], after[:index], strict=True)]
        later = keys[index] < after[index] if term.descending else keys[index] > after[index]
        steps.append(and_(*same, later))
    in_reach = keys[0] <= after[0] if order[0].descending else keys[0] >= after[0]
    return and_(in_reach, or_(*steps))


def directed(order: Sequence[OrderTerm], keys: Sequence[Any]) -> list[Any]:
    """Returns the keys for ORDER BY."""
    return [key.desc() if term.descending else key for term, key in zip(order, keys, strict=True)]


def _sort_key(field: Field) -> ColumnElement[Any]:
    """Returns the key to sort by. Instants are microseconds; a value that is not set comes first."""
    if not _is_number(field):
        return cast(ColumnElement[Any], field.expression)
    return func.coalesce(type_coerce(field.expression, BigInteger), 0)


def _is_number(field: Field) -> bool:
    return field.spec.kind in (Kind.INSTANT, Kind.INTEGER)


def _comparison(comparison: Comparison, field: Field, now: datetime) -> Scope:
    expression, operator, value = field.expression, comparison.operator, comparison.value
    if field.in_state is not None:
        found = field.in_state(GrantState(str(value)), now)
        return found if operator == "=" else not_(found)
    if field.having is not None:
        return field.having(str(value))
    if field.spec.kind in _SEPARATORS:
        return coverage.covers(expression, str(value), _SEPARATORS[field.spec.kind])
    if field.spec.kind is Kind.LIST:
        return has_element(expression, literal(value, Text))
    if field.spec.kind is Kind.MAP:
        if operator == ":":
            return cast(Scope, expression[value].as_string().is_not(None))
        expression = expression[comparison.key].as_string()
    if field.spec.kind is Kind.NAME and operator == "=" and str(value).endswith("*"):
        prefix = str(value)[:-1]
        return func.substr(expression, 1, len(prefix)) == prefix
    compared = _COMPARE[operator](expression, value)
    if operator == "!=":
        return or_(expression.is_(None), compared)
    return and_(expression.is_not(None), compared)


def in_state(state: GrantState, now: datetime) -> Scope:
    """Returns `Grant.state(now)` as SQL that is never NULL, so that NOT is its opposite."""
    ended_as, starts_at, expires_at = col(GrantRow.ended_as), col(GrantRow.starts_at), col(GrantRow.expires_at)
    asked_until = col(GrantRow.request_expires_at)
    given = and_(ended_as.is_(None), starts_at.is_not(None), expires_at.is_not(None))
    match state:
        case GrantState.PENDING:
            return and_(ended_as.is_(None), expires_at.is_(None), asked_until > now)
        case GrantState.LAPSED:
            return and_(ended_as.is_(None), expires_at.is_(None), asked_until <= now)
        case GrantState.SCHEDULED:
            return and_(given, starts_at > now)
        case GrantState.ACTIVE:
            return and_(given, starts_at <= now, expires_at > now)
        case GrantState.EXPIRED:
            return and_(given, expires_at <= now)
        case _:
            return and_(ended_as.is_not(None), ended_as == state)


def reviewed_under(keys: Sequence[str]) -> Scope:
    """Selects the grants that somebody approved or denied under the folded names."""
    own = select(ReviewRow.grant_name).where(col(ReviewRow.reviewer_key).in_(keys))
    return col(GrantRow.name).in_(own)


def _reviewed_by(principal: str) -> Scope:
    """Selects the grants that the principal approved or denied, its name in any letter case."""
    return reviewed_under([canonical(principal)])


class has_element(FunctionElement[bool]):
    """`has_element(json_list, text)`."""

    inherit_cache = True
    type = Boolean()


@compiles(has_element, "sqlite")
def _has_element_sqlite(element: has_element, compiler: SQLCompiler, **options: Any) -> str:
    values, value = (compiler.process(clause, **options) for clause in element.clauses)
    return f"EXISTS (SELECT 1 FROM json_each({values}) WHERE json_each.value = {value})"  # noqa: S608 (bound values)


@compiles(has_element, "postgresql")
def _has_element_postgresql(element: has_element, compiler: SQLCompiler, **options: Any) -> str:
    values, value = (compiler.process(clause, **options) for clause in element.clauses)
    return f"jsonb_exists({values}, {value})"


_SEPARATORS: Final = {Kind.RESOURCE: "/", Kind.ACTION: "."}
_TEXT = FieldSpec(kind=Kind.TEXT)
_INSTANT = FieldSpec(kind=Kind.INSTANT)
_LIST = FieldSpec(kind=Kind.LIST)

GRANT_COLUMNS: dict[str, Field] = {
    "name": Field(spec=FieldSpec(kind=Kind.NAME), expression=col(GrantRow.name)),
    "state": Field(spec=FieldSpec(kind=Kind.ENUM, values=tuple(GrantState)), expression=None, in_state=in_state),
    "subject": Field(spec=_TEXT, expression=col(GrantRow.subject)),
    "requester": Field(spec=_TEXT, expression=col(GrantRow.requester)),
    "policy": Field(spec=_TEXT, expression=col(GrantRow.policy)),
    "resources": Field(spec=_LIST, expression=col(GrantRow.resources)),
    "actions": Field(spec=_LIST, expression=col(GrantRow.actions)),
    "covers": Field(spec=FieldSpec(kind=Kind.RESOURCE), expression=col(GrantRow.resources)),
    "covers_action": Field(spec=FieldSpec(kind=Kind.ACTION), expression=col(GrantRow.actions)),
    "reviewers": Field(spec=_LIST, expression=None, having=_reviewed_by),
    "create_time": Field(spec=_INSTANT, expression=col(GrantRow.created_at)),
    # The API's start_time is the requested start until there is an actual one.
    "start_time": Field(
        spec=_INSTANT, expression=type_coerce(func.coalesce(GrantRow.starts_at, GrantRow.start_at), Instant)
    ),
    "expire_time": Field(spec=_INSTANT, expression=col(GrantRow.expires_at)),
    "labels": Field(spec=FieldSpec(kind=Kind.MAP), expression=col(GrantRow.labels)),
}
GRANT_FIELDS = {name: field.spec for name, field in GRANT_COLUMNS.items()}
GRANT_ORDER = ("create_time", "start_time", "expire_time", "subject", "requester", "policy", "name")
