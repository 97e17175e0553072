"""Break-glass: what was taken in an emergency is reviewed afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from jit_service.domain.audit.event import SERVICE, Event, EventType, log_in_fields
from jit_service.domain.caller import Caller, Role
from jit_service.domain.errors import (
    AlreadyReviewed,
    InvalidField,
    NotApprover,
    ReviewOverdue,
    SelfApproval,
    TooManyUnreviewed,
    WrongState,
)
from jit_service.domain.grants.approval import rights_under
from jit_service.domain.grants.grant import Grant, UseReview, event
from jit_service.domain.grants.log_in import demand_assurance
from jit_service.domain.policies.policy import Policy


def complete_review(
    grant: Grant, *, policy: Policy | None, by: Caller, comment: str, now: datetime
) -> tuple[Grant, Event]:
    """Closes the review that a break-glass use owes, whatever became of the grant.

    Approvers of its policy and admins may; nobody reviews its own use, nor anybody in its place, whatever the policy
    says of self-approval. The log-in of whoever does must be as for an approval. Raises SelfApproval, NotApprover,
    InvalidField for no comment, WrongState, AlreadyReviewed, ReviewAssuranceRequired.
    """
    if grant.is_own_review(by.person):
        raise SelfApproval(f"{by.principal} took {grant.name}, so may not review its use")
    rights = rights_under(policy, by) if policy is not None else []
    if not (by.has(Role.ADMIN) or rights):
        raise NotApprover(f"{by.principal} is not an approver of {grant.policy}, nor an admin", grant=grant.name)
    if not by.has(Role.ADMIN) and all(grant.is_own_review(right.person) for right in rights):
        raise SelfApproval(f"{by.principal} could review {grant.name} only in place of whoever took it")
    if not comment.strip():
        raise InvalidField("comment", "is required: say what was found")
    if grant.emergency is None:
        raise WrongState(f"{grant.name} was not taken in an emergency, so it owes no review", grant=grant.name)
    if grant.emergency.review is not None:
        raise AlreadyReviewed(f"the use of {grant.name} was reviewed by {grant.emergency.review.reviewer}")
    if policy is not None:
        demand_assurance(grant, policy, by=by, now=now)
    review = UseReview(reviewer=by.principal, comment=comment, at=now)
    reviewed = replace(grant, emergency=replace(grant.emergency, review=review))
    completed = event(EventType.REVIEW_COMPLETED, reviewed, by=by, now=now, message=comment)
    # The record of the grant's end already says how long it was held.
    return reviewed, replace(completed, held=None, **log_in_fields(by, now=now))


def demand_no_debt(subject: str, owed: Sequence[Grant], *, most: int, now: datetime) -> None:
    """Raises ReviewOverdue, TooManyUnreviewed where the subject may take nothing more in an emergency.

    `owed` are its uses that nobody has reviewed, of which there may be fewer than `most`, and none overdue.
    """
    overdue = [grant.name for grant in owed if grant.emergency is not None and grant.emergency.review_due_at <= now]
    if overdue:
        raise ReviewOverdue(f"{subject} owes the review of {', '.join(overdue)}", subject=subject, grant=overdue[0])
    if len(owed) >= most:
        names = ", ".join(grant.name for grant in owed)
        raise TooManyUnreviewed(
            f"{len(owed)} uses of {subject} wait for their review, and at most {most} may: {names}",
            subject=subject,
            grant=owed[0].name,
        )


def review_overdue_event(grant: Grant, *, now: datetime) -> Event:
    """Returns the event of a break-glass use that nobody has reviewed in time. Raises WrongState for any other."""
    if grant.emergency is None or not grant.owes_review:
        raise WrongState(f"{grant.name} owes no review", grant=grant.name)
    due = grant.emergency.review_due_at
    if now < due:
        raise WrongState(f"{grant.name} owes its review only by {due.isoformat()}", grant=grant.name)
    message = f"nobody has reviewed it, which was due at {due.isoformat()}"
    overdue = event(EventType.REVIEW_OVERDUE, grant, by=Caller(principal=SERVICE), now=now, message=message)
    return replace(overdue, held=None)
