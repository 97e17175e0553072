"""Policies: who may request what, for how long, and who must approve."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import lru_cache, partial
from typing import Final, TypeVar

from jit_service.domain.conditions import condition
from jit_service.domain.errors import InvalidField
from jit_service.domain.language import name, regex
from jit_service.domain.language.faults import Faults
from jit_service.domain.policies.assurance import ReviewAssurance, normalize_assurance
from jitaccess.naming.pattern import action_covered, resource_covered

T = TypeVar("T")
MAX_DURATION: Final = timedelta(days=30)
DEFAULT_REQUEST_TTL: Final = timedelta(hours=24)
MAX_PATTERNS: Final = 100
MAX_STEPS: Final = 10
MAX_APPROVALS: Final = 20
MAX_ACTIVE: Final = 1000
MAX_DISPLAY_NAME: Final = 256
MAX_USES: Final = 1_000_000
MAX_EXTENSIONS: Final = 100
DEFAULT_UNREVIEWED: Final = 2
MAX_UNREVIEWED: Final = 20
MAX_CHILD_DEPTH: Final = 5
SHORTEST: Final = timedelta(seconds=1)
"""The shortest of the spans that end something by themselves."""


@dataclass(frozen=True, kw_only=True)
class PrincipalSet:
    """Principals by name and by group."""

    principals: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()

    def has(self, principal: str, groups: Iterable[str] | None) -> bool:
        """Returns whether the principal is named, itself or by one of its groups, since it permits: byte-exact.

        Groups that are not known (None) permit nothing.
        """
        return principal in self.principals or not set(self.groups).isdisjoint(groups or ())

    def forbids(self, principal: str, groups: Iterable[str] | None) -> bool:
        """Returns whether the principal is named, in any letter case, or may be in one of the groups, since it forbids.

        Groups that are not known (None) may be any.
        """
        if self.principals and name.canonical(principal) in _keys(self.principals):
            return True
        return bool(self.groups) if groups is None else not set(self.groups).isdisjoint(groups)


@dataclass(frozen=True, kw_only=True)
class JustificationRule:
    """What a request must say. Empty patterns ask for nothing."""

    required: bool = False
    pattern: str = ""
    ticket_required: bool = False
    ticket_pattern: str = ""


@dataclass(frozen=True, kw_only=True)
class CommentRule:
    """What reviewers must say. An empty pattern asks for nothing."""

    required_to_approve: bool = False
    required_to_deny: bool = False
    pattern: str = ""


@dataclass(frozen=True, kw_only=True)
class ExtensionRule:
    """How often a grant may be extended, and how long it may last from its start with all of that."""

    max_extensions: int
    max_total_duration: timedelta


@dataclass(frozen=True, kw_only=True)
class BreakGlassRule:
    """Who may take access at once in an emergency, for how long, and how soon that must have been reviewed.

    A subject with `most_unreviewed` uses that nobody has reviewed takes no more; `max_unreviewed` 0 is the default.
    """

    eligible: PrincipalSet
    max_duration: timedelta
    review_within: timedelta
    max_unreviewed: int = 0

    @property
    def most_unreviewed(self) -> int:
        """How many uses may wait for their review at once."""
        return self.max_unreviewed or DEFAULT_UNREVIEWED


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step of the review, where its condition holds: so many distinct approvers pass it, or end the request.

    A condition that reads `reviewer` says who of them may decide, and then the step is always needed.

    A step that takes longer than its timeout (zero: no bound) may be decided by `escalate_to` as well; where that is
    None the request lapses.
    """

    approvers: PrincipalSet
    approvals_needed: int = 1
    display_name: str = ""
    condition: str = ""
    denials_needed: int = 1
    timeout: timedelta = timedelta()
    escalate_to: PrincipalSet | None = None

    def has(self, principal: str, groups: Iterable[str] | None, *, escalated: bool) -> bool:
        """Returns whether the principal may decide the step, before or after it has escalated."""
        if self.approvers.has(principal, groups):
            return True
        return escalated and self.escalate_to is not None and self.escalate_to.has(principal, groups)

    @property
    def judges_reviewer(self) -> bool:
        """Whether its condition says who may decide it, rather than whether it is needed."""
        return condition.reads_reviewer(self.condition)

    @property
    def deciders(self) -> PrincipalSet:
        """All who may ever decide it."""
        more = self.escalate_to or PrincipalSet()
        return PrincipalSet(
            principals=self.approvers.principals + more.principals, groups=self.approvers.groups + more.groups
        )


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
    activation_window: timedelta = timedelta()
    max_uses: int = 0
    idle_timeout: timedelta = timedelta()
    extension: ExtensionRule | None = None
    break_glass: BreakGlassRule | None = None
    review_comment: CommentRule = CommentRule()
    max_child_depth: int = 0
    forbid_delegation: bool = False
    review_assurance: ReviewAssurance | None = None
    warn_before: timedelta = timedelta()

    @property
    def conditions(self) -> tuple[str, ...]:
        """Its conditions, empty ones too."""
        return (self.request_condition, self.check_condition, *(step.condition for step in self.steps))

    @property
    def has_request_conditions(self) -> bool:
        """Whether a request under it is judged by more than who asks for what."""
        return bool(self.request_condition) or any(step.condition for step in self.steps)

    @property
    def in_force(self) -> bool:
        """Whether anything is judged by it."""
        return not self.disabled and self.deleted_at is None

    def covers(self, resources: Iterable[str], actions: Iterable[str]) -> bool:
        """Returns whether every resource and every action, name or pattern, is within the policy's patterns."""
        return all(resource_covered(resource, self.resources) for resource in resources) and all(
            action_covered(action, self.actions) for action in actions
        )

    def has_reviewer(self, principal: str, groups: Iterable[str] | None) -> bool:
        """Returns whether the principal may approve one of the steps, be it after an escalation."""
        return any(step.has(principal, groups, escalated=True) for step in self.steps)

    def concerns(self, principal: str, groups: Iterable[str] | None) -> bool:
        """Returns whether the principal may ask or review under the policy, and so may read it."""
        in_emergency = self.break_glass is not None and self.break_glass.eligible.has(principal, groups)
        return in_emergency or self.eligible.has(principal, groups) or self.has_reviewer(principal, groups)


