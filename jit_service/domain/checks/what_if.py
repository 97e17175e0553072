"""What the policies would answer to a made-up or a recorded request or check. Nothing is changed or recorded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Final

from jit_service.domain.caller import Caller
from jit_service.domain.checks.decision import Decision, Question, decide
from jit_service.domain.checks.evidence import Evidence
from jit_service.domain.conditions.signal import Signals
from jit_service.domain.errors import (
    ConditionError,
    ConditionNotMet,
    DeniedByPolicy,
    InvalidField,
    JitError,
    NotEligible,
    Unsatisfiable,
)
from jit_service.domain.grants import approval, misfit, preview, request
from jit_service.domain.grants.grant import Grant
from jit_service.domain.grants.request import Ask
from jit_service.domain.policies.policy import Policy

REFUSALS: Final = tuple(
    fact.reason for fact in (NotEligible, DeniedByPolicy, ConditionNotMet, ConditionError, InvalidField, Unsatisfiable)
)
"""The reasons for which policies refuse a request; for the others it would be refused whatever they say."""


class Outcome(StrEnum):
    """What would become of a request."""

    ACTIVE = "ACTIVE"
    SCHEDULED = "SCHEDULED"
    PENDING = "PENDING"
    REFUSED = "REFUSED"


@dataclass(frozen=True, kw_only=True)
class RequestOutcome:
    """What would become of a request; `grant` is None where it is refused, for `reason`.

    `policy` decided: it was taken for the request, or denies it. `field` is the one that it is refused for, if any.
    """

    outcome: Outcome
    reason: str = ""
    message: str = ""
    policy: str = ""
    field: str = ""
    grant: Grant | None = None

    @property
    def steps(self) -> tuple[int, ...]:
        """Numbers, from 1, of the steps that would need approval."""
        if self.grant is None:
            return ()
        return tuple(index + 1 for index in range(len(self.grant.steps)) if index not in self.grant.skipped)


def judge_request(
    ask: Ask, *, policies: Iterable[Policy], by: Caller, now: datetime, signals: Signals
) -> RequestOutcome:
    """Returns what would become of a request in canonical form."""
    policies = tuple(policies)
    taken = ""
    try:
        request.demand_not_denied(ask, policies, by)
        policy = request.choose_policy(ask, policies, by)
        taken = policy.name
        grant = request.judge_request(ask, policies=policies, by=by, grant_name="", now=now, signals=signals)
        preview.demand_satisfiable(grant, policy)
    except JitError as refusal:
        denied_by = refusal.metadata["policy"] if isinstance(refusal, DeniedByPolicy) else ""
        return RequestOutcome(
            outcome=Outcome.REFUSED,
            reason=refusal.reason,
            message=refusal.message,
            policy=taken or denied_by,
            field=refusal.field if isinstance(refusal, InvalidField) else "",
        )
    first, _ = approval.open_request(grant, by=by, now=now)
    return RequestOutcome(outcome=Outcome(first.state(now)), grant=grant, policy=taken)


def regrant(grant: Grant, policies: Iterable[Policy]) -> Grant | None:
    """Returns a given grant as it would be had it been given under these policies; None where it would not have been.

    Conditions of the request are not judged again: what they read then is not all known any more.
    """
    policy = next((policy for policy in policies if policy.name == grant.policy), None)
    if policy is None:
        return None
    try:
        misfit.demand_given_under(grant, policy)
    except NotEligible:
        return None
    return replace(grant, check_condition=policy.check_condition)


def answer(question: Question, *, grants: Sequence[Grant], evidence: Evidence[Grant]) -> Decision:
    """Answers a check as if all grants had been given under the policies of the evidence."""
    policies = evidence.policies
    given = [found for grant in grants if (found := regrant(grant, policies)) is not None]
    above = {key: found for key, grant in evidence.above.items() if (found := regrant(grant, policies)) is not None}
    return decide(question, grants=given, evidence=evidence._replace(above=above))
