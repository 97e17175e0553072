"""Judging a request: is it covered, eligible, not denied, and within the policy's bounds?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final

from jit_service.domain import condition, context, expression, name
from jit_service.domain.caller import Caller
from jit_service.domain.condition import Facts, Verdict
from jit_service.domain.errors import (
    ConditionError,
    ConditionNotMet,
    DeniedByPolicy,
    InvalidField,
    JitError,
    NotEligible,
    PolicyNoLongerAllows,
)
from jit_service.domain.grant import Grant, Justification
from jit_service.domain.pattern import action_covered, resource_covered
from jit_service.domain.policy import MAX_DURATION, Policy, checked_patterns, seconds
from jit_service.domain.signal import Signals

MAX_TICKET = 256
NO_SIGNALS: Final = Signals()
MAX_LEAD = timedelta(days=30)
"""How far ahead a start may be asked for."""


@dataclass(frozen=True, kw_only=True)
class Ask:
    """What is asked for, in canonical form. An empty policy takes the first that covers it; no duration the default."""

    subject: str
    resources: tuple[str, ...]
    actions: tuple[str, ...]
    policy: str = ""
    duration: timedelta | None = None
    start_at: datetime | None = None
    justification: Justification = Justification()
    labels: dict[str, str] = field(default_factory=dict)
    context: dict[str, Any] = field(default_factory=dict)


def checked(ask: Ask, *, now: datetime) -> Ask:
    """Returns the ask in canonical form, or raises InvalidField for what no policy could make right."""
    if ask.duration is not None and not timedelta() < ask.duration <= MAX_DURATION:
        fault = f"is {seconds(ask.duration)}; it must be above 0s and at most {seconds(MAX_DURATION)}"
        raise InvalidField("duration", fault)
    if ask.start_at is not None and not now <= ask.start_at <= now + MAX_LEAD:
        fault = f"is {ask.start_at.isoformat()}; it must be from now to {MAX_LEAD.days} days ahead"
        raise InvalidField("start_time", fault)
    return Ask(
        subject=name.principal(ask.subject, "subject"),
        resources=checked_patterns(ask.resources, "resources", name.resource_pattern),
        actions=checked_patterns(ask.actions, "actions", name.action_pattern),
        policy=name.policy_name(ask.policy, "policy") if ask.policy else "",
        duration=ask.duration,
        start_at=ask.start_at,
        justification=Justification(
            text=name.free_text(ask.justification.text, "justification.text"),
            ticket=name.free_text(ask.justification.ticket, "justification.ticket", MAX_TICKET),
        ),
        labels=name.labels(ask.labels),
        context=context.checked(ask.context),
    )


def judged(
    ask: Ask, *, policies: Iterable[Policy], by: Caller, grant_name: str, now: datetime, signals: Signals = NO_SIGNALS
) -> Grant:
    """Returns the grant that the request becomes under its policy, not yet recorded.

    Raises NotEligible, DeniedByPolicy, ConditionNotMet, ConditionError, InvalidField.
    """
    policies = tuple(policies)
    policy = _chosen(ask, policies, by)
    subject_groups = by.groups if ask.subject == by.principal else None
    _refuse_denied(ask, policies, subject_groups)
    duration = ask.duration or policy.default_duration or policy.max_duration
    _check_duration(duration, policy)
    _check_justification(ask.justification, policy)
    request_expires_at = now + policy.request_ttl
    grant = Grant(
        name=grant_name,
        requester=by.principal,
        requester_groups=by.groups,
        subject=ask.subject,
        policy=policy.name,
        policy_revision=policy.revision,
        steps=policy.steps,
        resources=ask.resources,
        actions=ask.actions,
        duration=duration,
        justification=ask.justification,
        created_at=now,
        request_expires_at=request_expires_at,
        labels=ask.labels,
        start_at=ask.start_at,
        context=ask.context,
        claims=dict(by.claims) if policy.has_conditions and subject_groups is not None else {},
        source_address=by.origin.source_address,
    )
    return _judged_by_conditions(grant, policy, signals=signals, now=now)


def judge_again(
    grant: Grant, *, policy: Policy, policies: Iterable[Policy], now: datetime, signals: Signals = NO_SIGNALS
) -> Grant:
    """Judges a pending request by the policies, signals and time as they are now.

    Returns the grant with the steps that are needed now. Raises PolicyNoLongerAllows with the reason.
    """
    ask = Ask(subject=grant.subject, resources=grant.resources, actions=grant.actions)
    try:
        if not policy.in_force or policy.deny:
            raise NotEligible(f"{policy.name} is no longer in force")
        if not policy.covers(grant.resources, grant.actions):
            raise NotEligible(f"{policy.name} no longer covers what is asked for")
        if not _may_ask(policy, grant.subject, grant.requester, grant.requester_groups):
            raise NotEligible(f"{policy.name} no longer lets {grant.requester} ask for {grant.subject}")
        _refuse_denied(ask, policies, grant.subject_groups)
        _check_duration(grant.duration, policy)
        _check_justification(grant.justification, policy)
        return _judged_by_conditions(grant, policy, signals=signals, now=now)
    except JitError as refusal:
        raise PolicyNoLongerAllows(
            f"{grant.name} can no longer pass: {refusal.message}", grant=grant.name, policy=policy.name
        ) from None


def _judged_by_conditions(grant: Grant, policy: Policy, *, signals: Signals, now: datetime) -> Grant:
    """Demands the request's condition, and finds the steps that are not needed."""
    facts = Facts(
        subject=grant.subject,
        principal=grant.requester,
        resources=grant.resources,
        actions=grant.actions,
        duration=grant.duration,
        now=now,
        signals=signals,
        groups=grant.subject_groups,
        claims=grant.claims if grant.subject_groups is not None else None,
        context=grant.context,
        source_address=grant.source_address,
    )
    if not _holds(policy.request_condition, facts, f"request_condition of {policy.name}"):
        raise ConditionNotMet(
            f"the request_condition of {policy.name} is not met: {policy.request_condition}", policy=policy.name
        )
    skipped = frozenset(
        index
        for index, step in enumerate(policy.steps)
        if not _holds(step.condition, facts, f"condition of step {index + 1} of {policy.name}")
    )
    return replace(grant, skipped=skipped, check_condition=policy.check_condition)


