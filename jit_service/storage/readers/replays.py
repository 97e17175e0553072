"""Answers that are kept under a request_id."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlmodel import col, select

from jit_service.storage import prepared
from jit_service.storage.readers.reading import Reading
from jit_service.storage.tables import ReplayRow


@dataclass(frozen=True, kw_only=True)
class Replay:
    """A request_id that was used: by whom, for which request (a digest), and the answer's JSON at `answered_at`."""

    principal: str
    digest: str
    answered_at: datetime
    answer: str


class ReplayReader(Reading):
    """Reads kept answers."""

    def replay(self, request_id: str) -> Replay | None:
        """Returns what was answered under the request_id, or None."""
        found = prepared.REPLAY.rows(self._connection, request_id=request_id)
        if not found:
            return None
        row = found[0]
        return Replay(principal=row.principal, digest=row.digest, answered_at=row.answered_at, answer=row.answer)

    def has_old_replays(self, *, before: datetime) -> bool:
        """Returns whether an answer to a request_id was given before the instant."""
        old = select(ReplayRow.request_id).where(col(ReplayRow.answered_at) < before).limit(1)
        return self._session.exec(old).first() is not None
