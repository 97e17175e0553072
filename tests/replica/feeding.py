"""A replica that is fed as the service feeds it, message by message, without a service."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from jit_service.domain.audit.event import EventType
from jit_service.domain.caller import Caller, Role
from jit_service.domain.grants.grant import Grant
from jit_service.domain.grants.lock import Lock
from jit_service.domain.policies.policy import Policy
from jit_service.feeds.grants import ControlEvent
from jit_service.feeds.replica import ReplicaUpdate, checkable
from jit_service.rpc.services.grants_messages import replica_message
from jit_service.storage.head import Head
from jitaccess.replica.decision import Judgement
from jitaccess.replica.state import Replica
from jitaccess.v1.grant_pb2 import WatchGrantsResponse
from tests.domain.factories import NOON

GATEWAY = Caller(principal="service:gateway", roles=frozenset({Role.CHECKER}))
SECOND = 10**9
MAX_AGE = 10 * SECOND
PLACE = Head(revision=7, seq=9, hash=bytes(range(32)))
OPENED = 5000 * SECOND
"""When, by this machine's steady clock, the stream is opened."""


def update(
    type_: EventType | ControlEvent,
    revision: int = 7,
    *,
    grant: Grant | None = None,
    denies: Sequence[Policy] | None = None,
    locks: Sequence[Lock] | None = None,
    at: datetime = NOON,
    elapsed: timedelta = timedelta(),
) -> WatchGrantsResponse:
    """An update as it comes over the wire."""
    told = ReplicaUpdate(
        type=type_,
        revision=revision,
        head=PLACE,
        read_at=at,
        elapsed=elapsed,
        grant=checkable(grant, at, GATEWAY) if grant is not None else None,
        denies=tuple(policy for policy in denies if policy.deny and policy.in_force) if denies is not None else None,
        locks=tuple(locks) if locks is not None else None,
    )
    return WatchGrantsResponse.FromString(replica_message(told).SerializeToString())


def current(
    *grants: Grant, denies: Sequence[Policy] = (), locks: Sequence[Lock] = (), at: datetime = NOON
) -> list[WatchGrantsResponse]:
    """What a stream begins with."""
    return [
        *(update(ControlEvent.CURRENT, 0, grant=grant, at=at) for grant in grants if checkable(grant, at, GATEWAY)),
        update(ControlEvent.DENY_POLICIES, denies=denies, at=at),
        *([update(ControlEvent.LOCKS, locks=locks, at=at)] if locks else []),
        update(ControlEvent.HEARTBEAT, at=at),
    ]


def fed(told: Iterable[WatchGrantsResponse]) -> Replica:
    """A replica that has just been told this."""
    replica = Replica(max_age=MAX_AGE)
    replica.open(OPENED)
    for message in told:
        replica.take(message)
    return replica


def answer(
    replica: Replica,
    subject: str = "user:alice@example.com",
    action: str = "read",
    resource: str = "database/orders/eu",
    *,
    after: int = 0,
) -> Judgement:
    """What it says so many nanoseconds after the stream was opened."""
    return replica.judge(subject, action, resource, OPENED + after)[0]
