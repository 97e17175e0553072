"""Grants: one aggregate from the request to its end.

A grant is its facts. `state(now)` derives the state from them, so that nothing needs to run for access to end. A
transition is judged here, takes `now`, and returns the new grant with the event that records it, or raises the fact
for which it is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from jit_service.domain import name
from jit_service.domain.caller import Caller, Role
from jit_service.domain.errors import (
    AlreadyReviewed,
    InvalidField,
    NotApprover,
    NotYours,
    SelfApproval,
    WrongState,
)
from jit_service.domain.event import SERVICE, Event, EventType
from jit_service.domain.policy import Policy, Step


class GrantState(StrEnum):
    """The states of contract.md; the last six are final."""

    PENDING = "PENDING"
    SCHEDULED = "SCHEDULED"
    ACTIVE = "ACTIVE"
    EXPIRED = "EXPIRED"
    REVOKED = "REVOKED"
    RELEASED = "RELEASED"
    DENIED = "DENIED"
    WITHDRAWN = "WITHDRAWN"
    LAPSED = "LAPSED"


class ReviewDecision(StrEnum):
    """What a reviewer decided."""

    APPROVED = "APPROVED"
    DENIED = "DENIED"


@dataclass(frozen=True, kw_only=True)
class Justification:
    """The requester's why."""

    text: str = ""
    ticket: str = ""


@dataclass(frozen=True, kw_only=True)
class Review:
    """One reviewer's decision. `groups` are those its token gave then; `step` counts from 0."""

    reviewer: str
    groups: frozenset[str]
    decision: ReviewDecision
    step: int
    comment: str
    at: datetime


@dataclass(frozen=True, kw_only=True)
class End:
    """How somebody ended the grant: `state` is DENIED, WITHDRAWN, REVOKED or RELEASED."""

    state: GrantState
    at: datetime
    by: str
    comment: str


@dataclass(frozen=True, kw_only=True)
class Grant:
    """The facts of a grant.

    `requester_groups` are those that the requester's token gave at the request; they are the subject's only where it
    asked for itself, and so are `claims`, kept only where conditions may read them. `skipped` are the steps, from 0,
    whose condition did not hold when it was last judged. `start_at` is the start that was asked for. The access runs
    over [starts_at, expires_at), which are None until it is approved. `revision` is the store's commit counter at the
    last change, 0 before it is stored.
    """

    name: str
    requester: str
    requester_groups: frozenset[str]
    subject: str
    policy: str
    policy_revision: int
    steps: tuple[Step, ...]
    resources: tuple[str, ...]
    actions: tuple[str, ...]
    duration: timedelta
    justification: Justification
    created_at: datetime
    request_expires_at: datetime
    labels: dict[str, str] = field(default_factory=dict)
    start_at: datetime | None = None
    approved_at: datetime | None = None
    starts_at: datetime | None = None
    expires_at: datetime | None = None
    end: End | None = None
    reviews: tuple[Review, ...] = ()
    revision: int = 0
    skipped: frozenset[int] = frozenset()
    context: dict[str, Any] = field(default_factory=dict)
    claims: dict[str, Any] = field(default_factory=dict)
    source_address: str = ""
    check_condition: str = ""

    def state(self, now: datetime) -> GrantState:
        """Returns the state at `now`. Intervals are half-open: over when now >= expires_at."""
        if self.end is not None:
            return self.end.state
        if self.starts_at is None or self.expires_at is None:
            return GrantState.PENDING if now < self.request_expires_at else GrantState.LAPSED
        if now < self.starts_at:
            return GrantState.SCHEDULED
        return GrantState.ACTIVE if now < self.expires_at else GrantState.EXPIRED

    @property
    def subject_groups(self) -> frozenset[str] | None:
        """The groups that the subject's own token gave; None where somebody else asked for it."""
        return self.requester_groups if self.subject == self.requester else None

    @property
    def held(self) -> timedelta | None:
        """How long it was usable before somebody ended it; None where it never was, or nobody did."""
        if self.end is None or self.starts_at is None or self.end.at <= self.starts_at:
            return None
        return self.end.at - self.starts_at

    def is_of(self, principal: str) -> bool:
        """Says whether the principal asked for it or holds it. Byte-exact, since it permits."""
        return principal in (self.requester, self.subject)

    def is_own_review(self, principal: str) -> bool:
        """Says whether the principal would review its own request or access; in any letter case, since it forbids."""
        return name.canonical(principal) in (name.canonical(self.requester), name.canonical(self.subject))


