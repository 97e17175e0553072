"""What comes by itself while a grant waits or runs, and is told of: its end is near, its step has escalated.

Nothing is decided by these: the end is the grant's own, and escalated approvers may decide whether or not it was told.
"""

from __future__ import annotations

from datetime import datetime

from jit_service.domain.audit.event import SERVICE, Event, EventType
from jit_service.domain.caller import Caller
from jit_service.domain.errors import WrongState
from jit_service.domain.grants.grant import ExtensionState, Grant, GrantState, event
from jit_service.domain.grants.quorum import current_step, step_due_at


def warns_at(grant: Grant) -> datetime | None:
    """Returns when people are to be told that the grant ends soon; None where they are not.

    That is before its latest end, which uses do not move and more time does. One that is given for no longer than
    `warn_before` is not warned of, nor one that was passed on, which ends with the grant it came from.
    """
    if grant.latest_end is None or grant.end is not None or grant.chain:
        return None
    is_warned_of = grant.warn_before and grant.duration > grant.warn_before
    return grant.latest_end - grant.warn_before if is_warned_of else None


def ends_soon(grant: Grant, *, now: datetime) -> bool:
    """Returns whether the grant is active and people are to be told of its end."""
    due = warns_at(grant)
    return due is not None and now >= due and grant.state(now) is GrantState.ACTIVE


def expires_soon_event(grant: Grant, *, now: datetime) -> Event:
    """Returns the event of a grant whose end is near. Raises WrongState for any other."""
    if not ends_soon(grant, now=now) or grant.latest_end is None:
        raise WrongState(f"{grant.name} does not end soon", grant=grant.name, state=grant.state(now))
    message = f"it ends at {grant.latest_end.isoformat()} at the latest"
    return event(EventType.GRANT_EXPIRES_SOON, grant, by=Caller(principal=SERVICE), now=now, message=message)


def escalates_at(grant: Grant) -> datetime | None:
    """Returns when others may decide the step that the request waits for; None where it does not escalate."""
    if not _is_undecided(grant) or (due := step_due_at(grant)) is None:
        return None
    return due if grant.steps[current_step(grant)].escalate_to is not None else None


def has_escalated(grant: Grant, *, now: datetime) -> bool:
    """Returns whether the request waits for a step that others may decide by now."""
    due = escalates_at(grant)
    waits = grant.state(now) is GrantState.PENDING or grant.extension_state(now) is ExtensionState.PENDING
    return due is not None and now >= due and waits


def escalated_event(grant: Grant, *, now: datetime) -> Event:
    """Returns the event of a request whose step has escalated. Raises WrongState for any other."""
    due = escalates_at(grant)
    if not has_escalated(grant, now=now) or due is None:
        raise WrongState(f"{grant.name} waits for no step that has escalated", grant=grant.name)
    message = f"step {current_step(grant) + 1} was not decided by {due.isoformat()}, so others may decide it too"
    return event(EventType.STEP_ESCALATED, grant, by=Caller(principal=SERVICE), now=now, message=message)


def _is_undecided(grant: Grant) -> bool:
    """Returns whether nobody has decided the latest request; its time may be over."""
    if grant.end is not None:
        return False
    return grant.approved_at is None if grant.extension is None else grant.extension.decided is None
