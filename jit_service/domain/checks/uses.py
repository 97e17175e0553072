"""The uses that an allowed check counts."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from jit_service.domain.grants.grant import Grant, with_expiry, with_use


def count_use(grant: Grant, above: Mapping[str, Grant], *, now: datetime) -> list[Grant]:
    """Returns the grants that a check changes which the grant allows: those above first, then the grant itself.

    A metered grant has one use less, and begins to run out at its first. None outlives what it was passed on from.
    """
    changed: list[Grant] = []
    until: datetime | None = None
    for before in (*(above[ancestor] for ancestor in grant.chain), grant):
        after = with_use(before, now=now, until=until) if before.is_metered else with_expiry(before, until=until)
        if after != before:
            changed.append(after)
        until = after.expires_at
    return changed