def normalize(policy: Policy, *, exact: tuple[str, ...] = (), claims: frozenset[str] | None = None) -> Policy:
    """Returns the policy in canonical form, or raises InvalidField with every fault.

    `exact` is as in `name.principal`. `claims` are those that its conditions may read of a requester; None: any.
    """
    faults = Faults()
    keep = faults.keep
    canonical = replace(
        policy,
        name=keep("", name.policy_name, policy.name, "name"),
        display_name=keep("", name.free_text, policy.display_name, "display_name", MAX_DISPLAY_NAME),
        eligible=keep(PrincipalSet(), _normalize_set, policy.eligible, "eligible", exact),
        resources=keep((), normalize_patterns, policy.resources, "resources", name.resource_pattern),
        actions=keep((), normalize_patterns, policy.actions, "actions", name.action_pattern),
        justification=keep(policy.justification, _validate_justification, policy.justification),
        steps=keep((), _normalize_steps, policy.steps, exact),
        labels=keep({}, name.labels, policy.labels),
        request_condition=keep("", condition.validate, policy.request_condition, "request_condition"),
        check_condition=keep("", condition.validate, policy.check_condition, "check_condition"),
        break_glass=keep(None, _normalize_break_glass, policy.break_glass, exact),
        review_comment=keep(policy.review_comment, _validate_comment, policy.review_comment),
        review_assurance=keep(None, normalize_assurance, policy.review_assurance),
    )
    canonical = keep(canonical, _normalize_deny if policy.deny else _validate_times, canonical)
    faults.demand_none()
    if claims is not None:
        _demand_stored(canonical, claims)
    return canonical


def _demand_stored(policy: Policy, claims: frozenset[str]) -> None:
    """Raises InvalidField for a condition that reads a claim of the requester which is not stored with its request."""
    faults = Faults()
    paths = (
        "request_condition",
        "check_condition",
        *(f"steps[{index}].condition" for index in range(len(policy.steps))),
    )
    for path, text in zip(paths, policy.conditions, strict=True):
        read = condition.claims_read(text)
        if read is None:
            faults.add(InvalidField(path, "may read any claim, and JIT_STORED_CLAIMS lets only some be stored"))
        elif missing := sorted(read - claims):
            what = f"reads claims.{missing[0]}, which this service does not store"
            faults.add(InvalidField(path, f"{what}; JIT_STORED_CLAIMS says which it does"))
    faults.demand_none()


