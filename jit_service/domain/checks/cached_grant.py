"""A grant as Check reads it: what the decision needs, small enough for a million of them in memory."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from jit_service.domain.grants.grant import End, Grant, GrantState, state_of


class CachedGrant(NamedTuple):
    """The facts of a grant that nobody has ended, as in `Grant`.

    `request_expires_at` is None once it is approved, and `subject_claims` where it has no condition: nothing reads them
    then. A grant that is metered changes with each check that it allows, so that nothing here says whether it is used
    up.
    """

    name: str
    subject: str
    policy: str
    policy_revision: int
    resources: tuple[str, ...]
    actions: tuple[str, ...]
    duration: timedelta
    starts_at: datetime | None = None
    expires_at: datetime | None = None
    request_expires_at: datetime | None = None
    subject_groups: frozenset[str] | None = None
    subject_claims: Mapping[str, Any] | None = None
    check_condition: str = ""
    chain: tuple[str, ...] = ()
    is_metered: bool = False

    def state(self, now: datetime) -> GrantState:
        """Returns the state at `now`."""
        return state_of(self.starts_at, self.expires_at, self.request_expires_at, now)

    @property
    def end(self) -> End | None:
        """Nobody has ended it."""
        return None

    @property
    def is_used_up(self) -> bool:
        """Only a metered grant can be, and what is metered is judged by the grant itself."""
        return False

    @property
    def use_count(self) -> int:
        """As `is_used_up`."""
        return 0


def condense(grant: Grant) -> CachedGrant:
    """Returns the grant as Check reads it. It must not have ended."""
    if grant.end is not None:
        raise AssertionError("a grant that somebody ended is not live")
    return CachedGrant(
        name=grant.name,
        subject=grant.subject,
        policy=grant.policy,
        policy_revision=grant.policy_revision,
        resources=grant.resources,
        actions=grant.actions,
        duration=grant.duration,
        starts_at=grant.starts_at,
        expires_at=grant.expires_at,
        request_expires_at=grant.request_expires_at if grant.expires_at is None else None,
        subject_groups=grant.subject_groups,
        subject_claims=grant.subject_claims if grant.check_condition else None,
        check_condition=grant.check_condition,
        chain=grant.chain,
        is_metered=grant.is_metered,
    )
