"""Use cases of forgetting: grants and requests that were over for long, and old changes of grants (ADR 71).

No call of the service forgets anything; one process of all hosts does, a batch in a transaction. Nothing that gives
access, waits for a decision or owes a review is forgotten, so no decision comes out differently.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from jit_service.domain.audit.event import Event, EventType
from jit_service.domain.caller import Caller
from jit_service.domain.grants.grant_beginning import over_at
from jit_service.domain.policies.policy import seconds
from jit_service.storage import Store
from jitaccess.naming import rfc3339

GRANTS_AT_ONCE: Final = 100
"""How many grants one transaction forgets: its record names each, and others wait for some 50 ms."""
CHANGES_AT_ONCE: Final = 1000
"""How many changes one transaction looks at."""


@dataclass(frozen=True)
class Forgotten:
    """What was forgotten: how many, and up to when they were over, or had come."""

    count: int
    until: datetime


def grants_due(store: Store, retention: timedelta) -> bool:
    """Returns whether a grant is to be forgotten."""
    with store.snapshot() as snapshot:
        return bool(snapshot.forgettable_grants(before=snapshot.now - retention, limit=1))


def forget_grants(store: Store, retention: timedelta, by: Caller) -> Forgotten | None:
    """Forgets the next grants that were over for longer than the retention, GRANTS_AT_ONCE at most; None if none is.

    Raises StoreUnavailable for a row that is not as this service left it: such a grant is not forgotten.
    """
    with store.transaction() as tx:
        settled = tx.forgettable_grants(before=tx.now - retention, limit=GRANTS_AT_ONCE)
        if not settled:
            return None
        forgotten = Forgotten(len(settled), max(map(over_at, settled)))
        message = (
            f"{forgotten.count} grants and requests that were over by {rfc3339.exact(forgotten.until)}; "
            f"JIT_GRANT_RETENTION is {seconds(retention)}"
        )
        tx.forget_grants(settled, _event(EventType.GRANTS_PRUNED, message, by, at=tx.now))
        return forgotten


def changes_due(store: Store, retention: timedelta) -> bool:
    """Returns whether changes are to be forgotten."""
    with store.snapshot() as snapshot:
        return snapshot.forgettable_changes(before=snapshot.now - retention, limit=1) is not None


def forget_changes(store: Store, retention: timedelta, by: Caller) -> Forgotten | None:
    """Forgets of the next changes from before the retention those that nothing later rests on; None if none is due."""
    with store.transaction() as tx:
        window = tx.forgettable_changes(before=tx.now - retention, limit=CHANGES_AT_ONCE)
        if window is None:
            return None
        forgotten = Forgotten(tx.forget_changes(window), window.at)
        message = (
            f"{forgotten.count} changes of grants up to revision {window.revision}, of {rfc3339.exact(window.at)}; "
            f"JIT_CHANGE_RETENTION is {seconds(retention)}"
        )
        tx.record(replace(_event(EventType.CHANGES_PRUNED, message, by, at=tx.now), revision=tx.revision))
        return forgotten


def _event(type_: EventType, message: str, by: Caller, *, at: datetime) -> Event:
    return Event(type=type_, at=at, principal=by.principal, origin=by.origin, message=message)