def seconds(span: timedelta) -> str:
    """Returns the span as proto3 JSON writes it: `3600s`, `0.5s`."""
    return f"{span.total_seconds():f}".rstrip("0").rstrip(".") + "s"


def normalize_patterns(given: Sequence[str], field: str, check: Callable[[str, str], str]) -> tuple[str, ...]:
    """Returns the patterns in canonical form, each once, in their order, or raises InvalidField."""
    _check_count(given, field, at_least=1, at_most=MAX_PATTERNS)
    return tuple(dict.fromkeys(_each(given, field, check)))


def _each(given: Sequence[T], field: str, check: Callable[[T, str], T]) -> tuple[T, ...]:
    """Returns all entries as `check` returns them. Raises InvalidField with every fault."""
    faults = Faults()
    checked = [faults.keep(entry, check, entry, f"{field}[{index}]") for index, entry in enumerate(given)]
    faults.demand_none()
    return tuple(checked)


@lru_cache(maxsize=4096)
def _keys(principals: tuple[str, ...]) -> frozenset[str]:
    return frozenset(map(name.canonical, principals))


def _normalize_set(given: PrincipalSet, field: str, exact: tuple[str, ...]) -> PrincipalSet:
    if not given.principals and not given.groups:
        raise InvalidField(field, "names nobody; give principals or groups")
    _check_count(given.principals, f"{field}.principals", at_most=MAX_PATTERNS)
    _check_count(given.groups, f"{field}.groups", at_most=MAX_PATTERNS)
    faults = Faults()
    principal = partial(name.principal, exact=exact)
    principals = faults.keep(given.principals, _each, given.principals, f"{field}.principals", principal)
    groups = faults.keep(given.groups, _each, given.groups, f"{field}.groups", name.group)
    faults.demand_none()
    return PrincipalSet(principals=principals, groups=groups)


def _validate_justification(rule: JustificationRule) -> JustificationRule:
    faults = Faults()
    faults.keep(None, regex.validate, rule.pattern, "justification.pattern")
    faults.keep(None, regex.validate, rule.ticket_pattern, "justification.ticket_pattern")
    faults.demand_none()
    return rule


def _validate_comment(rule: CommentRule) -> CommentRule:
    regex.validate(rule.pattern, "review_comment.pattern")
    return rule


def _normalize_break_glass(rule: BreakGlassRule | None, exact: tuple[str, ...]) -> BreakGlassRule | None:
    if rule is None:
        return None
    faults = Faults()
    keep = faults.keep
    keep(None, _check_between, rule.max_duration, "break_glass.max_duration", timedelta(microseconds=1), MAX_DURATION)
    keep(None, _check_between, rule.review_within, "break_glass.review_within", SHORTEST, MAX_DURATION)
    if not 0 <= rule.max_unreviewed <= MAX_UNREVIEWED:
        fault = f"is {rule.max_unreviewed}; 0 to {MAX_UNREVIEWED} are allowed, and 0 is {DEFAULT_UNREVIEWED}"
        faults.add(InvalidField("break_glass.max_unreviewed", fault))
    eligible = keep(rule.eligible, _normalize_set, rule.eligible, "break_glass.eligible", exact)
    faults.demand_none()
    return replace(rule, eligible=eligible)


def _normalize_steps(steps: Sequence[Step], exact: tuple[str, ...]) -> tuple[Step, ...]:
    _check_count(steps, "steps", at_most=MAX_STEPS)
    return _each(steps, "steps", partial(_normalize_step, exact=exact))


def _normalize_step(step: Step, field: str, exact: tuple[str, ...]) -> Step:
    faults = Faults()
    keep = faults.keep
    approvers = keep(None, _normalize_set, step.approvers, f"{field}.approvers", exact)
    escalate_to = keep(None, _normalize_escalation, step, field, exact)
    if approvers is not None:
        keep(None, _check_numbers, step, field)
    normalized = replace(
        step,
        approvers=approvers or step.approvers,
        escalate_to=escalate_to,
        display_name=keep("", name.free_text, step.display_name, f"{field}.display_name", MAX_DISPLAY_NAME),
        condition=keep("", condition.validate_for_step, step.condition, f"{field}.condition"),
    )
    faults.demand_none()
    return normalized


