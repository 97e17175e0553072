"""Judging a request: is it covered, eligible, not denied, and within the policy's bounds?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar

from jit_service.domain.caller import LEFT_OUT, Caller
from jit_service.domain.conditions import condition, context
from jit_service.domain.conditions.condition import Facts, Judgement, Verdict
from jit_service.domain.conditions.signal import NO_SIGNALS, Signals
from jit_service.domain.errors import (
    ConditionError,
    ConditionNotMet,
    DeniedByPolicy,
    ExtensionCap,
    InvalidField,
    JitError,
    NotEligible,
    PolicyNoLongerAllows,
)
from jit_service.domain.frozen import replace
from jit_service.domain.grants.claims import claims_to_keep, demand_kept
from jit_service.domain.grants.grant import (
    Emergency,
    Grant,
    Justification,
    Limits,
)
from jit_service.domain.grants.near_miss import describe_near_misses
from jit_service.domain.language import name, regex
from jit_service.domain.policies.policy import MAX_DURATION, MAX_USES, Policy, Step, normalize_patterns, seconds

Found = TypeVar("Found")
MAX_TICKET = 256
MAX_LEAD = timedelta(days=30)
"""How far ahead a start may be asked for."""


@dataclass(frozen=True, kw_only=True)
class Ask:
    """What is asked for, in canonical form. An empty policy takes the first that covers it; no duration the default.

    `max_uses` 0 are as many as the policy gives. With `break_glass` it is taken at once, in an emergency; with `parent`
    it is passed on from that grant.
    """

    subject: str
    resources: tuple[str, ...]
    actions: tuple[str, ...]
    policy: str = ""
    duration: timedelta | None = None
    start_at: datetime | None = None
    justification: Justification = Justification()
    labels: dict[str, str] = field(default_factory=dict)
    context: dict[str, Any] = field(default_factory=dict)
    max_uses: int = 0
    break_glass: bool = False
    parent: str = ""


def normalize(ask: Ask, *, now: datetime, exact: tuple[str, ...] = ()) -> Ask:
    """Returns the ask in canonical form, or raises InvalidField for what no policy could make right.

    `exact` is as in `name.principal`.
    """
    if ask.duration is not None:
        check_span(ask.duration)
    if not 0 <= ask.max_uses <= MAX_USES:
        raise InvalidField("max_uses", f"is {ask.max_uses}; 0 to {MAX_USES} are allowed")
    if ask.start_at is not None and not now <= ask.start_at <= now + MAX_LEAD:
        fault = f"is {ask.start_at.isoformat()}; it must be from now to {MAX_LEAD.days} days ahead"
        raise InvalidField("start_time", fault)
    return Ask(
        subject=name.principal(ask.subject, "subject", exact=exact),
        resources=normalize_patterns(ask.resources, "resources", name.resource_pattern),
        actions=normalize_patterns(ask.actions, "actions", name.action_pattern),
        policy=name.policy_name(ask.policy, "policy") if ask.policy else "",
        duration=ask.duration,
        start_at=ask.start_at,
        justification=normalize_justification(ask.justification),
        labels=name.labels(ask.labels),
        context=context.of_oneself(ask.context),
        max_uses=ask.max_uses,
        break_glass=ask.break_glass,
        parent=name.grant_name(ask.parent, "parent") if ask.parent else "",
    )


def check_span(duration: timedelta) -> None:
    if not timedelta() < duration <= MAX_DURATION:
        fault = f"is {seconds(duration)}; it must be above 0s and at most {seconds(MAX_DURATION)}"
        raise InvalidField("duration", fault)


def normalize_justification(given: Justification) -> Justification:
    return Justification(
        text=name.free_text(given.text, "justification.text"),
        ticket=name.free_text(given.ticket, "justification.ticket", MAX_TICKET),
    )


def judge_request(
    ask: Ask, *, policies: Iterable[Policy], by: Caller, grant_name: str, now: datetime, signals: Signals = NO_SIGNALS
) -> Grant:
    """Returns the grant that the request becomes under its policy, not yet recorded.

    Raises NotEligible, DeniedByPolicy, ConditionNotMet, ConditionError, InvalidField.
    """
    policies = tuple(policies)
    policy = choose_policy(ask, policies, by)
    demand_not_denied(ask, policies, by)
    _check_justification(ask.justification, policy)
    grant = Grant(
        name=grant_name,
        requester=by.principal,
        requester_groups=by.groups,
        requester_account=by.account,
        subject=ask.subject,
        policy=policy.name,
        policy_revision=policy.revision,
        steps=() if ask.break_glass else policy.steps,
        resources=ask.resources,
        actions=ask.actions,
        duration=_emergency_duration(ask, policy) if ask.break_glass else _duration(ask, policy),
        justification=ask.justification,
        created_at=now,
        request_expires_at=now + policy.request_ttl,
        request_ttl=policy.request_ttl,
        limits=limits_under(ask.max_uses, policy),
        emergency=_emergency(ask, policy, now),
        labels=ask.labels,
        start_at=ask.start_at,
        context=ask.context,
        claims=claims_to_keep(by, policy.conditions) if ask.subject == by.principal else {},
        source_address=by.origin.source_address,
    )
    return _judge_conditions(grant, policy, signals=signals, now=now)


def judge_extension(
    grant: Grant, *, policy: Policy, policies: Iterable[Policy], now: datetime, signals: Signals = NO_SIGNALS
) -> Grant:
    """Judges the grant's request for more time by the policies, signals and time as they are.

    Returns the grant with the steps that are needed; until more time is given it goes on as it was given. Raises
    ExtensionCap, NotEligible, DeniedByPolicy, ConditionNotMet, ConditionError, PolicyNoLongerAllows, InvalidField.
    """
    extension = sure(grant.extension)
    ask = Ask(subject=grant.subject, resources=grant.resources, actions=grant.actions)
    _check_cap(grant, policy, extension.duration)
    _demand_still_covered(policy, grant, extension.requester, extension.requester_groups)
    _demand_uses_left(grant, policy)
    demand_undenied(ask, policies, _extension_groups(grant))
    _check_justification(extension.justification, policy)
    facts = _facts_of_extension(grant, signals=signals, now=now)
    demand_kept(facts.claims, policy.conditions, policy.name)
    if extension.requester != grant.subject:
        # Then checks go on to read what was kept of the subject's own token.
        demand_kept(grant.subject_claims, [policy.check_condition], policy.name)
    return _with_steps_needed(replace(grant, steps=policy.steps), policy, facts)


def judge_again(
    grant: Grant, *, policy: Policy, policies: Iterable[Policy], now: datetime, signals: Signals = NO_SIGNALS
) -> Grant:
    """Judges a pending request, for access or for more time, by the policies, signals and time as they are now.

    Returns the grant with the steps that are needed now. Raises PolicyNoLongerAllows with the reason.
    """
    try:
        if grant.extension is not None:
            return judge_extension(grant, policy=policy, policies=policies, now=now, signals=signals)
        return _judge_request_again(grant, policy, policies=policies, signals=signals, now=now)
    except JitError as refusal:
        raise PolicyNoLongerAllows(
            f"{grant.name} can no longer pass: {refusal.message}", grant=grant.name, policy=policy.name
        ) from None


def refresh_steps(
    grant: Grant, *, policy: Policy, policies: Iterable[Policy], now: datetime, signals: Signals
) -> Grant:
    """Returns the request waiting for the steps that are needed now; as it was, where it could no longer pass."""
    if not grant.skipped and not any(step.condition for step in policy.steps):
        return grant
    try:
        judged = judge_again(grant, policy=policy, policies=policies, now=now, signals=signals)
    except PolicyNoLongerAllows:
        return grant
    return replace(grant, skipped=judged.skipped)


def _judge_request_again(
    grant: Grant, policy: Policy, *, policies: Iterable[Policy], signals: Signals, now: datetime
) -> Grant:
    ask = Ask(subject=grant.subject, resources=grant.resources, actions=grant.actions)
    _demand_still_covered(policy, grant, grant.requester, grant.requester_groups)
    demand_undenied(ask, policies, grant.subject_groups)
    check_duration(grant.duration, policy)
    _check_justification(grant.justification, policy)
    limited = replace(grant, steps=policy.steps, limits=limits_under(grant.limits.max_uses, policy))
    return _judge_conditions(limited, policy, signals=signals, now=now)


def _demand_still_covered(policy: Policy, grant: Grant, requester: str, groups: frozenset[str] | None) -> None:
    demand_in_force_for(policy, grant)
    if not may_ask(policy, grant.subject, requester, groups):
        raise NotEligible(f"{policy.name} no longer lets {requester} ask for {grant.subject}")


def demand_in_force_for(policy: Policy, grant: Grant) -> None:
    if not policy.in_force or policy.deny:
        raise NotEligible(f"{policy.name} is no longer in force")
    if not policy.covers(grant.resources, grant.actions):
        raise NotEligible(f"{policy.name} no longer covers what is asked for")


def _judge_conditions(grant: Grant, policy: Policy, *, signals: Signals, now: datetime) -> Grant:
    demand_kept(grant.subject_claims, policy.conditions, policy.name)
    judged = _with_steps_needed(grant, policy, _facts(grant, signals=signals, now=now))
    return replace(judged, check_condition=policy.check_condition, warn_before=policy.warn_before)


def _facts(grant: Grant, *, signals: Signals, now: datetime) -> Facts:
    return Facts(
        subject=grant.subject,
        principal=grant.requester,
        resources=grant.resources,
        actions=grant.actions,
        duration=grant.duration,
        now=now,
        signals=signals,
        groups=grant.subject_groups,
        claims=grant.subject_claims,
        context=grant.context,
        source_address=grant.source_address,
    )


def _facts_of_extension(grant: Grant, *, signals: Signals, now: datetime) -> Facts:
    extension = sure(grant.extension)
    return _facts(grant, signals=signals, now=now)._replace(
        principal=extension.requester,
        duration=extension.duration,
        groups=_extension_groups(grant),
        claims=extension.claims if extension.requester == grant.subject else None,
        source_address=extension.source_address,
    )


def judge_reviewer(step: Step, grant: Grant, *, by: Caller, now: datetime, signals: Signals) -> Judgement:
    """Returns what the step's condition, which says who may decide it, says of whoever would decide on the request.

    That is who acts, by its own claims and groups, also where the right to is another's.
    """
    facts_of = _facts if grant.extension is None else _facts_of_extension
    reviewer = {"principal": by.principal, "claims": dict(by.claims)}
    # Groups that the token leaves out are not there, and a missing key refuses.
    reviewer |= {} if by.groups is None else {"groups": sorted(by.groups)}
    return condition.judge(step.condition, facts_of(grant, signals=signals, now=now)._replace(reviewer=reviewer))


def _with_steps_needed(grant: Grant, policy: Policy, facts: Facts) -> Grant:
    """Demands the request's condition, and finds the steps that are not needed."""
    if not _is_met(policy.request_condition, facts, f"request_condition of {policy.name}"):
        raise ConditionNotMet(
            f"the request_condition of {policy.name} is not met: {policy.request_condition}", policy=policy.name
        )
    skipped = frozenset(
        index
        for index, step in enumerate(grant.steps)
        if not _is_needed(step, facts, f"condition of step {index + 1} of {policy.name}")
    )
    return replace(grant, skipped=skipped)


