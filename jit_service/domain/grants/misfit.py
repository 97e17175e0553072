"""Grants that the policies as they are now would not give."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from jit_service.domain.errors import (
    InvalidField,
    JitError,
    NotEligible,
)
from jit_service.domain.grants.grant import (
    Grant,
)
from jit_service.domain.grants.request import Ask, demand_in_force_for, demand_undenied, may_ask, may_break_glass, sure
from jit_service.domain.policies.policy import Policy, seconds


def misfit(grant: Grant, *, policies: Mapping[str, Policy]) -> str:
    """Returns why a scheduled or live grant would not be given by the policies, by name; empty where it would be.

    Judged by what is on record of it: who asked, with which groups, for what, for how long. Not by conditions: they are
    about the time of its request. Nor by whose approvals it would need today.
    """
    policy = policies.get(grant.policy)
    try:
        if policy is None:
            raise NotEligible(f"{grant.policy} is gone")
        demand_given_under(grant, policy)
        _demand_span_given_under(grant, policy)
        ask = Ask(subject=grant.subject, resources=grant.resources, actions=grant.actions)
        demand_undenied(ask, policies.values(), grant.subject_groups)
    except JitError as refusal:
        return refusal.message
    return ""


def _demand_span_given_under(grant: Grant, policy: Policy) -> None:
    """What is passed on lasts no longer than what it came from; more time has a bound of its own."""
    if grant.chain:
        return
    least, most = policy.min_duration, policy.max_duration
    if grant.emergency is not None:
        least, most = timedelta(), sure(policy.break_glass).max_duration
    if grant.extension_count and policy.extension is not None:
        most = max(most, policy.extension.max_total_duration)
    if not least <= grant.duration <= most:
        allowed = f"{seconds(least)} to {seconds(most)}"
        raise InvalidField("duration", f"is {seconds(grant.duration)}; {policy.name} allows {allowed}")


def demand_given_under(grant: Grant, policy: Policy) -> None:
    """Raises NotEligible unless the policy is in force, covers the grant, and is for whoever asked for it."""
    demand_in_force_for(policy, grant)
    if grant.chain:
        allowed = len(grant.chain) <= policy.max_child_depth
    elif grant.emergency is not None:
        allowed = may_break_glass(policy, grant.subject, grant.requester, grant.requester_groups)
    else:
        allowed = may_ask(policy, grant.subject, grant.requester, grant.requester_groups)
    if not allowed:
        raise NotEligible(f"{policy.name} would not let {grant.requester} have {grant.name}")
