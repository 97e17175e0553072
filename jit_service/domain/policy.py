"""Policies: who may request what, for how long, and who must approve."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from jit_service.domain import condition, expression, name
from jit_service.domain.errors import InvalidField
from jit_service.domain.pattern import action_covered, resource_covered

MAX_DURATION: Final = timedelta(days=30)
DEFAULT_REQUEST_TTL: Final = timedelta(hours=24)
MIN_REQUEST_TTL: Final = timedelta(seconds=1)
MAX_PATTERNS: Final = 100
MAX_STEPS: Final = 10
MAX_APPROVALS: Final = 20
MAX_ACTIVE: Final = 1000
MAX_DISPLAY_NAME: Final = 256


@dataclass(frozen=True, kw_only=True)
class PrincipalSet:
    """Principals by name and by group."""

    principals: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()

    def has(self, principal: str, groups: Iterable[str]) -> bool:
        """Says whether the principal is named, itself or by one of its groups. Byte-exact."""
        return principal in self.principals or not set(self.groups).isdisjoint(groups)


@dataclass(frozen=True, kw_only=True)
class JustificationRule:
    """What a request must say. Empty patterns ask for nothing."""

    required: bool = False
    pattern: str = ""
    ticket_required: bool = False
    ticket_pattern: str = ""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step of the review, where its condition holds: so many distinct approvers pass it, or end the request."""

    approvers: PrincipalSet
    approvals_needed: int = 1
    display_name: str = ""
    condition: str = ""
    denials_needed: int = 1


@dataclass(frozen=True, kw_only=True)
class Policy:
    """One policy as stored.

    Durations of zero are not set: a request without one then gets `max_duration`. `revision` is the store's commit
    counter at the last change, 0 before it is stored.
    """

    name: str
    eligible: PrincipalSet
    resources: tuple[str, ...]
    actions: tuple[str, ...]
    display_name: str = ""
    min_duration: timedelta = timedelta()
    max_duration: timedelta = timedelta()
    default_duration: timedelta = timedelta()
    request_ttl: timedelta = DEFAULT_REQUEST_TTL
    justification: JustificationRule = JustificationRule()
    steps: tuple[Step, ...] = ()
    allow_self_approval: bool = False
    priority: int = 0
    disabled: bool = False
    deny: bool = False
    labels: dict[str, str] = field(default_factory=dict)
    revision: int = 0
    created_at: datetime | None = None
    updated_at: datetime | None = None
    deleted_at: datetime | None = None
    request_condition: str = ""
    check_condition: str = ""
    max_active_per_subject: int = 0

    @property
    def has_conditions(self) -> bool:
        """Whether anything of it depends on more than who asks for what."""
        conditions = (self.request_condition, self.check_condition, *(step.condition for step in self.steps))
        return any(conditions)

    @property
    def in_force(self) -> bool:
        """Whether anything is judged by it."""
        return not self.disabled and self.deleted_at is None

    def covers(self, resources: Iterable[str], actions: Iterable[str]) -> bool:
        """Says whether every resource and every action, name or pattern, is within the policy's patterns."""
        return all(resource_covered(resource, self.resources) for resource in resources) and all(
            action_covered(action, self.actions) for action in actions
        )

    def reviewers_have(self, principal: str, groups: Iterable[str]) -> bool:
        """Says whether the principal may approve one of the steps."""
        return any(step.approvers.has(principal, groups) for step in self.steps)

    def concerns(self, principal: str, groups: Iterable[str]) -> bool:
        """Says whether the principal may ask or review under the policy, and so may read it."""
        return self.eligible.has(principal, groups) or self.reviewers_have(principal, groups)


def checked(policy: Policy) -> Policy:
    """Returns the policy in canonical form, or raises InvalidField."""
    canonical = replace(
        policy,
        name=name.policy_name(policy.name, "name"),
        display_name=name.free_text(policy.display_name, "display_name", MAX_DISPLAY_NAME),
        eligible=_checked_set(policy.eligible, "eligible"),
        resources=checked_patterns(policy.resources, "resources", name.resource_pattern),
        actions=checked_patterns(policy.actions, "actions", name.action_pattern),
        justification=_checked_justification(policy.justification),
        steps=_checked_steps(policy.steps),
        labels=name.labels(policy.labels),
        request_condition=condition.checked(policy.request_condition, "request_condition"),
        check_condition=condition.checked(policy.check_condition, "check_condition"),
    )
    return _checked_deny(canonical) if policy.deny else _checked_times(canonical)


def seconds(span: timedelta) -> str:
    """Returns the span as proto3 JSON writes it: `3600s`, `0.5s`."""
    return f"{span.total_seconds():f}".rstrip("0").rstrip(".") + "s"


