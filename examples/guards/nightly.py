"""A job that runs only while it is let: by who it is, or by the token of a grant that it was given."""

from __future__ import annotations

from collections.abc import Callable

from jitaccess.guards import Guard
from jitaccess.guards.jobs import guarded


def create_purge(guard: Guard) -> Callable[[str], str]:
    """Returns the job behind the guard."""

    @guarded(guard, "database/orders/{region}", "rows.purge")
    def purge(region: str) -> str:
        return f"purged {region}"

    return purge