def _is_needed(step: Step, facts: Facts, what: str) -> bool:
    # One that says who may decide is for whoever would; nobody does yet, and it must not be skipped for that.
    return step.judges_reviewer or _is_met(step.condition, facts, what)


def _is_met(text: str, facts: Facts, what: str) -> bool:
    judgement = condition.judge(text, facts)
    if judgement.verdict in (Verdict.ERROR, Verdict.STALE):
        raise ConditionError(f"the {what} cannot be judged: {judgement.message}")
    return judgement.verdict is Verdict.MET


def check_duration(duration: timedelta, policy: Policy) -> None:
    """Raises InvalidField for a duration that the policy does not give."""
    if not policy.min_duration <= duration <= policy.max_duration:
        allowed = f"{seconds(policy.min_duration)} to {seconds(policy.max_duration)}"
        raise InvalidField("duration", f"is {seconds(duration)}; {policy.name} allows {allowed}")


def denies(policy: Policy, *, subject: str, groups: frozenset[str] | None, resource: str, action: str) -> bool:
    """Returns whether a deny policy in force forbids this to the subject.

    Groups that nobody has proved (None) may be any, so a deny for any group then applies: fail closed.
    """
    return is_denied_by(policy, subject=subject, groups=groups) and policy.covers((resource,), (action,))


