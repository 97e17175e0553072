"""Requests for more time: what one asks for, and what a grant becomes when it is given."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from jit_service.domain.caller import Caller
from jit_service.domain.errors import (
    ExtensionCap,
    NotYours,
    WrongState,
)
from jit_service.domain.frozen import replace
from jit_service.domain.grants.claims import claims_to_keep
from jit_service.domain.grants.grant import (
    Extension,
    ExtensionState,
    Grant,
    GrantState,
    Justification,
    Limits,
    demand_state,
    with_expiry,
)
from jit_service.domain.grants.request import check_span, limits_under, normalize_justification, sure
from jit_service.domain.policies.policy import Policy


@dataclass(frozen=True, kw_only=True)
class MoreTime:
    """How much longer, and why."""

    duration: timedelta
    justification: Justification = Justification()


def normalize_more(more: MoreTime) -> MoreTime:
    """Returns what is asked for in canonical form, or raises InvalidField."""
    check_span(more.duration)
    return replace(more, justification=normalize_justification(more.justification))


def lengthen(grant: Grant, policy: Policy, *, now: datetime) -> Grant:
    """Returns the grant with the more time that was asked for, given now: under the policy's terms as they are.

    That is its check_condition, its limits and when it warns, though never more uses than before; limits that are other
    than before count from now. What conditions see of a subject that asked itself are the claims that it asked with.
    """
    extension = sure(grant.extension)
    limits = replace(limits_under(grant.limits.max_uses, policy), since=grant.limits.since)
    if limits != grant.limits:
        limits = replace(limits, since=now if replace(limits, since=None) != Limits() else None)
    asked_itself = extension.requester == grant.subject and grant.subject_groups is not None
    longer = replace(
        grant,
        policy_revision=policy.revision,
        duration=grant.duration + extension.duration,
        extension=replace(extension, decided=ExtensionState.APPROVED),
        extension_count=grant.extension_count + 1,
        check_condition=policy.check_condition,
        claims=extension.claims if asked_itself else grant.claims,
        limits=limits,
        warn_before=policy.warn_before,
    )
    return with_expiry(longer)


def with_extension(grant: Grant, more: MoreTime, *, policy: Policy, by: Caller, now: datetime) -> Grant:
    """Returns the grant with the request for more time, not yet judged. Raises NotYours, WrongState, ExtensionCap.

    It lapses with the grant, so that what is given follows without a gap; one that use keeps alive does not end sooner.
    """
    if not grant.is_of(by.person):
        raise NotYours(f"{grant.name} was asked for by {grant.requester}, not by {by.principal}", grant=grant.name)
    demand_state(grant, now, GrantState.SCHEDULED, GrantState.ACTIVE)
    if grant.extension_state(now) is ExtensionState.PENDING:
        raise WrongState(f"{grant.name} has a request for more time already; wait for it, or withdraw it")
    if grant.chain:
        raise ExtensionCap(f"{grant.name} was passed on, and ends with {grant.parent} at the latest", grant=grant.name)
    lapses_at = min(now + policy.request_ttl, sure(grant.latest_end))
    extension = Extension(
        round=grant.round + 1,
        requester=by.principal,
        requester_groups=by.groups,
        requester_account=by.account,
        claims=claims_to_keep(by, policy.conditions),
        source_address=by.origin.source_address,
        duration=more.duration,
        justification=more.justification,
        created_at=now,
        lapses_at=lapses_at,
        expires_at=lapses_at,
    )
    return replace(grant, extension=extension)
