"""Proposals of policies."""

from __future__ import annotations

from typing import Any

from sqlalchemy import and_
from sqlmodel import col, select

from jit_service.domain.policies.proposal import Proposal
from jit_service.storage import predicates, rows
from jit_service.storage.query import newest_first
from jit_service.storage.readers.reading import Reading
from jit_service.storage.tables import PolicyProposalRow


class ProposalReader(Reading):
    """Reads proposals."""

    def proposal(self, name: str) -> Proposal | None:
        """Returns the proposal, or None."""
        row = self._session.get(PolicyProposalRow, name)
        return None if row is None else self._sealed(row, rows.proposal_of(row))

    def proposals(self, *, before: tuple[int, str] | None, limit: int) -> list[Proposal]:
        """Returns up to `limit` proposals, newest first. `before` is as for `delegations`."""
        columns = (col(PolicyProposalRow.created_at), col(PolicyProposalRow.name))
        return self._proposals(newest_first(select(PolicyProposalRow), *columns, before=before, limit=limit))

    def undecided_proposals(self) -> list[Proposal]:
        """Returns the proposals that wait for a decision, the oldest first."""
        waits = and_(predicates.proposal_undecided(), col(PolicyProposalRow.expires_at) > self.now)
        oldest = (col(PolicyProposalRow.created_at), col(PolicyProposalRow.name))
        return self._proposals(select(PolicyProposalRow).where(waits).order_by(*oldest))

    def lapsed_proposals(self, *, limit: int) -> list[Proposal]:
        """Returns the proposals that nobody decided in time, if no event records it yet."""
        over = and_(predicates.proposal_undecided(), col(PolicyProposalRow.expires_at) <= self.now)
        unrecorded = and_(over, col(PolicyProposalRow.lapse_recorded).is_(False))
        return self._proposals(
            select(PolicyProposalRow).where(unrecorded).order_by(col(PolicyProposalRow.expires_at)).limit(limit)
        )

    def _proposals(self, statement: Any) -> list[Proposal]:
        return [self._sealed(row, rows.proposal_of(row)) for row in self._session.exec(statement)]