def is_denied_by(policy: Policy, *, subject: str, groups: frozenset[str] | None) -> bool:
    """Returns whether it is a deny policy in force for the subject, whatever it covers; groups as in `denies`."""
    if not (policy.deny and policy.in_force):
        return False
    return policy.eligible.forbids(subject, groups)


def by_preference(policies: Iterable[Policy]) -> list[Policy]:
    """Returns the policies that can be asked under, the one that is tried first at first."""
    usable = (policy for policy in policies if policy.in_force and not policy.deny)
    return sorted(usable, key=lambda policy: (-policy.priority, policy.name))


def choose_policy(ask: Ask, policies: Iterable[Policy], by: Caller) -> Policy:
    """Returns the policy that is taken for the request: the one it names, or the first that covers it.

    Raises NotEligible where there is none; it tells what nearly covers the request of what the requester may ask under.
    """
    may = may_break_glass if ask.break_glass else may_ask
    open_to_it: list[Policy] = []
    for policy in by_preference(policies):
        if ask.policy and policy.name != ask.policy:
            continue
        if may(policy, ask.subject, by.principal, by.groups):
            if policy.covers(ask.resources, ask.actions):
                return policy
            open_to_it.append(policy)
    emergency = "in an emergency " if ask.break_glass else ""
    asked = f"{emergency}{name.listed(ask.actions)} on {name.listed(ask.resources)}"
    near = describe_near_misses(ask.resources, ask.actions, open_to_it)
    what = f"{by.principal} ask for {asked} for {ask.subject}{_since_left_out(by.groups)}{'; ' if near else ''}{near}"
    if ask.policy:
        raise NotEligible(f"{ask.policy} does not let {what}", policy=ask.policy)
    raise NotEligible(f"no policy lets {what}")