def approvals_missing(
    steps: Sequence[Step], reviews: Iterable[Review], skipped: frozenset[int] = frozenset()
) -> list[int]:
    """Returns for each step how many approvals it still needs; a skipped one needs none.

    An approval counts for the step it was given in, once a principal, and only while the step's approvers, as they are
    now, have the reviewer.
    """
    counted: list[set[str]] = [set() for _ in steps]
    for review in reviews:
        if review.decision is not ReviewDecision.APPROVED or review.step >= len(steps):
            continue
        if steps[review.step].approvers.has(review.reviewer, review.groups):
            counted[review.step].add(name.canonical(review.reviewer))
    return [
        0 if index in skipped else max(0, step.approvals_needed - len(by))
        for index, (step, by) in enumerate(zip(steps, counted, strict=True))
    ]


def requested(grant: Grant, *, by: Caller, now: datetime) -> tuple[Grant, Event]:
    """Starts the grant's life. Where no step is needed it is approved at once. The policy has already been judged."""
    needed = any(approvals_missing(grant.steps, (), grant.skipped))
    first = grant if needed else _started(grant, now)
    message = f"[{grant.justification.ticket}] {grant.justification.text}".removeprefix("[] ")
    return first, _event(EventType.GRANT_REQUESTED, first, by=by, now=now, message=message)


def approve(grant: Grant, *, policy: Policy, by: Caller, comment: str, now: datetime) -> tuple[Grant, Event]:
    """Counts an approval for the current step; the last one needed starts the access.

    `policy` is the current revision. Raises SelfApproval, NotApprover, WrongState, AlreadyReviewed.
    """
    step = _reviewed_step(grant, policy=policy, by=by, now=now)
    reviewed = _with_review(grant, policy, ReviewDecision.APPROVED, step=step, by=by, comment=comment, now=now)
    if not any(approvals_missing(policy.steps, _counting(reviewed, policy), reviewed.skipped)):
        reviewed = _started(reviewed, now)
    return reviewed, _event(EventType.GRANT_APPROVED, reviewed, by=by, now=now, message=comment)


def deny(grant: Grant, *, policy: Policy, by: Caller, comment: str, now: datetime) -> tuple[Grant, Event]:
    """Counts a denial for the current step; the last one needed ends the request.

    Raises SelfApproval, NotApprover, WrongState, AlreadyReviewed.
    """
    step = _reviewed_step(grant, policy=policy, by=by, now=now)
    denied = _with_review(grant, policy, ReviewDecision.DENIED, step=step, by=by, comment=comment, now=now)
    if _denials(denied, policy, step) >= policy.steps[step].denials_needed:
        denied = _ended(denied, GrantState.DENIED, by=by, comment=comment, now=now)
    return denied, _event(EventType.GRANT_DENIED, denied, by=by, now=now, message=comment)


def withdraw(grant: Grant, *, by: Caller, comment: str, now: datetime) -> tuple[Grant, Event]:
    """Takes a pending request back. Raises NotYours, WrongState."""
    if not grant.is_of(by.principal):
        raise NotYours(f"{grant.name} was asked for by {grant.requester}, not by {by.principal}", grant=grant.name)
    _demand_state(grant, now, GrantState.PENDING)
    withdrawn = _ended(grant, GrantState.WITHDRAWN, by=by, comment=comment, now=now)
    return withdrawn, _event(EventType.GRANT_WITHDRAWN, withdrawn, by=by, now=now, message=comment)


def release(grant: Grant, *, by: Caller, comment: str, now: datetime) -> tuple[Grant, Event]:
    """Gives the access back before its time. Raises NotYours, WrongState."""
    if by.principal != grant.subject:
        raise NotYours(f"{grant.name} is held by {grant.subject}, not by {by.principal}", grant=grant.name)
    _demand_state(grant, now, GrantState.SCHEDULED, GrantState.ACTIVE)
    released = _ended(grant, GrantState.RELEASED, by=by, comment=comment, now=now)
    return released, _event(EventType.GRANT_RELEASED, released, by=by, now=now, message=comment)


def revoke(grant: Grant, *, policy: Policy | None, by: Caller, comment: str, now: datetime) -> tuple[Grant, Event]:
    """Ends the access at once.

    Reviewers, the requester, the holder and admins may. Raises NotApprover, WrongState, InvalidField for no comment.
    """
    if not (by.has(Role.ADMIN) or grant.is_of(by.principal) or reviewers_have(grant, policy, by)):
        raise NotApprover(f"{by.principal} is not an approver of {grant.policy}, nor an admin", grant=grant.name)
    if not comment.strip():
        raise InvalidField("comment", "is required: say why the access ends")
    _demand_state(grant, now, GrantState.SCHEDULED, GrantState.ACTIVE)
    revoked = _ended(grant, GrantState.REVOKED, by=by, comment=comment, now=now)
    return revoked, _event(EventType.GRANT_REVOKED, revoked, by=by, now=now, message=comment)


def reviewers_have(grant: Grant, policy: Policy | None, by: Caller) -> bool:
    """Says whether the caller is an approver of the grant's policy as it is now, or has reviewed the grant."""
    if any(review.reviewer == by.principal for review in grant.reviews):
        return True
    return policy is not None and policy.reviewers_have(by.principal, by.groups)


