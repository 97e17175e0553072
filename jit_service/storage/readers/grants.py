"""Grants: by name, by person, by state, and those that the sweeper has to act on."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, and_, func, or_
from sqlalchemy.orm import aliased
from sqlmodel import Session, col, select

from jit_service.domain.checks.cached_grant import condense
from jit_service.domain.grants.grant import Grant
from jit_service.domain.grants.lock import Lock
from jit_service.domain.language import name
from jit_service.domain.person import Person
from jit_service.storage import predicates, prepared, query, rows
from jit_service.storage.prepared import Statement
from jit_service.storage.query import grants_held_by
from jit_service.storage.readers.reading import Reading
from jit_service.storage.sealing import live_text
from jit_service.storage.tables import GrantRow, ReviewRow

# Made once: an alias of a table of sixty columns takes most of what a sweep with nothing to do takes.
_PARENT: Final = aliased(GrantRow)
_NAMES: Final = 1000
"""How many names one statement asks for: databases bound its parameters, PostgreSQL's protocol to 65,535."""


class GrantReader(Reading):
    """Reads grants, with their reviews unless a method says otherwise."""

    def grant(self, name: str) -> Grant | None:
        """Returns the grant, or None."""
        return next(iter(self._found_grants(prepared.GRANT, name=name)), None)

    def live_grants(self, subject: str) -> list[Grant]:
        """Returns every grant of the subject that is pending, scheduled or active, by name."""
        return self._found_grants(prepared.LIVE_GRANTS, subject=subject, now=self.now)

    def live_grants_of(self, scope: ColumnElement[bool]) -> list[Grant]:
        """Returns every scheduled or active grant of the scope, by name."""
        return self._grants(select(GrantRow).where(scope, predicates.granted(self.now)).order_by(GrantRow.name))

    def count_granted(self) -> int:
        """Returns how many grants are scheduled or active."""
        return self._session.exec(select(func.count()).select_from(GrantRow).where(predicates.granted(self.now))).one()

    def started_grants(self, *, after: str, limit: int) -> list[Grant]:
        """Returns up to `limit` scheduled and active grants after the name, by name, without their reviews."""
        later = and_(predicates.granted(self.now), col(GrantRow.name) > after)
        wanted = select(GrantRow).where(later).order_by(GrantRow.name).limit(limit)
        return [self._grant_without_reviews(row) for row in prepared.fetch(self._connection, wanted)]

    def live_under(self, policies: Collection[str] | None) -> Iterator[Grant]:
        """Yields every scheduled and active grant under one of the policies (None: any), without its reviews."""
        wanted = select(GrantRow).where(predicates.granted(self.now)).execution_options(yield_per=1000)
        if policies is not None:
            wanted = wanted.where(col(GrantRow.policy).in_(policies))
        with Session(self._connection) as session:
            for row in session.exec(wanted):
                yield self._grant_without_reviews(row)
                # There may be many: do not keep them in memory.
                session.expunge(row)

    def grants_held_by(self, person: Person) -> list[Grant]:
        """Returns the person's pending, scheduled and active grants, under any of its names; by name."""
        held = and_(grants_held_by(person), predicates.live(self.now))
        return self._grants(select(GrantRow).where(held).order_by(GrantRow.name))

    def grants_under_lock(self, lock: Lock) -> list[Grant]:
        """Returns the live grants of whoever the lock is on, and the requests that wait by or for them; by name."""
        live, undecided = predicates.live(self.now), predicates.undecided(self.now)
        if lock.target.group:
            proved = col(GrantRow.subject) == col(GrantRow.requester)
            scope = and_(or_(proved, undecided), query.has_element(col(GrantRow.requester_groups), lock.target.group))
        else:
            # Only the domain folds names, so askers are compared here and not in SQL.
            same = {name.canonical(known) for known in lock.principals}
            asking = select(col(GrantRow.requester)).where(live, undecided).distinct()
            askers = [text for text in self._session.exec(asking) if name.canonical(text) in same]
            holds = col(GrantRow.subject_key).in_(same)
            scope = or_(holds, and_(undecided, col(GrantRow.requester).in_(askers)))
        return self._grants(select(GrantRow).where(live, scope).order_by(GrantRow.name))

    def past_grants(self, subject: str, *, limit: int, at: datetime | None = None) -> list[Grant]:
        """Returns the subject's grants that gave access and are over, or were at the instant; the latest first.

        The terms of a grant that is over do not change any more, so the rows have them as they were.
        """
        return self._grants(
            select(GrantRow)
            .where(GrantRow.subject == subject, predicates.was_granted_and_is_over(at or self.now))
            .order_by(col(GrantRow.expires_at).desc(), col(GrantRow.name))
            .limit(limit)
        )

    def ancestors(self, grants: Iterable[Grant]) -> dict[str, Grant]:
        """Returns the grants in the chains above these, by name."""
        names = {name for grant in grants for name in grant.chain}
        found = self._grants(select(GrantRow).where(col(GrantRow.name).in_(names))) if names else []
        return {grant.name: grant for grant in found}

    def live_children(self, parent: str) -> list[Grant]:
        """Returns the scheduled and active grants below the grant: its children, their children, and so on."""
        direct = self._found_grants(prepared.CHILDREN, parent=parent, now=self.now)
        return [grant for child in direct for grant in (child, *self.live_children(child.name))]

    def live_orphans(self, *, limit: int) -> list[tuple[Grant, Grant]]:
        """Returns scheduled and active grants whose parent has ended, each with its parent; by the parent's name."""
        # The condition of the index `access_grant_live_child`.
        live = and_(predicates.end_unrecorded(), col(GrantRow.parent) != "")
        found = self._session.exec(
            select(GrantRow.name, _PARENT.name)
            .join(_PARENT, col(_PARENT.name) == col(GrantRow.parent))
            .where(live, col(GrantRow.expires_at) > self.now, col(_PARENT.ended_at).is_not(None))
            # In the index's order: to find the first by its own name, SQLite would read every grant, at each sweep.
            .order_by(col(GrantRow.parent), col(GrantRow.name))
            .limit(limit)
        ).all()
        pairs = [(self.grant(child), self.grant(above)) for child, above in found]
        return [(child, above) for child, above in pairs if child is not None and above is not None]

    def count_pending(self, requester: str) -> int:
        """Returns how many undecided requests for access the principal has."""
        [found] = prepared.COUNT_PENDING.rows(self._connection, requester=requester, now=self.now)
        return int(found.count)

    def run_out(self, *, limit: int) -> list[Grant]:
        """Returns grants that expired and requests that lapsed, if no event records it yet; the earliest first."""
        unrecorded = predicates.end_unrecorded()
        expired = col(GrantRow.expires_at) <= self.now
        lapsed = and_(col(GrantRow.expires_at).is_(None), col(GrantRow.request_expires_at) <= self.now)
        found: list[Grant] = []
        for over, at in ((expired, GrantRow.expires_at), (lapsed, GrantRow.request_expires_at)):
            statement = select(GrantRow).where(unrecorded, over).order_by(col(at)).limit(limit - len(found))
            found += self._grants(statement)
        return found

    def lapsed_extensions(self, *, limit: int) -> list[Grant]:
        """Returns grants with an open request for more time that nobody decided in time, the earliest first."""
        over = col(GrantRow.extension_expires_at) <= self.now
        return self._grants(select(GrantRow).where(over).order_by(col(GrantRow.extension_expires_at)).limit(limit))

    def owed_reviews(self, person: Person) -> list[Grant]:
        """Returns the person's break-glass uses that nobody has reviewed, under any of its names."""
        owed = and_(grants_held_by(person), col(GrantRow.review_owed_at).is_not(None))
        return self._grants(select(GrantRow).where(owed).order_by(GrantRow.name))

    def overdue_reviews(self, *, limit: int) -> list[Grant]:
        """Returns break-glass uses whose review is overdue, if no event records it yet; the earliest first."""
        due = col(GrantRow.review_owed_at)
        unrecorded = and_(due <= self.now, col(GrantRow.overdue_recorded_at).is_(None))
        return self._grants(select(GrantRow).where(unrecorded).order_by(due).limit(limit))

    def ending_soon(self, *, limit: int) -> list[Grant]:
        """Returns active grants whose end is near, if no event says so of that end yet; the earliest first."""
        due = col(GrantRow.warns_at)
        unsaid = or_(col(GrantRow.warned_of).is_(None), col(GrantRow.warned_of) != due)
        running = and_(predicates.end_unrecorded(), col(GrantRow.expires_at) > self.now)
        return self._grants(select(GrantRow).where(running, due <= self.now, unsaid).order_by(due).limit(limit))

    def escalated_requests(self, *, limit: int) -> list[Grant]:
        """Returns requests whose step has escalated, if no event says so of that step yet; the earliest first."""
        due = col(GrantRow.escalates_at)
        unsaid = or_(col(GrantRow.escalated_of).is_(None), col(GrantRow.escalated_of) != due)
        undecided = or_(predicates.undecided(self.now), col(GrantRow.extension_expires_at) > self.now)
        waiting = and_(predicates.end_unrecorded(), undecided)
        return self._grants(select(GrantRow).where(waiting, due <= self.now, unsaid).order_by(due).limit(limit))

    def _found_grants(self, statement: Statement, **values: Any) -> list[Grant]:
        found = statement.rows(self._connection, **values)
        return [
            self._sealed(row, rows.grant_of(row, prepared.REVIEWS.rows(self._connection, name=row.name)))
            for row in found
        ]

    def _grants(self, statement: Any) -> list[Grant]:
        return self._with_reviews(prepared.fetch(self._connection, statement))

    def _with_reviews(self, found: Sequence[Any]) -> list[Grant]:
        reviews = self._reviews_of(found)
        return [self._sealed(row, rows.grant_of(row, reviews[row.name])) for row in found]

    def _reviews_of(self, found: Sequence[Any]) -> dict[str, list[Any]]:
        names = [row.name for row in found]
        reviews: dict[str, list[Any]] = {name: [] for name in names}
        for first in range(0, len(names), _NAMES):
            of_them = select(ReviewRow).where(col(ReviewRow.grant_name).in_(names[first : first + _NAMES]))
            for review in prepared.fetch(self._connection, of_them.order_by(col(ReviewRow.position))):
                reviews[review.grant_name].append(review)
        return reviews

    def _grant_without_reviews(self, row: Any) -> Grant:
        """Returns the grant without its reviews, verified as Check verifies it. Raises StoreUnavailable."""
        grant = rows.grant_of(row, [])
        self._sealer.demand_equal(grant.name, self._sealer.of_live(live_text(condense(grant))), row.live_seal)
        return grant
