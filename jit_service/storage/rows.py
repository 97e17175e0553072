"""Between the domain's facts and the tables' rows."""

from __future__ import annotations

import json
from typing import Any

from pydantic import TypeAdapter

from jit_service.domain import name
from jit_service.domain.event import Event, RecordedEvent
from jit_service.domain.grant import End, Grant, GrantState, Justification, Review, ReviewDecision
from jit_service.domain.policy import Policy, Step
from jit_service.domain.signal import Signal
from jit_service.storage.tables import AuditRow, GrantRow, PolicyRow, ReviewRow, SignalRow

POLICIES = TypeAdapter(Policy)
_STEPS = TypeAdapter(tuple[Step, ...])
_EVENTS = TypeAdapter(Event)


def grant_columns(grant: Grant) -> dict[str, Any]:
    """Returns the columns of the grant's row."""
    return {
        "name": grant.name,
        "requester": grant.requester,
        "requester_groups": sorted(grant.requester_groups),
        "subject": grant.subject,
        "policy": grant.policy,
        "policy_revision": grant.policy_revision,
        "steps": _STEPS.dump_python(grant.steps, mode="json"),
        "resources": list(grant.resources),
        "actions": list(grant.actions),
        "duration": grant.duration,
        "justification": grant.justification.text,
        "ticket": grant.justification.ticket,
        "labels": grant.labels,
        "created_at": grant.created_at,
        "request_expires_at": grant.request_expires_at,
        "start_at": grant.start_at,
        "approved_at": grant.approved_at,
        "starts_at": grant.starts_at,
        "expires_at": grant.expires_at,
        "ended_at": grant.end and grant.end.at,
        "ended_as": grant.end and grant.end.state,
        "ended_by": grant.end and grant.end.by,
        "end_comment": grant.end and grant.end.comment,
        "skipped": sorted(grant.skipped),
        "context": grant.context,
        "claims": grant.claims,
        "source_address": grant.source_address,
        "check_condition": grant.check_condition,
        "revision": grant.revision,
    }


def review_columns(grant: Grant, position: int) -> dict[str, Any]:
    """Returns the columns of the grant's review at `position`."""
    review = grant.reviews[position]
    return {
        "grant_name": grant.name,
        "position": position,
        "reviewer": review.reviewer,
        "reviewer_key": name.canonical(review.reviewer),
        "groups": sorted(review.groups),
        "decision": review.decision,
        "step": review.step,
        "comment": review.comment,
        "at": review.at,
    }


def grant_of(row: GrantRow, reviews: list[ReviewRow]) -> Grant:
    """Returns the grant of a row and its reviews, which must be in order of position."""
    return Grant(
        name=row.name,
        requester=row.requester,
        requester_groups=frozenset(row.requester_groups),
        subject=row.subject,
        policy=row.policy,
        policy_revision=row.policy_revision,
        steps=_STEPS.validate_python(row.steps),
        resources=tuple(row.resources),
        actions=tuple(row.actions),
        duration=row.duration,
        justification=Justification(text=row.justification, ticket=row.ticket),
        labels=dict(row.labels),
        created_at=row.created_at,
        request_expires_at=row.request_expires_at,
        start_at=row.start_at,
        approved_at=row.approved_at,
        starts_at=row.starts_at,
        expires_at=row.expires_at,
        end=_end_of(row),
        reviews=tuple(_review_of(review) for review in reviews),
        revision=row.revision,
        skipped=frozenset(row.skipped),
        context=dict(row.context),
        claims=dict(row.claims),
        source_address=row.source_address,
        check_condition=row.check_condition,
    )


def policy_of(row: PolicyRow) -> Policy:
    """Returns the policy of a row."""
    return POLICIES.validate_python(row.document)


def signal_columns(signal: Signal) -> dict[str, Any]:
    """Returns the columns of the signal's row."""
    return {
        "name": signal.name,
        "value": json.dumps(signal.value, ensure_ascii=False),
        "expires_at": signal.expires_at,
        "setter": signal.setter,
        "updated_at": signal.updated_at,
        "revision": signal.revision,
    }


def signal_of(row: SignalRow) -> Signal:
    """Returns the signal of a row."""
    return Signal(
        name=row.name,
        value=json.loads(row.value),
        expires_at=row.expires_at,
        setter=row.setter,
        updated_at=row.updated_at,
        revision=row.revision,
    )


def audit_columns(event: Event) -> dict[str, Any]:
    """Returns the columns by which the event is found."""
    return {
        "at": event.at,
        "type": event.type,
        "principal": event.principal,
        "subject": event.subject,
        "resources": list(event.resources),
        "actions": list(event.actions),
        "decision": event.decision,
        "reason": event.reason,
        "grant_name": event.grant,
        "policy": event.policy,
        "method": event.origin.method,
        "source_address": event.origin.source_address,
        "trace_id": event.origin.trace_id,
        "request_id": event.origin.request_id,
        "decision_id": event.decision_id,
    }


def payload_of(event: Event) -> bytes:
    """Returns the bytes that are stored and hashed."""
    return _EVENTS.dump_json(event, exclude_defaults=True)


def recorded_event_of(row: AuditRow) -> RecordedEvent:
    """Returns the record, read from the bytes that were hashed. Raises ValueError where they are not an event."""
    return RecordedEvent(seq=row.seq, hash=row.hash, event=_EVENTS.validate_json(row.payload))


def found_as_hashed(row: AuditRow) -> bool:
    """Says whether the columns that find the record are those of its hashed bytes."""
    columns = audit_columns(recorded_event_of(row).event)
    return all(getattr(row, column) == value for column, value in columns.items())


def _end_of(row: GrantRow) -> End | None:
    if row.ended_as is None or row.ended_at is None:
        return None
    return End(state=GrantState(row.ended_as), at=row.ended_at, by=row.ended_by or "", comment=row.end_comment or "")


def _review_of(row: ReviewRow) -> Review:
    return Review(
        reviewer=row.reviewer,
        groups=frozenset(row.groups),
        decision=ReviewDecision(row.decision),
        step=row.step,
        comment=row.comment,
        at=row.at,
    )
