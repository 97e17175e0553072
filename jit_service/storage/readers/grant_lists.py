"""Lists of grants: in any order and by any filter, looking at a bounded number of grants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    Boolean,
    Subquery,
    and_,
    func,
    literal_column,
    text,
    type_coerce,
    union,
)
from sqlmodel import col, select

from jit_service.domain.errors import InvalidField
from jit_service.domain.grants.grant import Grant
from jit_service.domain.language.filter import Node
from jit_service.domain.language.paging import OrderTerm, Position
from jit_service.domain.person import Person
from jit_service.storage import grant_list, prepared
from jit_service.storage.grant_list import LOOKED_AT, Arm, GrantList
from jit_service.storage.query import GRANT_COLUMNS, Scope, beyond, directed, matching, page
from jit_service.storage.readers.accounts import AccountReader
from jit_service.storage.readers.grants import GrantReader
from jit_service.storage.tables import GrantRow, ReviewRow

_FIRST_LOOK = 500
_NO_LIMIT = 2**31
_KEYS: dict[str, Any] = {
    "create_time": type_coerce(GrantRow.created_at, BigInteger).label("created_at"),
    "name": col(GrantRow.name).label("name"),
}


class FoundGrants(NamedTuple):
    """Grants of a list in order, each with its position. `rest` says where to go on if there is more."""

    entries: list[tuple[Grant, Position]]
    rest: Position | None = None


@dataclass(kw_only=True)
class _Walk:
    """How far the grants of a list were looked at in their order, and the positions of those that match."""

    order: Sequence[OrderTerm]
    after: Position | None
    limit: int
    looked_at: int = 0
    found: list[Position] = field(default_factory=list)

    @property
    def left(self) -> int:
        """How many grants may still be looked at."""
        return max(self.limit, LOOKED_AT) - self.looked_at

    @property
    def is_over(self) -> bool:
        """Whether the page is full, the list at its end, or enough looked at."""
        is_at_end = self.looked_at > 0 and self.after is None
        return len(self.found) == self.limit or is_at_end or self.left == 0

    @property
    def rest(self) -> Position | None:
        """Where to go on if the page is not full and there is more."""
        return self.after if len(self.found) < self.limit else None


class GrantListReader(AccountReader, GrantReader):
    """Reads pages of lists. Each page looks at LOOKED_AT grants at most."""

    def grants(
        self, listed: GrantList, *, node: Node | None, order: Sequence[OrderTerm], after: Position | None, limit: int
    ) -> FoundGrants:
        """Returns up to `limit` grants of the list that match, in order.

        By creation or by name, grants are looked at one after another, by indexes; that may end before the limit, with
        a `rest`. Other orders sort what an index finds. Raises InvalidField if that is too much.
        """
        self._read_by_indexes()
        arms = grant_list.arms_of(listed, node, order)
        walk = _Walk(order=order, after=after, limit=limit)
        is_narrow = bool(listed.sets) or grant_list.is_narrow(node)
        if arms and not is_narrow:
            # Most pages are full after the first look, which costs less than to count what an index finds.
            self._look(arms, listed, node, walk, limit if node is None else max(limit, _FIRST_LOOK))
        if not walk.is_over and (not arms or node is not None or is_narrow):
            few = self._few(listed, node)
            if few is not None:
                return FoundGrants(self._sorted(few, listed, node, order, after, limit))
        if not arms:
            raise InvalidField(
                "order_by",
                f"{', '.join(term.field for term in order[:-1] or order)} would sort more than {LOOKED_AT:,} grants; "
                "order by create_time, or narrow the filter by name, subject, requester, policy, state, reviewers, "
                "create_time or expire_time",
            )
        while not walk.is_over:
            self._look(arms, listed, node, walk, 4 * walk.looked_at or max(limit, _FIRST_LOOK))
        return FoundGrants(self._found(walk), walk.rest)

    def list_of(self, person: Person) -> GrantList:
        """Returns the list of the grants that the person requested or is the subject of."""
        return grant_list.grants_of(person, self.requesters_of(person))

    def list_seen_by(self, person: Person, policies: Sequence[str]) -> GrantList:
        """Returns the list of the grants that the person may see, where it may review under the policies."""
        keys = self.reviewers_of(person)
        few = self.has_few_reviews(*keys)
        return grant_list.grants_seen_by(
            person, self.requesters_of(person), reviewed_as=keys if few else None, policies=policies, now=self.now
        )

    def has_few_reviews(self, *keys: str) -> bool:
        """Whether the reviewers with the folded names have so few reviews that a list may sort their grants."""
        theirs: Any = select(literal_column("1")).where(col(ReviewRow.reviewer_key).in_(keys)).limit(LOOKED_AT + 1)
        return self._session.exec(select(func.count()).select_from(theirs.subquery())).one() <= LOOKED_AT

    def _few(self, listed: GrantList, node: Node | None) -> Subquery | None:
        """Returns the names of at most LOOKED_AT grants that have all of the list that the filter selects, or None."""
        for conditions in grant_list.sets_of(listed, node, has_few_reviews=self.has_few_reviews):
            if any(count > LOOKED_AT for count in self._session.execute(_counts(conditions)).one()):
                continue
            count = self._session.exec(select(func.count()).select_from(_names(conditions, LOOKED_AT + 1))).one()
            if count <= LOOKED_AT:
                # Knowing how few they are, PostgreSQL reads each by its name.
                return _names(conditions, max(count, 1))
        if self._session.exec(_count_all()).one() <= LOOKED_AT:
            return select(col(GrantRow.name)).subquery()
        return None

    def _sorted(
        self,
        names: Subquery,
        listed: GrantList,
        node: Node | None,
        order: Sequence[OrderTerm],
        after: Position | None,
        limit: int,
    ) -> list[tuple[Grant, Position]]:
        wanted = select(GrantRow).select_from(names).join(GrantRow, col(GrantRow.name) == names.c.name)
        wanted = wanted.where(listed.scope, matching(node, GRANT_COLUMNS, now=self.now)).limit(limit)
        found = prepared.fetch(self._connection, page(wanted, GRANT_COLUMNS, order=order, after=after))
        return [(grant, row[-len(order) :]) for grant, row in zip(self._with_reviews(found), found, strict=True)]

    def _look(self, arms: Sequence[Arm], listed: GrantList, node: Node | None, walk: _Walk, at_most: int) -> None:
        """Looks at the next grants that the arms find, and keeps the positions of those that match."""
        count = min(at_most, walk.left)
        matches = and_(listed.scope, matching(node, GRANT_COLUMNS, now=self.now))
        looked = self._connection.execute(_looked(arms, walk.order, walk.after, count, matches=matches)).all()
        matching_ones = (tuple(row[:-1]) for row in looked if row[-1])
        walk.found += islice(matching_ones, walk.limit - len(walk.found))
        walk.after = tuple(looked[-1][:-1]) if len(looked) == count else None
        walk.looked_at += count

    def _found(self, walk: _Walk) -> list[tuple[Grant, Position]]:
        name_at = [term.field for term in walk.order].index("name")
        places = {str(position[name_at]): position for position in walk.found}
        named = select(GrantRow).where(col(GrantRow.name).in_(places))
        grants = {grant.name: grant for grant in self._grants(named)} if places else {}
        return [(grants[name], position) for name, position in places.items()]

    def _read_by_indexes(self) -> None:
        """Has PostgreSQL find grants by indexes.

        It takes what a filter selects to be spread evenly over the table, and so reads the table from its beginning for
        a limit that it believes to meet soon. Old grants are there, of which most are over.
        """
        if self._connection.dialect.name == "postgresql":
            self._session.execute(text("SET LOCAL enable_seqscan = off"))


def _looked(
    arms: Sequence[Arm], order: Sequence[OrderTerm], after: Position | None, limit: int, *, matches: Scope
) -> Any:
    """Returns the keys of the first `limit` grants after the position that one of the arms has, and whether they match.

    That is judged where the grant is read for its keys: to read it again by its name costs as much once more, and
    PostgreSQL might read the whole table for it.
    """
    firsts = []
    for arm in arms:
        keys: list[Any] = [_KEYS[term.field] for term in order]
        judged: list[Any] = [*keys, type_coerce(matches, Boolean).label("is_match")]
        found: Any = select(*judged).where(arm.scope)
        if not arm.is_ordered:
            # With its own limit it is read by its own index, and sorted then.
            found = select(found.limit(_NO_LIMIT).subquery())
            keys = list(found.selected_columns)[:-1]
        if after is not None:
            found = found.where(beyond(order, keys, after))
        firsts.append(found.order_by(*directed(order, keys)).limit(limit))
    if len(firsts) == 1:
        return firsts[0]
    merged = _union(firsts)
    everything: Any = select(*merged.c)
    return everything.order_by(*directed(order, list(merged.c)[:-1])).limit(limit)


def _names(conditions: Sequence[Scope], limit: int) -> Subquery:
    """Returns the names of the first grants, in no order, that each of the conditions finds."""
    return _union([select(col(GrantRow.name)).where(each).limit(limit) for each in conditions])


def _union(parts: Sequence[Any]) -> Subquery:
    """Returns the rows of all parts, each row once. A part may have an order and a limit."""
    whole: Any = parts[0] if len(parts) == 1 else union(*(select(part.subquery()) for part in parts))
    found: Subquery = whole.subquery()
    return found


def _counts(conditions: Sequence[Scope]) -> Any:
    """Counts what each condition finds, up to LOOKED_AT + 1. This reads indexes alone, and no grants."""
    some: Any = (
        select(literal_column("1")).select_from(GrantRow).where(each).limit(LOOKED_AT + 1) for each in conditions
    )
    return select(*(select(func.count()).select_from(each.subquery()).scalar_subquery() for each in some))


def _count_all() -> Any:
    some: Any = select(literal_column("1")).select_from(GrantRow).limit(LOOKED_AT + 1)
    return select(func.count()).select_from(some.subquery())
