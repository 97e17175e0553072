"""The event of a refused call. It holds what the caller wrote, made harmless."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from jit_service.domain.audit.event import Event, EventType, group_fields, log_in_fields
from jit_service.domain.caller import Caller, Origin
from jit_service.domain.errors import JitError, ReviewAssuranceRequired
from jit_service.domain.language.name import harmless

MAX_RECORDED = 100


@dataclass(frozen=True, kw_only=True)
class About:
    """What a refused call was about, as the caller wrote it: unchecked, but for duration and context."""

    subject: str = ""
    resources: tuple[str, ...] = ()
    actions: tuple[str, ...] = ()
    grant: str = ""
    policy: str = ""
    duration: timedelta | None = None
    context: dict[str, Any] = field(default_factory=dict)


def refusal_event(by: Caller, error: JitError, about: About, *, at: datetime) -> Event:
    """Returns the event. What the caller wrote is made harmless and bounded, since nothing has checked it."""
    return Event(
        type=EventType.CALL_REFUSED,
        at=at,
        principal=by.principal,
        origin=by.origin,
        subject=harmless(about.subject),
        resources=_harmless(about.resources),
        actions=_harmless(about.actions),
        decision="REFUSED",
        reason=error.reason,
        message=harmless(error.message),
        grant=harmless(about.grant),
        policy=harmless(about.policy),
        duration=about.duration,
        **(group_fields(by.groups) if about.resources else {}),
        context=about.context,
        lock=error.metadata.get("lock", ""),
        **(log_in_fields(by, now=at) if isinstance(error, ReviewAssuranceRequired) else {}),
    )


def unauthenticated_event(origin: Origin, *, reason: str, count: int, at: datetime) -> Event:
    """Returns the event of `count` refused calls without a valid token. It holds nothing that the callers wrote."""
    return Event(
        type=EventType.CALL_REFUSED,
        at=at,
        principal="",
        origin=Origin(method=origin.method, source_address=origin.source_address),
        decision="REFUSED",
        reason=reason,
        repeat_count=count if count > 1 else 0,
    )


def _harmless(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(harmless(text) for text in tuple(texts)[:MAX_RECORDED])