def visible(grant: Grant, policy: Policy | None, by: Caller) -> bool:
    """Says whether the caller may read the grant: its requester, subject and reviewers, auditors and admins."""
    if by.has(Role.AUDITOR, Role.ADMIN) or grant.is_of(by.principal):
        return True
    return reviewers_have(grant, policy, by)


def reviewable(grant: Grant, *, policy: Policy, by: Caller, now: datetime) -> bool:
    """Says whether the caller could approve the grant now."""
    try:
        _reviewed_step(grant, policy=policy, by=by, now=now)
    except (SelfApproval, NotApprover, WrongState, AlreadyReviewed):
        return False
    return True


def run_out(grant: Grant, *, now: datetime) -> Event:
    """Returns the event of a grant whose time ran out: EXPIRED or LAPSED. Raises WrongState for any other."""
    _demand_state(grant, now, GrantState.EXPIRED, GrantState.LAPSED)
    service = Caller(principal=SERVICE)
    if grant.expires_at is None or grant.starts_at is None:
        return _event(EventType.GRANT_LAPSED, grant, by=service, now=now, message="nobody decided in time")
    held = grant.expires_at - grant.starts_at
    return replace(
        _event(EventType.GRANT_EXPIRED, grant, by=service, now=now, message="its time ran out"),
        held=held,
    )


def _reviewed_step(grant: Grant, *, policy: Policy, by: Caller, now: datetime) -> int:
    """Returns the index of the step that the caller decides, or raises why it may not."""
    if grant.is_own_review(by.principal) and not policy.allow_self_approval:
        raise SelfApproval(f"{by.principal} asked for or would hold {grant.name}, so may not review it")
    if not policy.reviewers_have(by.principal, by.groups):
        raise NotApprover(f"{by.principal} is not an approver of {policy.name}", grant=grant.name)
    _demand_state(grant, now, GrantState.PENDING)
    if any(name.canonical(by.principal) == name.canonical(review.reviewer) for review in grant.reviews):
        raise AlreadyReviewed(f"{by.principal} has already reviewed {grant.name}; one principal counts once")
    missing = approvals_missing(policy.steps, _counting(grant, policy), grant.skipped)
    # None missing: the policy needs fewer approvals than when the last one came. One more, in the last step, decides.
    step = next((index for index, count in enumerate(missing) if count), len(missing) - 1)
    if not policy.steps[step].approvers.has(by.principal, by.groups):
        raise NotApprover(
            f"{grant.name} waits for step {step + 1} of {policy.name}, whose approvers do not have {by.principal}",
            grant=grant.name,
        )
    return step


def _denials(grant: Grant, policy: Policy, step: int) -> int:
    """Returns how many distinct approvers of the step, as they are now, have denied in it."""
    approvers = policy.steps[step].approvers
    return len(
        {
            name.canonical(review.reviewer)
            for review in _counting(grant, policy)
            if review.decision is ReviewDecision.DENIED
            and review.step == step
            and approvers.has(review.reviewer, review.groups)
        }
    )


def _counting(grant: Grant, policy: Policy) -> list[Review]:
    """Returns the reviews without those of one's own request, unless the policy as it is now allows self-approval."""
    return [
        review for review in grant.reviews if policy.allow_self_approval or not grant.is_own_review(review.reviewer)
    ]


def _with_review(
    grant: Grant, policy: Policy, decision: ReviewDecision, *, step: int, by: Caller, comment: str, now: datetime
) -> Grant:
    review = Review(reviewer=by.principal, groups=by.groups, decision=decision, step=step, comment=comment, at=now)
    return replace(grant, reviews=(*grant.reviews, review), steps=policy.steps, policy_revision=policy.revision)


def _started(grant: Grant, now: datetime) -> Grant:
    """The clock of the access starts at approval, or at the start that was asked for if that is later."""
    starts_at = max(now, grant.start_at or now)
    return replace(grant, approved_at=now, starts_at=starts_at, expires_at=starts_at + grant.duration)


def _ended(grant: Grant, state: GrantState, *, by: Caller, comment: str, now: datetime) -> Grant:
    return replace(grant, end=End(state=state, at=now, by=by.principal, comment=comment))


def _demand_state(grant: Grant, now: datetime, *needed: GrantState) -> None:
    state = grant.state(now)
    if state not in needed:
        raise WrongState(f"{grant.name} is {state}, not {' or '.join(needed)}", grant=grant.name, state=state)


def _event(type_: EventType, grant: Grant, *, by: Caller, now: datetime, message: str) -> Event:
    return Event(
        type=type_,
        at=now,
        principal=by.principal,
        origin=by.origin,
        subject=grant.subject,
        resources=grant.resources,
        actions=grant.actions,
        decision=grant.state(now),
        message=message,
        grant=grant.name,
        policy=grant.policy,
        policy_revision=grant.policy_revision,
        duration=grant.duration,
        held=grant.held,
    )
