"""Where the audit log begins: at its first record, or behind what was pruned (docs/adr/0064-forget-by-bounds.md).

Whole pieces are pruned, the oldest first. A signed checkpoint of the last pruned record stays, so the log goes on from
its hash.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any, Final, NamedTuple

from jit_service.domain.audit.chain import GENESIS
from jit_service.domain.errors import RecordsPruned
from jitaccess.naming import rfc3339

MAX_PIECES: Final = 64
"""How many pieces are pruned at once, some 65,000 records: one file of an archive, and one short transaction."""
_MOST_SLACK: Final = timedelta(hours=1)
_SLACK_PARTS: Final = 24
_MOST_WAIT: Final = timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class Beginning:
    """The log has the records after `seq`; `hash` is the hash of the record `seq`, in hex. At 0 nothing was pruned.

    `last_at` is the latest instant among all pruned records, `pruned_at` when they were pruned. `checkpoint` is the
    signed checkpoint of the record, which `public_key`, a JWK, verifies. `archive` is the file in which the records
    from `first_seq` on were archived, `sha256` its digest in hex; both are empty without an archive. `archived_from` is
    the first record of those that were archived without a gap up to `seq`, 0 if the last ones were not archived.
    `carried` is a digest of the changes of policies and signals that were kept beyond their records.
    """

    seq: int = 0
    hash: str = GENESIS.hex()
    first_seq: int = 0
    last_at: datetime = datetime.fromtimestamp(0, UTC)
    pruned_at: datetime = datetime.fromtimestamp(0, UTC)
    checkpoint: str = ""
    public_key: Mapping[str, Any] = field(default_factory=dict)
    archive: str = ""
    sha256: str = ""
    archived_from: int = 0
    carried: str = ""

    @property
    def was_pruned(self) -> bool:
        """Whether the log has lost its first records to pruning."""
        return self.seq > 0

    def demand_kept(self, seq: int, field: str) -> None:
        """Raises RecordsPruned if records after `seq` were pruned; `field` is where the caller named `seq`."""
        if seq < self.seq:
            raise self.pruned(field, f"is {seq}")

    def pruned(self, field: str, found: str) -> RecordsPruned:
        """Returns the error for a field that names something pruned; `found` says what it names."""
        return RecordsPruned(
            field,
            f"{found}; the records up to {self.seq} were pruned on {rfc3339.exact(self.pruned_at)}, "
            f"and the log begins with record {self.seq + 1}",
            first_seq=str(self.seq + 1),
        )


WHOLE: Final = Beginning()
"""The beginning of a log of which nothing was pruned."""


class PieceSpan(NamedTuple):
    """The last seq of a piece, and the latest instant of its records."""

    seq: int
    last_at: datetime


def prunable(pieces: Iterable[PieceSpan], *, now: datetime, retention: timedelta, waiting: int | None) -> list[int]:
    """Returns the last seqs of the oldest pieces that may be pruned now, in order; none while it is not worth it yet.

    `pieces` are the oldest in order; all records of a pruned one are older than the retention. `waiting` is the first
    record that a notification still waits with: it is kept. So that an archive has few files, fewer than MAX_PIECES are
    pruned only once the first of them is too old by an hour, or by a part of a short retention.
    """
    due: list[PieceSpan] = []
    for piece in pieces:
        if piece.last_at >= now - retention or (waiting is not None and piece.seq >= waiting) or len(due) == MAX_PIECES:
            break
        due.append(piece)
    slack = min(_MOST_SLACK, retention / _SLACK_PARTS)
    if len(due) < MAX_PIECES and (not due or due[0].last_at >= now - retention - slack):
        return []
    return [piece.seq for piece in due]


class Leaving(Enum):
    """How the pieces of a partition go once they are too old."""

    EACH = "a few at a time"
    WHOLE = "all of them are pruned, and go when the partition is dropped"
    SOON = "they wait, since the whole partition can be dropped soon"


def leaving(last: PieceSpan | None, *, now: datetime, retention: timedelta, waiting: int | None) -> Leaving:
    """Returns how the pieces of the partition go whose last piece is `last`; None if it cannot be dropped as a whole.

    Nothing is deleted row by row that a day later, or by a part of a short retention, can be dropped at no cost.
    """
    if last is None or (waiting is not None and last.seq >= waiting):
        return Leaving.EACH
    too_old_in = last.last_at - (now - retention)
    if too_old_in < timedelta():
        return Leaving.WHOLE
    return Leaving.SOON if too_old_in < min(_MOST_WAIT, retention / _SLACK_PARTS) else Leaving.EACH