def _check_numbers(step: Step, field: str) -> None:
    """Raises InvalidField for a number of approvals or denials that its deciders can never reach."""
    faults = Faults()
    distinct = len(set(map(name.canonical, step.deciders.principals)))
    for path, needed in (("approvals_needed", step.approvals_needed), ("denials_needed", step.denials_needed)):
        if not 1 <= needed <= MAX_APPROVALS:
            faults.add(InvalidField(f"{field}.{path}", f"is {needed}; 1 to {MAX_APPROVALS} are allowed"))
        elif not step.deciders.groups and distinct < needed:
            faults.add(InvalidField(f"{field}.{path}", f"is {needed}, and only {distinct} approvers are named"))
    faults.demand_none()


def _normalize_escalation(step: Step, field: str, exact: tuple[str, ...]) -> PrincipalSet | None:
    if step.timeout:
        _check_between(step.timeout, f"{field}.timeout", SHORTEST, MAX_DURATION)
    if step.escalate_to is None:
        return None
    if not step.timeout:
        raise InvalidField(f"{field}.timeout", "is required with escalate_to: it says when the step escalates")
    return _normalize_set(step.escalate_to, f"{field}.escalate_to", exact)


def _normalize_deny(policy: Policy) -> Policy:
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
        "activation_window": policy.activation_window,
        "max_uses": policy.max_uses,
        "idle_timeout": policy.idle_timeout,
        "extension": policy.extension,
        "break_glass": policy.break_glass,
        "max_child_depth": policy.max_child_depth,
        "forbid_delegation": policy.forbid_delegation,
        "review_assurance": policy.review_assurance,
        "warn_before": policy.warn_before,
    }
    given = [path for path, value in asked.items() if value]
    given += ["justification"] if policy.justification != JustificationRule() else []
    given += ["review_comment"] if policy.review_comment != CommentRule() else []
    faults = Faults()
    for path in given:
        faults.add(InvalidField(path, "must be empty in a deny policy, which nobody asks under"))
    faults.demand_none()
    return replace(policy, request_ttl=DEFAULT_REQUEST_TTL)


def _validate_times(policy: Policy) -> Policy:
    faults = Faults()
    keep = faults.keep
    keep(None, _check_between, policy.max_duration, "max_duration", timedelta(microseconds=1), MAX_DURATION)
    if not faults:
        # The others are bounded by it.
        keep(None, _check_between, policy.min_duration, "min_duration", timedelta(), policy.max_duration)
        if policy.default_duration:
            keep(
                None,
                _check_between,
                policy.default_duration,
                "default_duration",
                policy.min_duration,
                policy.max_duration,
            )
        keep(None, _check_extension, policy)
        if policy.warn_before:
            keep(None, _check_between, policy.warn_before, "warn_before", SHORTEST, policy.max_duration)
    for path, count, most in (
        ("max_active_per_subject", policy.max_active_per_subject, MAX_ACTIVE),
        ("max_uses", policy.max_uses, MAX_USES),
        ("max_child_depth", policy.max_child_depth, MAX_CHILD_DEPTH),
    ):
        if not 0 <= count <= most:
            faults.add(InvalidField(path, f"is {count}; 0 to {most} are allowed"))
    for path, span in (("activation_window", policy.activation_window), ("idle_timeout", policy.idle_timeout)):
        if span:
            keep(None, _check_between, span, path, SHORTEST, MAX_DURATION)
    request_ttl = policy.request_ttl or DEFAULT_REQUEST_TTL
    keep(None, _check_between, request_ttl, "request_ttl", SHORTEST, MAX_DURATION)
    faults.demand_none()
    return replace(policy, request_ttl=request_ttl)


def _check_extension(policy: Policy) -> None:
    rule = policy.extension
    if rule is None:
        return
    if not 1 <= rule.max_extensions <= MAX_EXTENSIONS:
        raise InvalidField("extension.max_extensions", f"is {rule.max_extensions}; 1 to {MAX_EXTENSIONS} are allowed")
    _check_between(rule.max_total_duration, "extension.max_total_duration", policy.max_duration, MAX_DURATION)


def _check_between(value: timedelta, field: str, shortest: timedelta, longest: timedelta) -> None:
    if not shortest <= value <= longest:
        raise InvalidField(field, f"is {seconds(value)}; {seconds(shortest)} to {seconds(longest)} is allowed")


def _check_count(given: Sequence[object], field: str, *, at_most: int, at_least: int = 0) -> None:
    if len(given) < at_least:
        raise InvalidField(field, f"is required; give 1 to {at_most}")
    if len(given) > at_most:
        raise InvalidField(field, f"has {len(given)} entries; at most {at_most} are allowed")