def checked_patterns(given: Sequence[str], field: str, check: Callable[[str, str], str]) -> tuple[str, ...]:
    """Returns the patterns in canonical form, each once, in their order, or raises InvalidField."""
    _check_count(given, field, at_least=1, at_most=MAX_PATTERNS)
    return tuple(dict.fromkeys(check(text, f"{field}[{index}]") for index, text in enumerate(given)))


def _checked_set(given: PrincipalSet, field: str) -> PrincipalSet:
    if not given.principals and not given.groups:
        raise InvalidField(field, "names nobody; give principals or groups")
    _check_count(given.principals, f"{field}.principals", at_most=MAX_PATTERNS)
    _check_count(given.groups, f"{field}.groups", at_most=MAX_PATTERNS)
    return PrincipalSet(
        principals=tuple(
            name.principal(text, f"{field}.principals[{index}]") for index, text in enumerate(given.principals)
        ),
        groups=tuple(name.group(text, f"{field}.groups[{index}]") for index, text in enumerate(given.groups)),
    )


def _checked_justification(rule: JustificationRule) -> JustificationRule:
    expression.checked(rule.pattern, "justification.pattern")
    expression.checked(rule.ticket_pattern, "justification.ticket_pattern")
    return rule


def _checked_steps(steps: Sequence[Step]) -> tuple[Step, ...]:
    _check_count(steps, "steps", at_most=MAX_STEPS)
    return tuple(_checked_step(step, f"steps[{index}]") for index, step in enumerate(steps))


def _checked_step(step: Step, field: str) -> Step:
    approvers = _checked_set(step.approvers, f"{field}.approvers")
    distinct = len(set(map(name.canonical, approvers.principals)))
    for path, needed in (("approvals_needed", step.approvals_needed), ("denials_needed", step.denials_needed)):
        if not 1 <= needed <= MAX_APPROVALS:
            raise InvalidField(f"{field}.{path}", f"is {needed}; 1 to {MAX_APPROVALS} are allowed")
        if not approvers.groups and distinct < needed:
            raise InvalidField(f"{field}.{path}", f"is {needed}, and only {distinct} approvers are named")
    return replace(
        step,
        approvers=approvers,
        display_name=name.free_text(step.display_name, f"{field}.display_name", MAX_DISPLAY_NAME),
        condition=condition.checked(step.condition, f"{field}.condition"),
    )


def _checked_deny(policy: Policy) -> Policy:
    """A deny policy forbids at once and for ever, so whatever is about asking must be empty."""
    asked = {
        "min_duration": policy.min_duration,
        "max_duration": policy.max_duration,
        "default_duration": policy.default_duration,
        "steps": policy.steps,
        "allow_self_approval": policy.allow_self_approval,
        "request_condition": policy.request_condition,
        "check_condition": policy.check_condition,
        "max_active_per_subject": policy.max_active_per_subject,
    }
    for path, value in asked.items():
        if value:
            raise InvalidField(path, "must be empty in a deny policy, which nobody asks under")
    if policy.justification != JustificationRule():
        raise InvalidField("justification", "must be empty in a deny policy, which nobody asks under")
    return replace(policy, request_ttl=DEFAULT_REQUEST_TTL)


def _checked_times(policy: Policy) -> Policy:
    _check_between(policy.max_duration, "max_duration", timedelta(microseconds=1), MAX_DURATION)
    _check_between(policy.min_duration, "min_duration", timedelta(), policy.max_duration)
    if policy.default_duration:
        _check_between(policy.default_duration, "default_duration", policy.min_duration, policy.max_duration)
    if not 0 <= policy.max_active_per_subject <= MAX_ACTIVE:
        raise InvalidField(
            "max_active_per_subject", f"is {policy.max_active_per_subject}; 0 to {MAX_ACTIVE} are allowed"
        )
    request_ttl = policy.request_ttl or DEFAULT_REQUEST_TTL
    _check_between(request_ttl, "request_ttl", MIN_REQUEST_TTL, MAX_DURATION)
    return replace(policy, request_ttl=request_ttl)


def _check_between(value: timedelta, field: str, shortest: timedelta, longest: timedelta) -> None:
    if not shortest <= value <= longest:
        raise InvalidField(field, f"is {seconds(value)}; {seconds(shortest)} to {seconds(longest)} is allowed")


def _check_count(given: Sequence[object], field: str, *, at_most: int, at_least: int = 0) -> None:
    if len(given) < at_least:
        raise InvalidField(field, f"is required; give 1 to {at_most}")
    if len(given) > at_most:
        raise InvalidField(field, f"has {len(given)} entries; at most {at_most} are allowed")
