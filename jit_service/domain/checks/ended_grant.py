"""A grant that is over, as Check keeps it to explain a no."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from jit_service.domain.frozen import replace
from jit_service.domain.grants.grant import End, Grant, GrantState


class EndedGrant(NamedTuple):
    """The facts of a grant that gave access and is over, as in `Grant`, but for what only a live grant is judged by.

    `end` has no comment: an answer to a check does not tell it, and it may be long.
    """

    name: str
    subject: str
    policy: str
    policy_revision: int
    resources: tuple[str, ...]
    actions: tuple[str, ...]
    duration: timedelta
    starts_at: datetime | None
    expires_at: datetime | None
    end: End | None
    chain: tuple[str, ...]
    is_metered: bool
    is_used_up: bool
    use_count: int

    def state(self, now: datetime) -> GrantState:  # noqa: ARG002 (it is over for good)
        """Returns the state, which is final: a grant that nobody ended has expired."""
        return self.end.state if self.end is not None else GrantState.EXPIRED

    @property
    def request_expires_at(self) -> datetime | None:
        """It was approved."""
        return None

    @property
    def subject_groups(self) -> frozenset[str] | None:
        """They are read of an active grant alone, as are the claims and the condition."""
        return None

    @property
    def subject_claims(self) -> Mapping[str, Any] | None:
        """As `subject_groups`."""
        return None

    @property
    def check_condition(self) -> str:
        """As `subject_groups`."""
        return ""


def shorten(grant: Grant) -> EndedGrant:
    """Returns what explains a no of a grant that gave access and is over."""
    if grant.expires_at is None:
        raise AssertionError("a grant that was never approved explains nothing")
    return EndedGrant(
        name=grant.name,
        subject=grant.subject,
        policy=grant.policy,
        policy_revision=grant.policy_revision,
        resources=grant.resources,
        actions=grant.actions,
        duration=grant.duration,
        starts_at=grant.starts_at,
        expires_at=grant.expires_at,
        end=grant.end and replace(grant.end, comment=""),
        chain=grant.chain,
        is_metered=grant.is_metered,
        is_used_up=grant.is_used_up,
        use_count=grant.use_count,
    )
