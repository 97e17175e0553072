"""From where on grants and their changes are whole: what ended earlier may have been forgotten (ADR 71).

Whoever asks for what lies before is told so. A list, a watch or an answer about the past that silently left something
out would be taken for the whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from jit_service.domain.errors import RecordsPruned
from jit_service.domain.grants.grant import Grant
from jitaccess.naming import rfc3339

_ALWAYS: Final = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True, kw_only=True)
class GrantBeginning:
    """Grants that were over by `over_at`, and changes up to `revision`, the last of them at `changed_at`, may be gone.

    None and 0: none is. Of each grant that there is, the last change up to `revision` is kept. `moved_revision` is the
    store's revision since it is so.
    """

    over_at: datetime | None = None
    revision: int = 0
    changed_at: datetime | None = None
    moved_revision: int = 0

    @property
    def name(self) -> str:
        """The name under which it is sealed, and which audit records have of it."""
        return "grantBeginning"

    @property
    def known_from(self) -> datetime:
        """The first instant of which everything is known."""
        return max((until for until in (self.over_at, self.changed_at) if until is not None), default=_ALWAYS)

    def demand_known(self, at: datetime, field: str) -> None:
        """Raises RecordsPruned if what was live at the instant may be gone; `field` is where the caller named it."""
        first = self.known_from
        if at < first:
            raise RecordsPruned(
                field,
                f"is {rfc3339.exact(at)}; of what was before {rfc3339.exact(first)}, grants or their changes were "
                "forgotten (JIT_GRANT_RETENTION, JIT_CHANGE_RETENTION)",
                first_time=rfc3339.exact(first),
            )

    def demand_changes_after(self, revision: int, field: str) -> None:
        """Raises RecordsPruned if a change after the revision may be gone; `field` is where the caller named it."""
        if revision < self.revision:
            raise RecordsPruned(
                field,
                f"is {revision}; changes up to revision {self.revision} were forgotten (JIT_CHANGE_RETENTION, "
                "JIT_GRANT_RETENTION), so begin anew with 0",
                first_revision=str(self.revision + 1),
            )


ALL_KEPT: Final = GrantBeginning()
"""The beginning while nothing was forgotten."""


def over_at(grant: Grant) -> datetime:
    """Returns from when on the grant, or the request that it stayed, gives nobody anything."""
    return grant.end.at if grant.end is not None else grant.expires_at or grant.request_expires_at


def settled_at(grant: Grant, *, recorded_at: datetime | None) -> datetime | None:
    """Returns from when on nothing can happen with the grant any more; None while something can.

    `recorded_at` is when the audit log recorded that it expired or lapsed. Until it has, or while a review is owed,
    something is to come.
    """
    if grant.owes_review or (grant.end is None and recorded_at is None):
        return None
    emergency = grant.emergency
    reviewed_at = emergency.review.at if emergency is not None and emergency.review is not None else None
    known = (over_at(grant), recorded_at if grant.end is None else None, reviewed_at)
    return max(at for at in known if at is not None)
