"""What a list of grants selects, and by which indexes it is found. docs/adr/0053-lists-cost-what-they-return.md.

A list has a condition, and `arms`: conditions that find all of it together, each by an index that has its grants by
creation. So the newest grants of a list are the newest of the arms' newest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

from sqlalchemy import and_, exists, or_, true
from sqlmodel import col

from jit_service.domain.grants.grant import OPEN_STATES, GrantState
from jit_service.domain.language.filter import And, Comparison, Node, Or
from jit_service.domain.language.name import canonical
from jit_service.domain.language.paging import OrderTerm
from jit_service.domain.person import Person
from jit_service.storage import predicates, query
from jit_service.storage.query import Scope
from jit_service.storage.tables import GrantRow, ReviewRow

LOOKED_AT: Final = 10_000
"""How many grants one call looks at, at most; it sorts as many. That takes about 0.1 s."""
MOST_ARMS: Final = 50
# The fields of which indexes have the grants of a value by creation: all of them, and the open ones.
_BY_CREATION: Final = {False: ("policy", "requester", "subject"), True: ("requester", "subject")}
_LAST_CHARACTER: Final = "\U0010ffff"


class Arm(NamedTuple):
    """A condition that finds a part of a list. `is_ordered`: by an index that has its grants by creation."""

    scope: Scope
    is_ordered: bool = True


@dataclass(frozen=True, kw_only=True)
class GrantList:
    """The grants that meet `scope`. Without arms only all grants by creation find them.

    `open_arms` find those that are pending, scheduled or active, whose number does not grow with the years. Each of
    `sets` finds all of the list too, but not by creation; each of `open_sets` finds what the open arms do.
    """

    scope: Scope
    arms: tuple[Arm, ...] = ()
    open_arms: tuple[Arm, ...] = (Arm(predicates.end_unrecorded()),)
    sets: tuple[tuple[Scope, ...], ...] = ()
    open_sets: tuple[tuple[Scope, ...], ...] = ()


def every_grant() -> GrantList:
    """Lists every grant."""
    return GrantList(scope=true())


def grants_of(person: Person, names: Sequence[str]) -> GrantList:
    """Lists the grants that the person requested or is the subject of, by this name or by its account.

    `names` are the other names under which the account requested grants.
    """
    asked = [col(GrantRow.requester) == requester for requester in (person.principal, *names)]
    held = col(GrantRow.subject) == person.principal
    return GrantList(
        scope=query.of_person(person),
        arms=(*map(Arm, asked), Arm(held)),
        open_arms=(
            *(Arm(and_(requested, predicates.end_unrecorded())) for requested in asked),
            Arm(_open_of_subject(person.principal)),
        ),
    )


def grants_seen_by(
    person: Person, names: Sequence[str], *, reviewed_as: Sequence[str] | None, policies: Sequence[str], now: datetime
) -> GrantList:
    """Lists the person's grants, the grants it has reviewed, and the grants of the policies, which it may review.

    `reviewed_as` are the keys of the names under which it has reviewed; None means that it has reviewed too many grants
    to sort them.
    """
    own = grants_of(person, names)
    by_it = or_(
        col(ReviewRow.reviewer) == person.principal,
        query.has_account(ReviewRow.issuer, ReviewRow.issuer_subject, person),
    )
    by_review = exists().where(col(ReviewRow.grant_name) == GrantRow.name, by_it)
    scope = or_(own.scope, col(GrantRow.policy).in_(policies), by_review)
    if reviewed_as is None or len(policies) > MOST_ARMS:
        return GrantList(scope=scope)
    reviewed = Arm(query.reviewed_under(reviewed_as), is_ordered=False)
    of_policies = [col(GrantRow.policy) == policy for policy in policies]
    # By the indexes that have the granted and the undecided ones of a policy.
    open_ones = (
        *(arm.scope for arm in own.open_arms),
        *(and_(each, predicates.granted(now)) for each in of_policies),
        *(and_(each, predicates.decision_awaited()) for each in of_policies),
        reviewed.scope,
    )
    return GrantList(scope=scope, arms=(*own.arms, *map(Arm, of_policies), reviewed), open_sets=(open_ones,))


def undecided_grants(policies: Sequence[str], *, now: datetime) -> GrantList:
    """Lists the grants of the policies that wait for a decision, on access or on more time."""
    of_them = col(GrantRow.policy).in_(policies)
    more_time = and_(col(GrantRow.extension_expires_at).is_not(None), col(GrantRow.extension_expires_at) > now)
    scope = and_(of_them, or_(query.in_state(GrantState.PENDING, now), more_time))
    each = [col(GrantRow.policy) == policy for policy in policies] if len(policies) <= MOST_ARMS else [of_them]
    waiting = (
        Arm(and_(policy, predicates.decision_awaited()), is_ordered=len(policies) <= MOST_ARMS) for policy in each
    )
    arms = (*waiting, Arm(col(GrantRow.extension_expires_at) > now, is_ordered=False))
    return GrantList(scope=scope, arms=arms, open_arms=arms)


def owing_reviews(listed: GrantList) -> GrantList:
    """Lists the break-glass uses of the list that owe a review."""
    owed = col(GrantRow.review_owed_at).is_not(None)
    return GrantList(scope=and_(listed.scope, owed), sets=((owed,),))


def sets_of(
    listed: GrantList, node: Node | None, *, has_few_reviews: Callable[[str], bool]
) -> Iterator[tuple[Scope, ...]]:
    """Yields conditions of which each tuple finds, by indexes, all of the list that the filter selects."""
    required = list(_required(node))
    is_open = _is_open(node)
    yield from listed.sets
    for each in required:
        if each.field == "reviewers" and has_few_reviews(canonical(str(each.value))):
            yield (query.reviewed_under([canonical(str(each.value))]),)
        if (found := _found_by(each, is_open=is_open)) is not None:
            yield found
    if is_open:
        yield from listed.open_sets
        yield tuple(arm.scope for arm in listed.open_arms)
    elif listed.arms:
        yield tuple(arm.scope for arm in listed.arms)
    for name in ("create_time", "expire_time"):
        within = [each for each in required if each.field == name and each.operator not in ("!=", "=")]
        if within:
            yield (and_(*(query.matching(each, query.GRANT_COLUMNS, now=query.NEVER) for each in within)),)


def arms_of(listed: GrantList, node: Node | None, order: Sequence[OrderTerm]) -> tuple[Arm, ...]:
    """Returns what finds all of the list that the filter selects by an index in the order; nothing if no index does."""
    if [term.field for term in order] == ["name"]:
        return (Arm(true()),)
    if not _is_by_creation(order):
        return ()
    required = list(_required(node))
    is_open = _is_open(node)
    arms = listed.open_arms if is_open else listed.arms or (Arm(true()),)
    if not listed.arms:
        for field in _BY_CREATION[is_open]:
            equal = (each for each in required if each.field == field and each.operator == "=")
            if (first := next(equal, None)) is not None and (found := _found_by(first, is_open=is_open)) is not None:
                arms = tuple(map(Arm, found))
    created = [each for each in required if each.field == "create_time" and each.operator != "!="]
    limits = [query.matching(each, query.GRANT_COLUMNS, now=query.NEVER) for each in created]
    return tuple(Arm(and_(arm.scope, *limits), arm.is_ordered) for arm in arms)


def is_narrow(node: Node | None) -> bool:
    """Whether the filter selects one grant by its name, or those that somebody reviewed."""
    return any(
        each.field == "reviewers"
        or (each.field == "name" and each.operator == "=" and not str(each.value).endswith("*"))
        for each in _required(node)
    )


def _is_by_creation(order: Sequence[OrderTerm]) -> bool:
    """Whether indexes have the grants in this order: by creation, and by name where that is equal."""
    return [term.field for term in order] == ["create_time", "name"] and not order[1].descending


def _required(node: Node | None) -> Iterator[Comparison]:
    """Yields the comparisons that every grant of the filter meets."""
    if isinstance(node, Comparison):
        yield node
    elif isinstance(node, And):
        for operand in node.operands:
            yield from _required(operand)


def _is_open(node: Node | None) -> bool:
    """Whether everything that the filter selects is pending, scheduled or active."""
    match node:
        case Comparison(field="state", operator="="):
            return node.value in OPEN_STATES
        case And():
            return any(map(_is_open, node.operands))
        case Or():
            return all(map(_is_open, node.operands))
    return False


def _found_by(comparison: Comparison, *, is_open: bool) -> tuple[Scope, ...] | None:
    """Returns conditions that find by indexes what the comparison selects, None where no index does."""
    value = str(comparison.value)
    match comparison:
        case Comparison(field="name", operator="=") if value.endswith("*"):
            least = value[:-1]
            return (and_(col(GrantRow.name) >= least, col(GrantRow.name) < least + _LAST_CHARACTER),)
        case Comparison(field="name", operator="="):
            return (col(GrantRow.name) == value,)
        case Comparison(field="subject", operator="="):
            return (_open_of_subject(value) if is_open else col(GrantRow.subject) == value,)
        case Comparison(field="requester", operator="="):
            requested = col(GrantRow.requester) == value
            return (and_(requested, predicates.end_unrecorded()) if is_open else requested,)
        case Comparison(field="policy", operator="="):
            of_it = col(GrantRow.policy) == value
            if not is_open:
                return (of_it,)
            live = and_(of_it, col(GrantRow.ended_at).is_(None), col(GrantRow.expires_at).is_not(None))
            return (live, and_(of_it, predicates.decision_awaited()))
        case _:
            return None


def _open_of_subject(subject: str) -> Scope:
    return and_(col(GrantRow.subject_key) == canonical(subject), predicates.end_unrecorded())
