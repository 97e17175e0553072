"""Grants that their holder passes on: a part of its own access, no wider in scope, time and uses."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from jit_service.domain.caller import Caller
from jit_service.domain.errors import (
    ChildNotAllowed,
    InvalidField,
    NotYours,
)
from jit_service.domain.frozen import replace
from jit_service.domain.grants.claims import claims_to_keep, demand_kept
from jit_service.domain.grants.grant import (
    Grant,
    GrantState,
    demand_state,
    start,
    with_expiry,
)
from jit_service.domain.grants.request import Ask, demand_not_denied, sure
from jit_service.domain.policies.policy import Policy, seconds
from jitaccess.naming.pattern import action_covered, resource_covered


def judge_child(
    ask: Ask, parent: Grant, *, policies: Iterable[Policy], by: Caller, grant_name: str, now: datetime
) -> Grant:
    """Returns the part of the caller's own active grant that it passes on, not yet recorded.

    No wider in scope, time and uses, at once, without approval, and as deep as the policy's current revision lets it.
    Raises NotYours, WrongState, ChildNotAllowed, DeniedByPolicy, InvalidField.
    """
    policies = tuple(policies)
    if by.principal != parent.subject:
        raise NotYours(f"{parent.name} is held by {parent.subject}, not by {by.principal}", grant=parent.name)
    demand_state(parent, now, GrantState.ACTIVE)
    policy = next((policy for policy in policies if policy.name == parent.policy), None)
    _check_child(ask, parent, policy)
    demand_not_denied(ask, policies, by)
    left = sure(parent.latest_end) - now
    if ask.duration is not None and ask.duration > left:
        raise InvalidField("duration", f"is {seconds(ask.duration)}; {parent.name} lasts {seconds(left)} more")
    child = Grant(
        name=grant_name,
        requester=by.principal,
        requester_groups=by.groups,
        requester_account=by.account,
        subject=ask.subject,
        policy=parent.policy,
        policy_revision=policy.revision if policy is not None else parent.policy_revision,
        steps=(),
        resources=ask.resources,
        actions=ask.actions,
        duration=ask.duration or left,
        justification=ask.justification,
        created_at=now,
        request_expires_at=now + parent.request_ttl,
        request_ttl=parent.request_ttl,
        limits=replace(parent.limits, activation_window=timedelta(), max_uses=_child_uses(ask, parent), since=None),
        chain=(*parent.chain, parent.name),
        labels=ask.labels,
        context=ask.context,
        claims=claims_to_keep(by, [parent.check_condition]) if ask.subject == by.principal else {},
        source_address=by.origin.source_address,
        check_condition=parent.check_condition,
    )
    demand_kept(child.subject_claims, [child.check_condition], parent.policy)
    return with_expiry(start(child, now), until=parent.expires_at)


def _check_child(ask: Ask, parent: Grant, policy: Policy | None) -> None:
    """What is passed on goes to services, such as agents, or to jobs of one's own, and is never wider."""
    if ask.policy not in ("", parent.policy):
        raise InvalidField("policy", f"is {ask.policy}; {parent.name} was given under {parent.policy}")
    if ask.start_at is not None or ask.break_glass:
        raise InvalidField(
            "parent", "does not go with start_time and break_glass: access is passed on as it is, at once"
        )
    depth = policy.max_child_depth if policy is not None and policy.in_force else 0
    if len(parent.chain) >= depth:
        raise ChildNotAllowed(
            f"{parent.name} may not be passed on: {parent.policy} allows {depth} below a grant of its own",
            grant=parent.name,
        )
    if ask.subject != parent.subject and not ask.subject.startswith("service:"):
        raise ChildNotAllowed(f"{parent.name} may be passed on to services only, not to {ask.subject}")
    for path, texts, covered in (
        ("resources", ask.resources, [resource_covered(text, parent.resources) for text in ask.resources]),
        ("actions", ask.actions, [action_covered(text, parent.actions) for text in ask.actions]),
    ):
        for index, within in enumerate(covered):
            if not within:
                raise InvalidField(f"{path}[{index}]", f"{texts[index]} is not within {parent.name}")


def _child_uses(ask: Ask, parent: Grant) -> int:
    if not parent.limits.max_uses:
        return ask.max_uses
    left = parent.limits.max_uses - parent.usage.count
    if max(1, ask.max_uses) > left:
        raise InvalidField("max_uses", f"is {ask.max_uses or 1}; {parent.name} has {left} left")
    return ask.max_uses or left