def _since_left_out(groups: frozenset[str] | None) -> str:
    return f"; {LEFT_OUT}" if groups is None else ""


def may_ask(policy: Policy, subject: str, requester: str, groups: frozenset[str] | None) -> bool:
    """The requester must be eligible, and another subject by name: its groups are not proved by this call."""
    if not policy.eligible.has(requester, groups):
        return False
    return subject == requester or subject in policy.eligible.principals


def may_break_glass(policy: Policy, subject: str, requester: str, groups: frozenset[str] | None) -> bool:
    """In an emergency one asks for oneself."""
    rule = policy.break_glass
    return rule is not None and subject == requester and rule.eligible.has(requester, groups)


def demand_not_denied(ask: Ask, policies: Iterable[Policy], by: Caller) -> None:
    """Raises DeniedByPolicy where a deny policy forbids any of what the caller asks for."""
    itself = ask.subject == by.principal
    demand_undenied(ask, policies, by.groups if itself else None, why=_since_left_out(by.groups) if itself else "")


def demand_undenied(ask: Ask, policies: Iterable[Policy], groups: frozenset[str] | None, *, why: str = "") -> None:
    for policy in policies:
        for resource in ask.resources:
            for action in ask.actions:
                if denies(policy, subject=ask.subject, groups=groups, resource=resource, action=action):
                    raise DeniedByPolicy(
                        f"{policy.name} denies {ask.subject} {action} on {resource}{why}", policy=policy.name
                    )


def _duration(ask: Ask, policy: Policy) -> timedelta:
    duration = ask.duration or policy.default_duration or policy.max_duration
    check_duration(duration, policy)
    return duration


def _emergency_duration(ask: Ask, policy: Policy) -> timedelta:
    longest = sure(policy.break_glass).max_duration
    duration = ask.duration or min(policy.default_duration or policy.max_duration, longest)
    if duration > longest:
        raise InvalidField(
            "duration", f"is {seconds(duration)}; {policy.name} allows {seconds(longest)} in emergencies"
        )
    return duration


def _emergency(ask: Ask, policy: Policy, now: datetime) -> Emergency | None:
    if not ask.break_glass:
        return None
    if not ask.justification.text.strip():
        raise InvalidField("justification.text", "is required with break_glass: say what the emergency is")
    if ask.start_at is not None:
        raise InvalidField("start_time", "does not go with break_glass, which takes access at once")
    return Emergency(review_due_at=now + sure(policy.break_glass).review_within)


def limits_under(max_uses: int, policy: Policy) -> Limits:
    """Returns the policy's limits, and fewer uses where fewer are asked for."""
    return Limits(
        max_uses=min(max_uses or policy.max_uses, policy.max_uses or max_uses),
        activation_window=policy.activation_window,
        idle_timeout=policy.idle_timeout,
    )


def _check_cap(grant: Grant, policy: Policy, more: timedelta) -> None:
    rule = policy.extension
    if rule is None:
        raise ExtensionCap(f"{policy.name} lets no grant be extended", grant=grant.name, policy=policy.name)
    if grant.extension_count >= rule.max_extensions:
        raise ExtensionCap(
            f"{grant.name} was extended {grant.extension_count} times; {policy.name} allows {rule.max_extensions}",
            grant=grant.name,
            policy=policy.name,
        )
    total = grant.duration + more
    if total > rule.max_total_duration:
        most = seconds(rule.max_total_duration)
        raise ExtensionCap(
            f"{grant.name} would last {seconds(total)} in all; {policy.name} allows {most}",
            grant=grant.name,
            policy=policy.name,
        )


def _demand_uses_left(grant: Grant, policy: Policy) -> None:
    """More time for what could not be used any more would be none."""
    most = limits_under(grant.limits.max_uses, policy).max_uses
    if most and grant.usage.count >= most:
        raise PolicyNoLongerAllows(
            f"{grant.name} was used {grant.usage.count} times; {policy.name} would let it be used {most} times in all",
            grant=grant.name,
            policy=policy.name,
        )


def _extension_groups(grant: Grant) -> frozenset[str] | None:
    extension = sure(grant.extension)
    return extension.requester_groups if extension.requester == grant.subject else None


def sure(fact: Found | None) -> Found:
    """A grant or policy in the state at hand has this; one that has not is broken, and must not decide anything."""
    if fact is None:
        raise AssertionError("a fact is missing that the state at hand has")
    return fact


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
    regex.demand_match(pattern, text, field=field, by=by)
