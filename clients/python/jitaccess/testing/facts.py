"""The facts of the in-memory service: its clock, its grants, and the messages about them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from jitaccess.contract.model import CheckReason, GrantState
from jitaccess.naming import rfc3339
from jitaccess.naming.pattern import Patterns, action_covered, resource_covered
from jitaccess.replica.decision import HeldGrant

START = datetime(2026, 3, 2, 12, tzinfo=UTC)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Clock:
    """Stands still until the test moves it."""

    def __init__(self, now: datetime = START) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def advance(self, span: timedelta) -> None:
        """Lets time pass."""
        self.now += span


@dataclass(frozen=True, kw_only=True)
class MemoryGrant:
    """A grant's facts. `start_time` is None while nobody has approved it; `groups` None where nobody proved any."""

    name: str
    subject: str
    resources: tuple[str, ...]
    actions: tuple[str, ...]
    duration: timedelta
    request_expire_time: datetime
    start_time: datetime | None = None
    end_time: datetime | None = None
    end_state: GrantState | None = None
    groups: frozenset[str] | None = frozenset()

    @property
    def expire_time(self) -> datetime | None:
        """When its time runs out."""
        return self.start_time + self.duration if self.start_time is not None else None

    def state(self, now: datetime) -> GrantState:
        """Returns the state at `now`."""
        if self.end_state is not None:
            return self.end_state
        if self.start_time is None or self.expire_time is None:
            return GrantState.PENDING if now < self.request_expire_time else GrantState.LAPSED
        if now < self.start_time:
            return GrantState.SCHEDULED
        return GrantState.ACTIVE if now < self.expire_time else GrantState.EXPIRED


def covers(grant: MemoryGrant, subject: str, action: str, resource: str) -> bool:
    return (
        grant.subject == subject
        and action_covered(action, grant.actions)
        and resource_covered(resource, grant.resources)
    )


def held_grant(grant: MemoryGrant) -> HeldGrant:
    if grant.start_time is None or grant.expire_time is None:
        raise AssertionError("a live grant without its instants")
    return HeldGrant(
        name=grant.name,
        subject=grant.subject,
        resources=Patterns(grant.resources, "/"),
        actions=Patterns(grant.actions, "."),
        start=microseconds(grant.start_time),
        expire=microseconds(grant.expire_time),
        expire_time=grant.expire_time,
        groups=grant.groups,
        needs_check=False,
    )


def over_at(grant: MemoryGrant) -> datetime:
    over_at = grant.end_time or grant.expire_time
    if over_at is None:
        raise AssertionError("an ended grant without its end")
    return over_at


def explanation(reason: CheckReason, grant: MemoryGrant | None, by: str, asked: str) -> str:
    if grant is None:
        return f"no grant lets {asked}"
    match reason:
        case CheckReason.ALLOWED:
            return f"{grant.name} allows it until {_to_seconds(grant.expire_time)}"
        case CheckReason.DENIED_BY_POLICY:
            return f"{by} denies {asked}"
        case CheckReason.NOT_YET_STARTED:
            return f"{grant.name} starts at {_to_seconds(grant.start_time)}"
        case CheckReason.PENDING:
            return f"{grant.name} waits for approval until {_to_seconds(grant.request_expire_time)}"
        case CheckReason.EXPIRED:
            return f"{grant.name} expired at {_to_seconds(grant.expire_time)}"
        case _:
            return f"{grant.name} was {reason.lower()} at {_to_seconds(grant.end_time)}"


def microseconds(instant: datetime) -> int:
    return (instant - _EPOCH) // timedelta(microseconds=1)


def _to_seconds(instant: datetime | None) -> str:
    return "" if instant is None else rfc3339.to_seconds(instant)
