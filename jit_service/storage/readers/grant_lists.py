"""Lists of grants: in any order and by any filter, looking at a bounded number of grants."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, Subquery, func, literal_column, type_coerce, union
from sqlmodel import col, select

from jit_service.domain.errors import InvalidField
from jit_service.domain.grants.grant import Grant
from jit_service.domain.language.filter import Node
from jit_service.domain.language.paging import OrderTerm, Position
from jit_service.domain.person import Person
from jit_service.storage import grant_list
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


class GrantListReader(AccountReader, GrantReader):
    """Reads pages of lists. Each page looks at LOOKED_AT grants at most."""

    def grants(
        self, listed: GrantList, *, node: Node | None, order: Sequence[OrderTerm], after: Position | None, limit: int
    ) -> FoundGrants:
        """Returns up to `limit` grants of the list that match, in order.

        By creation or by name, grants are looked at one after another, by indexes; that may end before the limit, with
        a `rest`. Other orders sort what an index finds. Raises InvalidField if that is too much.
        """
        arms = grant_list.arms_of(listed, node, order)
        if not arms or node is not None or listed.sets:
            few = self._few(listed, node)
            if few is not None:
                return FoundGrants(self._sorted(few, listed, node, order, after, limit))
        if arms:
            return self._walked(arms, listed, node, order, after, limit)
        raise InvalidField(
            "order_by",
            f"{', '.join(term.field for term in order[:-1] or order)} would sort more than {LOOKED_AT:,} grants; "
            "order by create_time, or narrow the filter by name, subject, requester, policy, state, reviewers, "
            "create_time or expire_time",
        )

    def list_of(self, person: Person) -> GrantList:
        """Returns the list of the grants that the person requested or is the subject of."""
        return grant_list.grants_of(person, self.requesters_of(person))

    def list_seen_by(self, person: Person, policies: Sequence[str]) -> GrantList:
        """Returns the list of the grants that the person may see, where it may review under the policies."""
        keys = self.reviewers_of(person)
        few = self.has_few_reviews(*keys)
        return grant_list.grants_seen_by(
            person, self.requesters_of(person), reviewed_as=keys if few else None, policies=policies
        )

    def has_few_reviews(self, *keys: str) -> bool:
        """Whether the reviewers with the folded names have so few reviews that a list may sort their grants."""
        theirs: Any = select(literal_column("1")).where(col(ReviewRow.reviewer_key).in_(keys)).limit(LOOKED_AT + 1)
        return self._session.exec(select(func.count()).select_from(theirs.subquery())).one() <= LOOKED_AT

    def _few(self, listed: GrantList, node: Node | None) -> Subquery | None:
        """Returns the names of at most LOOKED_AT grants that have all of the list that the filter selects, or None."""
        for conditions in grant_list.sets_of(listed, node, has_few_reviews=self.has_few_reviews):
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
        return self._entries(page(wanted, GRANT_COLUMNS, order=order, after=after))

    def _walked(
        self,
        arms: Sequence[Arm],
        listed: GrantList,
        node: Node | None,
        order: Sequence[OrderTerm],
        after: Position | None,
        limit: int,
    ) -> FoundGrants:
        entries: list[tuple[Grant, Position]] = []
        look, left = limit if node is None else max(limit, _FIRST_LOOK), max(limit, LOOKED_AT)
        while True:
            look = min(look, left)
            looked = _looked(arms, order, after, look)
            keys = list(looked.c)
            ordered = directed(order, keys)
            wanted = select(GrantRow, *keys).select_from(looked).join(GrantRow, col(GrantRow.name) == looked.c.name)
            wanted = wanted.where(listed.scope, matching(node, GRANT_COLUMNS, now=self.now)).order_by(*ordered)
            entries += self._entries(wanted.limit(limit - len(entries)))
            if len(entries) == limit:
                return FoundGrants(entries)
            last = self._session.execute(select(*keys).order_by(*ordered).offset(look - 1).limit(1)).first()
            left -= look
            if last is None or left == 0:
                return FoundGrants(entries, None if last is None else tuple(last))
            after, look = tuple(last), look * 4

    def _entries(self, statement: Any) -> list[tuple[Grant, Position]]:
        found = self._session.execute(statement).all()
        grants = self._with_reviews([row[0] for row in found])
        return [(grant, tuple(row[1:])) for grant, row in zip(grants, found, strict=True)]


def _looked(arms: Sequence[Arm], order: Sequence[OrderTerm], after: Position | None, limit: int) -> Subquery:
    """Returns the keys of the first `limit` grants after the position that one of the arms has."""
    firsts = []
    for arm in arms:
        found: Any = select(*(_KEYS[term.field] for term in order)).where(arm.scope)
        if not arm.is_ordered:
            # With its own limit it is read by its own index, and sorted then.
            found = select(found.limit(_NO_LIMIT).subquery())
        keys = list(found.selected_columns)
        if after is not None:
            found = found.where(beyond(order, keys, after))
        firsts.append(found.order_by(*directed(order, keys)).limit(limit))
    merged = _union(firsts)
    everything: Any = select(*merged.c)
    first: Any = everything.order_by(*directed(order, list(merged.c))).limit(limit)
    whole: Subquery = first.subquery()
    return whole


def _names(conditions: Sequence[Scope], limit: int) -> Subquery:
    """Returns the names of the first grants, in no order, that each of the conditions finds."""
    return _union([select(col(GrantRow.name)).where(each).limit(limit) for each in conditions])


def _union(parts: Sequence[Any]) -> Subquery:
    """Returns the rows of all parts, each row once. A part may have an order and a limit."""
    whole: Any = parts[0] if len(parts) == 1 else union(*(select(part.subquery()) for part in parts))
    found: Subquery = whole.subquery()
    return found


def _count_all() -> Any:
    some: Any = select(literal_column("1")).select_from(GrantRow).limit(LOOKED_AT + 1)
    return select(func.count()).select_from(some.subquery())
