"""What the audit record of a refused call says about its request."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from google.protobuf.message import Message

from jit_service.domain.audit.refusal import About
from jit_service.domain.conditions import context as contexts
from jit_service.domain.errors import InvalidField
from jit_service.rpc.well_known_types import duration_of, json_object_of


def about(request: Message) -> About:
    """Returns the subject, resources and so on, as far as the request names them and they are sound."""
    named = str(getattr(request, "name", ""))
    policy = getattr(request, "policy", "")
    policy_name = str(getattr(policy, "name", policy))
    return About(
        subject=getattr(request, "subject", ""),
        resources=tuple(getattr(request, "resources", ())) or _as_tuple(request, "resource"),
        actions=tuple(getattr(request, "actions", ())) or _as_tuple(request, "action"),
        grant=named if named.startswith("grants/") else "",
        policy=named if named.startswith("policies/") else policy_name,
        duration=_duration(request),
        context=_context(request),
    )


def _as_tuple(request: Message, field: str) -> tuple[str, ...]:
    value = str(getattr(request, field, ""))
    return (value,) if value else ()


def _duration(request: Any) -> timedelta | None:
    try:
        return duration_of(request.duration, "duration") if _has(request, "duration") else None
    except InvalidField:
        return None


def _context(request: Any) -> dict[str, Any]:
    """Returns the asserted context; an empty one where no call may assert it."""
    try:
        return contexts.demand_bounds(json_object_of(request.context, "context")) if _has(request, "context") else {}
    except InvalidField:
        return {}


def _has(message: Message, field: str) -> bool:
    return field in message.DESCRIPTOR.fields_by_name and message.HasField(field)
