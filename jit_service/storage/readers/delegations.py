"""Delegations of the right to review."""

from __future__ import annotations

from typing import Any

from sqlalchemy import and_, func
from sqlmodel import col, select

from jit_service.domain.grants.delegation import Delegation
from jit_service.domain.person import Person
from jit_service.storage import predicates, prepared, rows
from jit_service.storage.query import delegations_of, newest_first
from jit_service.storage.readers.reading import Reading
from jit_service.storage.tables import DelegationRow


class DelegationReader(Reading):
    """Reads delegations, also those that are over unless a method says otherwise."""

    def delegation(self, name: str) -> Delegation | None:
        """Returns the delegation, even if it is over, or None."""
        row = self._session.get(DelegationRow, name)
        return None if row is None else self._sealed(row, rows.delegation_of(row))

    def delegations(self, person: Person | None, *, before: tuple[int, str] | None, limit: int) -> list[Delegation]:
        """Returns up to `limit` delegations that the person gave or has (None: anybody), newest first.

        `before` is the position at which the last page ended: created_at in microseconds since 1970, and name.
        """
        wanted = select(DelegationRow)
        if person is not None:
            wanted = wanted.where(delegations_of(person))
        columns = (col(DelegationRow.created_at), col(DelegationRow.name))
        return self._delegations(newest_first(wanted, *columns, before=before, limit=limit))

    def delegations_to(self, delegate: str) -> list[Delegation]:
        """Returns the delegations that the principal can use now."""
        found = prepared.DELEGATIONS_TO.rows(self._connection, delegate=delegate, now=self.now)
        return [self._sealed(row, rows.delegation_of(row)) for row in found]

    def delegations_by(self, delegator: str) -> list[Delegation]:
        """Returns the principal's delegations to others that are not over, also future ones; by name."""
        mine = and_(col(DelegationRow.delegator) == delegator, predicates.delegation_kept(self.now))
        return self._delegations(select(DelegationRow).where(mine).order_by(DelegationRow.name))

    def usable_delegations(self) -> list[Delegation]:
        """Returns the delegations that are not over, also future ones; by name."""
        kept = predicates.delegation_kept(self.now)
        return self._delegations(select(DelegationRow).where(kept).order_by(DelegationRow.name))

    def count_delegations(self, *, delegator: str, delegate: str) -> tuple[int, int]:
        """Returns how many delegations that are not over the delegator has given, and how many the delegate has."""
        kept = predicates.delegation_kept(self.now)
        counting = select(func.count()).select_from(DelegationRow)
        given = self._session.exec(counting.where(kept, col(DelegationRow.delegator) == delegator)).one()
        held = self._session.exec(counting.where(kept, col(DelegationRow.delegate) == delegate)).one()
        return given, held

    def _delegations(self, statement: Any) -> list[Delegation]:
        return [self._sealed(row, rows.delegation_of(row)) for row in self._session.exec(statement)]
