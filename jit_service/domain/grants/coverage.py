"""Whether a grant that is there already gives what is asked for."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from jit_service.domain.errors import (
    DeniedByPolicy,
)
from jit_service.domain.grants.grant import (
    Grant,
)
from jit_service.domain.grants.request import Ask, demand_undenied
from jit_service.domain.policies.policy import Policy
from jitaccess.naming.pattern import action_covered, resource_covered


def is_covered_by(ask: Ask, grant: Grant, *, policies: Iterable[Policy], now: datetime) -> bool:
    """Returns whether a live grant or pending request already gives, or would give, what is asked for.

    It must cover every resource and action, start no later than is asked for, be for at least as long, be under the
    policy that is named if one is, and not be denied. What is asked for from a later start must lie within it; else
    asking the same again is answered with the same grant, until it is over.
    """
    if (ask.policy and ask.policy != grant.policy) or (ask.parent and ask.parent != grant.parent):
        return False
    if grant.limits.max_uses and grant.limits.max_uses - grant.usage.count < max(1, ask.max_uses):
        return False
    resources = all(resource_covered(resource, grant.resources) for resource in ask.resources)
    actions = all(action_covered(action, grant.actions) for action in ask.actions)
    if not (resources and actions and _in_time(ask, grant, now)):
        return False
    try:
        demand_undenied(ask, policies, grant.subject_groups)
    except DeniedByPolicy:
        return False
    return True


def _in_time(ask: Ask, grant: Grant, now: datetime) -> bool:
    begins = grant.starts_at or max(now, grant.start_at or now)
    ends = begins + grant.duration
    if ask.start_at is None:
        return begins <= now < ends and (ask.duration or timedelta()) <= grant.duration
    return begins <= ask.start_at < ends and ask.start_at + (ask.duration or timedelta()) <= ends
