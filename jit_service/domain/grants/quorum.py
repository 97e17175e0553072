"""Which reviews count, how many a step still needs, and in which step a decision of somebody counts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from jit_service.domain.caller import Caller, Right
from jit_service.domain.errors import (
    AlreadyReviewed,
    NotApprover,
)
from jit_service.domain.grants.grant import (
    Grant,
    Review,
    ReviewDecision,
)
from jit_service.domain.grants.lock import NO_LOCKS, Locks
from jit_service.domain.grants.log_in import is_assured
from jit_service.domain.person import Person, count_distinct
from jit_service.domain.policies.policy import Policy, Step


@dataclass(frozen=True, kw_only=True)
class ReviewPlace:
    """Where a reviewer's decision counts: the step, from 0, and the right it is made by."""

    step: int
    right: Right
    escalated: bool


def approvals_missing(
    steps: Sequence[Step], reviews: Iterable[Review], skipped: frozenset[int] = frozenset()
) -> list[int]:
    """Returns for each step how many approvals it still needs; a skipped one needs none.

    An approval counts for the step it was given in, once a principal, and only while the step's approvers, as they are
    now, have whose right it was.
    """
    reviews = tuple(reviews)
    return [
        0 if index in skipped else max(0, step.approvals_needed - _count_approvals(step, index, reviews))
        for index, step in enumerate(steps)
    ]


def waiting_step(steps: Sequence[Step], missing: Sequence[int]) -> int:
    """Returns the index of the first step that needs approvals; where none does, of the last one."""
    # None missing: the policy needs fewer approvals than when the last one came. One more, in the last step, decides.
    return next((index for index, count in enumerate(missing) if count), len(steps) - 1)


def step_due_at(grant: Grant) -> datetime | None:
    """Returns when the step that is waited for escalates, or lapses; None where it has no timeout."""
    if grant.step_since is None or not any(step.timeout for step in grant.steps):
        return None
    timeout = grant.steps[current_step(grant)].timeout
    return grant.step_since + timeout if timeout else None


def find_place(
    grant: Grant, policy: Policy, rights: Sequence[Right], *, by: Caller, now: datetime, locks: Locks
) -> ReviewPlace:
    reviews = counting_reviews(grant, policy, locks)
    step = waiting_step(policy.steps, approvals_missing(policy.steps, reviews, grant.skipped))
    fitting = [
        place
        for place in (_place_of(right, step, grant, policy.steps[step], now) for right in rights)
        if place is not None
    ]
    if not fitting:
        raise NotApprover(
            f"{grant.name} waits for step {step + 1} of {policy.name}, whose approvers do not have {by.principal}",
            grant=grant.name,
        )
    for place in fitting:
        if not place.right.delegation or not has_reviewed(grant, place.right.person):
            return place
    holder = fitting[0].right.holder
    raise AlreadyReviewed(f"{grant.name} has already been reviewed for {holder}; one principal counts once")


def _place_of(right: Right, index: int, grant: Grant, step: Step, now: datetime) -> ReviewPlace | None:
    if step.has(right.holder, right.groups, escalated=False):
        return ReviewPlace(step=index, right=right, escalated=False)
    since = grant.step_since or grant.created_at
    late = bool(step.timeout) and now >= since + step.timeout
    if late and step.has(right.holder, right.groups, escalated=True):
        return ReviewPlace(step=index, right=right, escalated=True)
    return None


def has_reviewed(grant: Grant, *people: Person) -> bool:
    """Returns whether one of them has had a say in this round, by its own right or another's."""
    return any(review.uses_right_of(*people) for review in grant.round_reviews)


def _count_approvals(step: Step, index: int, reviews: Iterable[Review]) -> int:
    """Returns how many distinct principals have approved in the step, as its approvers are now."""
    return count_distinct(
        review.right_of
        for review in reviews
        if review.decision is ReviewDecision.APPROVED and review.step == index and still_counts(step, review)
    )


def still_counts(step: Step, review: Review, locks: Locks = NO_LOCKS) -> bool:
    """Returns whether it counts: what was true of the reviewer then does on, while the step asks the same of it."""
    is_fit = not step.judges_reviewer or review.condition == step.condition
    is_approvers = step.has(review.holder, review.groups, escalated=review.escalated)
    return is_fit and is_approvers and not _is_locked(review, locks)


def _is_locked(review: Review, locks: Locks) -> bool:
    """Returns whether a lock stands on the reviewer, on whose right it used, or on the token that it came with."""
    return bool(locks) and (
        locks.on(review.holder, review.groups) is not None
        or locks.on(review.reviewer, frozenset()) is not None
        or locks.on_account(review.account) is not None
        or locks.on_account(review.holder_account) is not None
        or locks.on_token(review.token_id) is not None
    )


def count_denials(grant: Grant, policy: Policy, step: int, locks: Locks) -> int:
    """Returns how many distinct approvers of the step, as they are now, have denied in it."""
    return count_distinct(
        review.right_of
        for review in counting_reviews(grant, policy, locks)
        if review.decision is ReviewDecision.DENIED and review.step == step and still_counts(policy.steps[step], review)
    )


def counting_reviews(grant: Grant, policy: Policy, locks: Locks) -> list[Review]:
    """Returns the reviews without those of the locked, and those that the policy as it is now forbids: of one's own
    request, in another's place, or approvals after a log-in that does not suffice."""
    own = (grant.asker, grant.held_by)
    return [
        review
        for review in grant.round_reviews
        if not _is_locked(review, locks)
        and (policy.allow_self_approval or not review.uses_right_of(*own))
        and not (review.delegation and policy.forbid_delegation)
        and is_assured(policy, review)
    ]


def current_step(grant: Grant) -> int:
    return waiting_step(grant.steps, approvals_missing(grant.steps, grant.round_reviews, grant.skipped))
