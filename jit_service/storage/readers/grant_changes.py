"""The log of changes of grants, which watchers and simulations read."""

from __future__ import annotations

from typing import Any

from sqlalchemy import and_
from sqlmodel import col, select

from jit_service.domain.grants.grant import Grant
from jit_service.storage import rows
from jit_service.storage.readers.reading import Reading
from jit_service.storage.rows import GrantChange
from jit_service.storage.tables import GrantChangeRow, GrantRow


class GrantChangeReader(Reading):
    """Reads changes, each with the grant as it was then."""

    def changes(self, *, after: int, limit: int) -> list[GrantChange]:
        """Returns up to `limit` changes of grants after the revision, in the order of their commits."""
        wanted = select(GrantChangeRow).where(col(GrantChangeRow.revision) > after)
        return self._changes(wanted.order_by(col(GrantChangeRow.revision)).limit(limit))

    def changes_of(self, subject: str) -> list[GrantChange]:
        """Returns every change of the subject's grants, in the order of the commits."""
        wanted = select(GrantChangeRow).join(GrantRow, col(GrantRow.name) == col(GrantChangeRow.grant_name))
        return self._changes(wanted.where(GrantRow.subject == subject).order_by(col(GrantChangeRow.revision)))

    def grant_at(self, name: str, revision: int) -> Grant | None:
        """Returns the grant as it was at the revision, or None."""
        until = and_(col(GrantChangeRow.grant_name) == name, col(GrantChangeRow.revision) <= revision)
        wanted = select(GrantChangeRow).where(until).order_by(col(GrantChangeRow.revision).desc()).limit(1)
        found = self._changes(wanted)
        return found[0].grant if found else None

    def _changes(self, statement: Any) -> list[GrantChange]:
        """Returns the changes that the statement finds. The row of a use has only what changed; this adds the rest."""
        whole: dict[str, GrantChangeRow] = {}
        changes = []
        for row in self._session.exec(statement).all():
            if rows.is_whole(row):
                whole[row.grant_name] = row
                changes.append(self._change_of(row))
                continue
            base = whole.get(row.grant_name)
            if base is None or base.revision > row.revision:
                base = whole[row.grant_name] = self._whole_before(row)
            changes.append(self._change_of(row, base))
        return changes

    def _change_of(self, row: GrantChangeRow, base: GrantChangeRow | None = None) -> GrantChange:
        self._sealer.demand(f"changes/{row.revision}", rows.change_fact(row.model_dump()), row.seal)
        return rows.change_of(row, base)

    def _whole_before(self, use: GrantChangeRow) -> GrantChangeRow:
        earlier = and_(
            col(GrantChangeRow.grant_name) == use.grant_name,
            col(GrantChangeRow.revision) < use.revision,
            col(GrantChangeRow.type) != use.type,
        )
        wanted = select(GrantChangeRow).where(earlier).order_by(col(GrantChangeRow.revision).desc()).limit(1)
        return self._session.exec(wanted).one()
