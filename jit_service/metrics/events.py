"""Counts what was committed to the audit log."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from jit_service.domain.audit.event import Event, EventType
from jit_service.domain.grants.grant import Grant
from jit_service.metrics.catalogue import DECISION_WAIT, ENDS, EVENTS, TOKENS

_ENDS: Final = {
    EventType.GRANT_EXPIRED: "EXPIRED",
    EventType.GRANT_REVOKED: "REVOKED",
    EventType.GRANT_RELEASED: "RELEASED",
    EventType.GRANT_DENIED: "DENIED",
    EventType.GRANT_WITHDRAWN: "WITHDRAWN",
    EventType.GRANT_LAPSED: "LAPSED",
}
_OUTCOMES: Final = {
    EventType.GRANT_APPROVED: "approved",
    EventType.COUNTER_OFFER_ACCEPTED: "approved",
    EventType.GRANT_DENIED: "denied",
    EventType.GRANT_WITHDRAWN: "withdrawn",
    EventType.GRANT_LAPSED: "lapsed",
}


def count_committed(events: Iterable[tuple[Event, Grant | None]]) -> None:
    """Counts the events of a transaction that is committed, each with the grant that it led to."""
    for event, grant in events:
        if event.type is EventType.ACCESS_CHECKED:
            continue
        EVENTS.add(event.type.value)
        if (kind := _ENDS.get(event.type)) is not None:
            ENDS.add(kind)
        if event.type is EventType.TOKEN_ISSUED:
            TOKENS.add()
        outcome = _OUTCOMES.get(event.type)
        if outcome is not None and grant is not None and _is_decided(grant, outcome):
            DECISION_WAIT.observe(max(0.0, (event.at - grant.created_at).total_seconds()), outcome)


def _is_decided(grant: Grant, outcome: str) -> bool:
    """Returns whether the event ended the wait: of several approvals, the last one does."""
    return outcome != "approved" or grant.approved_at is not None
