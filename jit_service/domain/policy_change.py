"""Changes of policies, each with the event that records it."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import datetime

from jit_service.domain.caller import Caller
from jit_service.domain.event import Event, EventType
from jit_service.domain.policy import Policy

_SERVER_FIELDS = frozenset({"revision", "created_at", "updated_at", "deleted_at"})


def changed_fields(before: Policy, after: Policy) -> tuple[str, ...]:
    """Returns the names of the fields, in order, that somebody chose differently."""
    chosen = (field.name for field in fields(Policy) if field.name not in _SERVER_FIELDS)
    return tuple(name for name in chosen if getattr(before, name) != getattr(after, name))


def created(policy: Policy, *, replaces: Policy | None, by: Caller, now: datetime) -> tuple[Policy, Event]:
    """Returns the new policy. `replaces` is the deleted one that had the name, if any."""
    new = replace(
        policy,
        revision=replaces.revision if replaces is not None else 0,
        created_at=now,
        updated_at=now,
        deleted_at=None,
    )
    return new, _event(EventType.POLICY_CREATED, new, by=by, now=now, message="created")


def updated(before: Policy, after: Policy, *, by: Caller, now: datetime) -> tuple[Policy, Event]:
    """Returns the policy with the chosen fields of `after`."""
    new = replace(
        after,
        name=before.name,
        revision=before.revision,
        created_at=before.created_at,
        updated_at=now,
        deleted_at=before.deleted_at,
    )
    message = "changed " + (", ".join(changed_fields(before, new)) or "nothing")
    return new, _event(EventType.POLICY_UPDATED, new, by=by, now=now, message=message)


def deleted(policy: Policy, *, by: Caller, now: datetime) -> tuple[Policy, Event]:
    """Returns the policy out of force for good; its name may be used again."""
    gone = replace(policy, updated_at=now, deleted_at=now)
    return gone, _event(EventType.POLICY_DELETED, gone, by=by, now=now, message="deleted")


def _event(type_: EventType, policy: Policy, *, by: Caller, now: datetime, message: str) -> Event:
    return Event(
        type=type_,
        at=now,
        principal=by.principal,
        origin=by.origin,
        resources=policy.resources,
        actions=policy.actions,
        message=message,
        policy=policy.name,
    )
