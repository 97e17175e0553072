"""What can be forgotten of grants and their changes, and what was forgotten already."""

from __future__ import annotations

from datetime import datetime
from functools import cached_property
from typing import Final, NamedTuple

from sqlalchemy import and_, func, or_
from sqlalchemy.orm import aliased
from sqlmodel import col, select

from jit_service.domain.grants.grant import Grant
from jit_service.domain.grants.grant_beginning import ALL_KEPT, GrantBeginning, settled_at
from jit_service.storage import rows
from jit_service.storage.forgotten import GrantBeginningRow, grant_beginning_of
from jit_service.storage.predicates import Scope
from jit_service.storage.readers.grants import GrantReader
from jit_service.storage.tables import GrantChangeRow, GrantRow

_LOOKED_AT: Final = 200


class ChangeWindow(NamedTuple):
    """The oldest changes that may be forgotten: the last of them, and the grants that they are of."""

    revision: int
    at: datetime
    grants: tuple[str, ...]


class ForgettableReader(GrantReader):
    """Reads what is to be forgotten."""

    @cached_property
    def grant_beginning(self) -> GrantBeginning:
        """From where on grants and changes are whole. Raises StoreUnavailable if it is not as this service left it."""
        row = self._session.exec(select(GrantBeginningRow)).first()
        return ALL_KEPT if row is None else self._sealed(row, grant_beginning_of(row))

    def forgettable_grants(self, *, before: datetime, limit: int) -> list[Grant]:
        """Returns up to `limit` grants with which nothing could happen any more since before the instant.

        They are looked for by creation: no grant is over before it was asked for. One from which another was passed on
        waits until that one is forgotten.
        """
        found: list[Grant] = []
        after: tuple[datetime, str] | None = None
        while len(found) < limit:
            wanted = select(GrantRow).where(_may_be_settled(before))
            if after is not None:
                wanted = wanted.where(_comes_after(*after))
            ordered = wanted.order_by(col(GrantRow.created_at), col(GrantRow.name)).limit(_LOOKED_AT)
            page = self._session.exec(ordered).all()
            for row, grant in zip(page, self._with_reviews(page), strict=True):
                since = settled_at(grant, recorded_at=row.run_out_at)
                if since is not None and since < before:
                    found.append(grant)
            if len(page) < _LOOKED_AT:
                break
            after = page[-1].created_at, page[-1].name
        return found[:limit]

    def last_revision_of(self, grants: list[str]) -> int:
        """Returns the revision of the last change of these grants."""
        last = select(func.max(GrantChangeRow.revision)).where(col(GrantChangeRow.grant_name).in_(grants))
        return self._session.exec(last).one() or 0

    def forgettable_changes(self, *, before: datetime, limit: int) -> ChangeWindow | None:
        """Returns up to `limit` of the oldest changes from before the instant that were not looked at yet, or None."""
        wanted = select(GrantChangeRow.revision, GrantChangeRow.at, GrantChangeRow.grant_name).where(
            col(GrantChangeRow.revision) > self.grant_beginning.revision
        )
        oldest = self._session.exec(wanted.order_by(col(GrantChangeRow.revision)).limit(limit)).all()
        due = [(revision, at, name) for revision, at, name in oldest if at < before]
        if not due:
            return None
        return ChangeWindow(due[-1][0], due[-1][1], tuple(dict.fromkeys(name for _, _, name in due)))

    def needed_changes(self, grant: str, revision: int) -> tuple[int, ...]:
        """Returns the revisions that say how the grant was then: the last one, and the whole one that it needs."""
        until = and_(col(GrantChangeRow.grant_name) == grant, col(GrantChangeRow.revision) <= revision)
        found = select(GrantChangeRow).where(until).order_by(col(GrantChangeRow.revision).desc())
        needed: list[int] = []
        for row in self._session.exec(found.limit(1)):
            needed.append(row.revision)
            if not rows.is_whole(row):
                needed.append(self._whole_revision(row))
        return tuple(needed)

    def _whole_revision(self, use: GrantChangeRow) -> int:
        """Returns the revision of the last change before a use that has the whole grant."""
        earlier = and_(
            col(GrantChangeRow.grant_name) == use.grant_name,
            col(GrantChangeRow.revision) < use.revision,
            col(GrantChangeRow.type) != use.type,
        )
        return self._session.exec(select(func.max(GrantChangeRow.revision)).where(earlier)).one() or 0


def _comes_after(created_at: datetime, name: str) -> Scope:
    same = and_(col(GrantRow.created_at) == created_at, col(GrantRow.name) > name)
    return or_(col(GrantRow.created_at) > created_at, same)


def _may_be_settled(before: datetime) -> Scope:
    """Selects grants that were over before the instant by what is on record, and owe nothing."""
    child = aliased(GrantRow)
    recorded = and_(col(GrantRow.ended_at).is_(None), col(GrantRow.run_out_at) < before)
    return and_(
        col(GrantRow.created_at) < before,
        or_(col(GrantRow.ended_at) < before, recorded),
        col(GrantRow.review_owed_at).is_(None),
        col(GrantRow.extension_expires_at).is_(None),
        # With the condition of the index `access_grant_children`.
        ~select(child.name).where(col(child.parent) == col(GrantRow.name), col(child.parent) != "").exists(),
    )
