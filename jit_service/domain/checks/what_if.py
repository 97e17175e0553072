"""What the policies would answer to a made-up or a recorded request or check. Nothing is changed or recorded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Final

from jit_service.domain.caller import Caller
from jit_service.domain.checks.decision import Decision, Question, Reason, decide
from jit_service.domain.checks.evidence import Evidence
from jit_service.domain.conditions.signal import Signals
from jit_service.domain.errors import InvalidField, JitError, NotEligible, reasons
from jit_service.domain.grants import approval, misfit, preview, request
from jit_service.domain.grants.grant import Grant, start
from jit_service.domain.grants.request import Ask
from jit_service.domain.language import name
from jit_service.domain.policies.policy import Policy

MAX_CASES: Final = 1000
MAX_TITLE: Final = 256


class Outcome(StrEnum):
    """What would become of a request."""

    ACTIVE = "ACTIVE"
    SCHEDULED = "SCHEDULED"
    PENDING = "PENDING"
    REFUSED = "REFUSED"


@dataclass(frozen=True, kw_only=True)
class Expected:
    """The expected result of a case. None and empty: nothing is expected."""

    outcome: Outcome | None = None
    reason: str = ""
    steps: tuple[int, ...] = ()
    check: str = ""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One made-up request at `now`."""

    title: str
    by: Caller
    ask: Ask
    signals: Signals
    now: datetime
    expected: Expected


@dataclass(frozen=True, kw_only=True)
class RequestOutcome:
    """What would become of a request; `grant` is None where it is refused, for `reason`."""

    outcome: Outcome
    reason: str = ""
    message: str = ""
    grant: Grant | None = None

    @property
    def steps(self) -> tuple[int, ...]:
        """Numbers, from 1, of the steps that would need approval."""
        if self.grant is None:
            return ()
        return tuple(index + 1 for index in range(len(self.grant.steps)) if index not in self.grant.skipped)


@dataclass(frozen=True, kw_only=True)
class CaseResult:
    """The result of a case, and in words each expectation that it did not meet."""

    title: str
    judged: RequestOutcome
    check: str
    differences: tuple[str, ...]


def normalize(case: Case, *, exact: tuple[str, ...] = ()) -> Case:
    """Returns the case in canonical form, or raises InvalidField. `exact` is as in `name.principal`."""
    title = name.free_text(case.title, "display_name", MAX_TITLE)
    principal = name.principal(case.by.principal, "principal", exact=exact)
    groups = frozenset(name.group(text, "groups") for text in case.by.groups or ())
    expected = case.expected
    if expected.check and expected.check not in set(Reason):
        raise InvalidField("expect_check", f"{expected.check!a} is none of {', '.join(Reason)}")
    if expected.reason and expected.reason not in reasons():
        raise InvalidField("expect_reason", f"{expected.reason!a} is none of {', '.join(sorted(reasons()))}")
    ask = request.normalize(replace(case.ask, subject=case.ask.subject or principal), now=case.now, exact=exact)
    return replace(case, title=title, by=case.by._replace(principal=principal, groups=groups), ask=ask)


def run_case(case: Case, policy: Policy) -> CaseResult:
    """Judges the case by the policy alone."""
    judged = judge_request(case.ask, policies=(policy,), by=case.by, now=case.now, signals=case.signals)
    check = _check(case, judged.grant, policy) if judged.grant is not None else ""
    return CaseResult(
        title=case.title, judged=judged, check=check, differences=tuple(_differences(case.expected, judged, check))
    )


def judge_request(
    ask: Ask, *, policies: Iterable[Policy], by: Caller, now: datetime, signals: Signals
) -> RequestOutcome:
    """Returns what would become of a request in canonical form."""
    policies = tuple(policies)
    try:
        request.demand_not_denied(ask, policies, by)
        grant = request.judge_request(ask, policies=policies, by=by, grant_name="", now=now, signals=signals)
        policy = next(policy for policy in policies if policy.name == grant.policy)
        preview.demand_satisfiable(grant, policy)
    except JitError as refusal:
        return RequestOutcome(outcome=Outcome.REFUSED, reason=refusal.reason, message=refusal.message)
    first, _ = approval.open_request(grant, by=by, now=now)
    return RequestOutcome(outcome=Outcome(first.state(now)), grant=grant)


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


def _check(case: Case, grant: Grant, policy: Policy) -> str:
    """Returns what checks of what was asked for answer once it is approved; empty where a name is a pattern."""
    if any("*" in text for text in (*grant.resources, *grant.actions)):
        return ""
    given = start(replace(grant, start_at=None), case.now)
    decisions = [
        decide(
            Question(
                subject=grant.subject,
                action=action,
                resource=resource,
                groups=grant.subject_groups,
                principal=case.by.principal,
                context=grant.context,
                # What is known is where whoever asks is; another subject's address is whatever is told of it then.
                source_address=grant.source_address if grant.subject == case.by.principal else "",
            ),
            grants=(given,),
            evidence=Evidence((policy,), case.now, case.signals),
        )
        for resource in grant.resources
        for action in grant.actions
    ]
    refused = (decision.reason for decision in decisions if not decision.allowed)
    return next(refused, Reason.ALLOWED)


def _differences(expected: Expected, judged: RequestOutcome, check: str) -> Iterable[str]:
    why = f" ({judged.reason}: {judged.message})" if judged.reason else ""
    if expected.outcome and judged.outcome is not expected.outcome:
        yield f"expected {expected.outcome}, and it is {judged.outcome}{why}"
    if expected.reason and judged.reason != expected.reason:
        yield f"expected the reason {expected.reason}, and it is {judged.reason or 'not refused'}"
    if expected.steps and judged.steps != expected.steps:
        yield f"expected steps {_numbers(expected.steps)}, and they are {_numbers(judged.steps)}"
    if expected.check and check != expected.check:
        yield f"expected a check to answer {expected.check}, and it answers {check or 'nothing'}"


def _numbers(steps: Sequence[int]) -> str:
    return ", ".join(map(str, steps)) or "none"