def _holds(text: str, facts: Facts, what: str) -> bool:
    judgement = condition.judge(text, facts)
    if judgement.verdict in (Verdict.ERROR, Verdict.STALE):
        raise ConditionError(f"the {what} cannot be judged: {judgement.message}")
    return judgement.verdict is Verdict.MET


def covered_by(ask: Ask, grant: Grant, *, policies: Iterable[Policy]) -> bool:
    """Says whether a live grant or pending request already gives, or would give, what is asked for.

    It must cover every resource and action, be for at least as long, be under the policy that is named if one is, and
    not be denied. Asking the same again is so answered with the same grant, until it is over.
    """
    if ask.policy and ask.policy != grant.policy:
        return False
    resources = all(resource_covered(resource, grant.resources) for resource in ask.resources)
    actions = all(action_covered(action, grant.actions) for action in ask.actions)
    if not (resources and actions and grant.duration >= (ask.duration or timedelta())):
        return False
    try:
        _refuse_denied(ask, policies, grant.subject_groups)
    except DeniedByPolicy:
        return False
    return True


def denies(policy: Policy, *, subject: str, groups: frozenset[str] | None, resource: str, action: str) -> bool:
    """Says whether a deny policy in force forbids this to the subject.

    Groups that nobody has proved (None) may be any, so a deny for any group then applies: fail closed.
    """
    if not (policy.deny and policy.in_force and policy.covers((resource,), (action,))):
        return False
    if groups is None:
        return bool(policy.eligible.groups) or subject in policy.eligible.principals
    return policy.eligible.has(subject, groups)


def requestable(
    policies: Iterable[Policy], *, subject: str, groups: frozenset[str] | None, resource: str, action: str
) -> list[str]:
    """Returns the names of the policies that the subject could ask under, best first; none where a deny forbids it.

    Groups that are not known (None) may be any, so a policy for any group is named then; asking decides.
    """
    policies = tuple(policies)
    known = groups or frozenset()
    if any(denies(policy, subject=subject, groups=known, resource=resource, action=action) for policy in policies):
        return []
    return [
        policy.name
        for policy in _by_preference(policies)
        if policy.covers((resource,), (action,))
        and (
            policy.eligible.has(subject, groups)
            if groups is not None
            else bool(policy.eligible.groups) or subject in policy.eligible.principals
        )
    ]


def _chosen(ask: Ask, policies: tuple[Policy, ...], by: Caller) -> Policy:
    asked = f"{', '.join(ask.actions)} on {', '.join(ask.resources)}"
    for policy in _by_preference(policies):
        if ask.policy and policy.name != ask.policy:
            continue
        if _may_ask(policy, ask.subject, by.principal, by.groups) and policy.covers(ask.resources, ask.actions):
            return policy
    if ask.policy:
        raise NotEligible(
            f"{ask.policy} does not let {by.principal} ask for {asked} for {ask.subject}", policy=ask.policy
        )
    raise NotEligible(f"no policy lets {by.principal} ask for {asked} for {ask.subject}")


def _by_preference(policies: Iterable[Policy]) -> list[Policy]:
    usable = (policy for policy in policies if policy.in_force and not policy.deny)
    return sorted(usable, key=lambda policy: (-policy.priority, policy.name))


def _may_ask(policy: Policy, subject: str, requester: str, groups: frozenset[str]) -> bool:
    """The requester must be eligible, and another subject by name: its groups are not proved by this call."""
    if not policy.eligible.has(requester, groups):
        return False
    return subject == requester or subject in policy.eligible.principals


def _refuse_denied(ask: Ask, policies: Iterable[Policy], groups: frozenset[str] | None) -> None:
    for policy in policies:
        for resource in ask.resources:
            for action in ask.actions:
                if denies(policy, subject=ask.subject, groups=groups, resource=resource, action=action):
                    raise DeniedByPolicy(
                        f"{policy.name} denies {ask.subject} {action} on {resource}", policy=policy.name
                    )


def _check_duration(duration: timedelta, policy: Policy) -> None:
    if not policy.min_duration <= duration <= policy.max_duration:
        allowed = f"{seconds(policy.min_duration)} to {seconds(policy.max_duration)}"
        raise InvalidField("duration", f"is {seconds(duration)}; {policy.name} allows {allowed}")


def _check_justification(given: Justification, policy: Policy) -> None:
    rule = policy.justification
    _check_said(given.text, "justification.text", required=rule.required, pattern=rule.pattern, by=policy.name)
    _check_said(
        given.ticket, "justification.ticket", required=rule.ticket_required, pattern=rule.ticket_pattern, by=policy.name
    )


def _check_said(text: str, field: str, *, required: bool, pattern: str, by: str) -> None:
    """A pattern binds whatever is said; whether something must be said is the rule's other half."""
    if not text.strip():
        if required:
            raise InvalidField(field, f"is required by {by}")
        return
    if pattern and not expression.matches(pattern, text):
        raise InvalidField(field, f"does not match {pattern}, which {by} asks for")
