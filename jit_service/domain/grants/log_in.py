"""Who may approve only with a log-in of some strength and freshness: the policy's `review_assurance`.

It is asked of whoever decides, by the token that the decision comes with, also where the right is another's. A denial
is always possible: a session that is too weak or too old must not keep a request alive.
"""

from __future__ import annotations

from datetime import datetime

from jit_service.domain.authentication import Authentication, authentication
from jit_service.domain.caller import Caller
from jit_service.domain.errors import ReviewAssuranceRequired
from jit_service.domain.grants.grant import Grant, Review, ReviewDecision
from jit_service.domain.policies.policy import Policy


def demand_assurance(grant: Grant, policy: Policy, *, by: Caller, now: datetime) -> None:
    """Raises ReviewAssuranceRequired unless the caller's token shows what the policy asks of whoever approves."""
    rule = policy.review_assurance
    if rule is None:
        return
    lacking = rule.lacking(authentication(by.claims, now=now))
    if lacking:
        raise ReviewAssuranceRequired(
            f"{policy.name} takes approvals only with a token of a stronger or newer log-in: {'; '.join(lacking)}",
            grant=grant.name,
            policy=policy.name,
            **rule.challenge,
        )


def kept_authentication(policy: Policy, by: Caller, *, now: datetime) -> Authentication | None:
    """Returns what a review keeps of the reviewer's log-in: nothing where the policy does not ask for it."""
    return None if policy.review_assurance is None else authentication(by.claims, now=now)


def is_assured(policy: Policy, review: Review) -> bool:
    """Returns whether an approval was made as the policy asks now. One from before the policy asked was not."""
    if policy.review_assurance is None or review.decision is not ReviewDecision.APPROVED:
        return True
    return policy.review_assurance.is_met(review.authentication)
