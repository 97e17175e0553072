"""Answers that are kept under their request_id, to be given again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlmodel import col, select

from jit_service.storage import prepared
from jit_service.storage.readers.reading import Reading
from jit_service.storage.tables import ReplayRow


@dataclass(frozen=True, kw_only=True)
class Replay:
    """A used request_id: the principal, a digest of the request, and the answer's JSON with its instant."""

    principal: str
    digest: str
    answered_at: datetime
    answer: str


class ReplayReader(Reading):
    """Reads kept answers."""

    def replay(self, request_id: str) -> Replay | None:
        """Returns the answer under the request_id, or None."""
        found = prepared.REPLAY.rows(self._connection, request_id=request_id)
        if not found:
            return None
        row = found[0]
        return Replay(principal=row.principal, digest=row.digest, answered_at=row.answered_at, answer=row.answer)

    def has_old_replays(self, *, before: datetime) -> bool:
        """Whether a kept answer was given before the instant."""
        old = select(ReplayRow.request_id).where(col(ReplayRow.answered_at) < before).limit(1)
        return self._session.exec(old).first() is not None
