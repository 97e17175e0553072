"""Cases of policy tests: made-up requests, judged by a whole set of policies, against what is expected of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from jit_service.domain.caller import Caller
from jit_service.domain.checks.decision import Question, Reason, decide
from jit_service.domain.checks.evidence import Evidence
from jit_service.domain.checks.what_if import REFUSALS, Outcome, RequestOutcome, judge_request
from jit_service.domain.conditions.signal import Signals
from jit_service.domain.errors import InvalidField, NotEligible, PolicyNotFound
from jit_service.domain.grants import request
from jit_service.domain.grants.grant import Grant, start
from jit_service.domain.grants.request import Ask
from jit_service.domain.language import name
from jit_service.domain.language.faults import Faults
from jit_service.domain.policies import policy as policies
from jit_service.domain.policies.diff import PolicyDraft
from jit_service.domain.policies.policy import Policy

MAX_CASES: Final = 1000
MAX_TITLE: Final = 256
REFUSED_FIELDS: Final = ("duration", "justification.text", "justification.ticket")
"""The fields for which policies refuse a request."""
# As the fields of a case are called.
_FIELDS: Final = {"justification": "justification.text", "ticket": "justification.ticket"}


@dataclass(frozen=True, kw_only=True)
class Expected:
    """The expected result of a case. None and empty: nothing is expected, but see `run_case` on the policy."""

    outcome: Outcome | None = None
    reason: str = ""
    policy: str = ""
    field: str = ""
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
class CaseResult:
    """The result of a case, and in words each expectation that it did not meet."""

    title: str
    judged: RequestOutcome
    check: str
    differences: tuple[str, ...]


CaseAt = Callable[[datetime], Case]
"""Gives the case in canonical form, at the instant where it says none itself. Raises InvalidField."""


def normalize(case: Case, *, exact: tuple[str, ...] = ()) -> Case:
    """Returns the case in canonical form, or raises InvalidField. `exact` is as in `name.principal`."""
    faults = Faults()
    keep, by, ask = faults.keep, case.by, case.ask
    title = keep("", name.free_text, case.title, "display_name", MAX_TITLE)
    principal = keep("", name.principal, by.principal, "principal", exact=exact)
    groups = frozenset(keep("", name.group, text, "groups") for text in by.groups or ())
    expected = keep(case.expected, _normalize_expected, case.expected)
    if principal:
        ask = replace(ask, subject=ask.subject or principal)
        ask = keep(ask, request.normalize, ask, now=case.now, exact=exact)
    faults.demand_none()
    return replace(case, title=title, by=by._replace(principal=principal, groups=groups), ask=ask, expected=expected)


def draft_of(policy: Policy, tested: str, *, exact: tuple[str, ...] = ()) -> PolicyDraft:
    """Returns the draft of the tested policy in canonical form. Raises InvalidField, also for another's name."""
    draft = policies.normalize(policy, exact=exact)
    if draft.name != tested:
        raise InvalidField("name", f"says {draft.name}, and the call is about {tested}")
    return PolicyDraft(policy=draft)


def run_cases(given: Iterable[Policy], tested: str, cases: Sequence[CaseAt], *, now: datetime) -> list[CaseResult]:
    """Judges the cases of the `tested` policy by all that are given.

    Raises PolicyNotFound, InvalidField with every fault.
    """
    if not 1 <= len(cases) <= MAX_CASES:
        raise InvalidField("cases", f"has {len(cases)} cases; 1 to {MAX_CASES} are allowed")
    live = tuple(policy for policy in given if policy.deleted_at is None)
    if all(policy.name != tested for policy in live):
        raise PolicyNotFound(f"there is no {tested}", policy=tested)
    faults = Faults()
    ready = [faults.keep(None, case, now) for case in cases]
    faults.demand_none()
    return [run_case(case, live, tested=tested) for case in ready if case is not None]


def run_case(case: Case, given: Iterable[Policy], *, tested: str) -> CaseResult:
    """Judges the case by all policies, as a case of the `tested` one, which is among them.

    Where the case names no policy that shall decide, it must be the tested one that is taken, if any is: another would
    answer for it. A case of a deny policy may also show whom it leaves alone, so there any policy may be taken.
    """
    # Of several that deny it, that is told which the case is about.
    first = case.expected.policy or tested
    ordered = sorted(given, key=lambda policy: policy.name != first)
    judged = judge_request(case.ask, policies=ordered, by=case.by, now=case.now, signals=case.signals)
    check = _check(case, judged.grant, ordered) if judged.grant is not None else ""
    by_name = {policy.name: policy for policy in ordered}
    differences = (
        *_differences(case.expected, judged, check),
        *_other_decider(case, judged, by_name, tested),
    )
    return CaseResult(title=case.title, judged=judged, check=check, differences=differences)


def _normalize_expected(expected: Expected) -> Expected:
    """Returns the expectations in canonical form. Raises InvalidField for one that can never come out."""
    if expected.check and expected.check not in set(Reason):
        raise InvalidField("expect_check", f"{expected.check!a} is none of {', '.join(Reason)}")
    if expected.reason:
        _demand_one_of(expected.reason, "expect_reason", REFUSALS)
    policy = name.policy_name(expected.policy, "expect_policy") if expected.policy else ""
    field = _FIELDS.get(expected.field, expected.field)
    if field:
        _demand_one_of(field, "expect_field", REFUSED_FIELDS)
    return replace(expected, policy=policy, field=field)


def _demand_one_of(given: str, field: str, known: Sequence[str]) -> None:
    if given not in known:
        raise InvalidField(field, f"{given!a} can not come here; what can is {', '.join(known)}")


def _check(case: Case, grant: Grant, policies: Sequence[Policy]) -> str:
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
                principal=case.by.principal,
                context=grant.context,
                # What is known is where whoever asks is; another subject's address is whatever is told of it then.
                source_address=grant.source_address if grant.subject == case.by.principal else "",
            ),
            grants=(given,),
            evidence=Evidence(policies, case.now, case.signals),
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
    if expected.field and judged.field != expected.field:
        yield f"expected to be refused for {expected.field}, and it is {_refused_for(judged)}"
    if expected.steps and judged.steps != expected.steps:
        yield f"expected steps {_numbers(expected.steps)}, and they are {_numbers(judged.steps)}"
    if expected.check and check != expected.check:
        yield f"expected a check to answer {expected.check}, and it answers {check or 'nothing'}"


def _refused_for(judged: RequestOutcome) -> str:
    if judged.outcome is not Outcome.REFUSED:
        return "not refused"
    return f"refused for {judged.field}" if judged.field else f"refused by {judged.reason}"


def _other_decider(case: Case, judged: RequestOutcome, policies: Mapping[str, Policy], tested: str) -> Iterable[str]:
    """Yields that another policy decided than the one that shall."""
    decided, wanted = judged.policy, case.expected.policy or tested
    if decided == wanted:
        return
    if case.expected.policy:
        yield f"expected {wanted} to decide, and {f'{decided} does' if decided else 'no policy covers it'}"
    elif decided and policies[decided].deny:
        if policies[tested].deny:
            yield f"{decided} denies it, and {tested} does not"
    elif decided and not policies[tested].deny:
        yield f"{decided} is taken for it, and not {tested}, {_passed_over(case, policies[tested], policies[decided])}"


def _passed_over(case: Case, policy: Policy, taken: Policy) -> str:
    """Returns why the one policy is not taken where the other is, as a clause."""
    if case.ask.policy:
        return "since the case names it"
    try:
        request.choose_policy(case.ask, (policy,), case.by)
    except NotEligible:
        return "which does not let it be asked for"
    if taken.priority > policy.priority:
        return f"which has the priority {policy.priority}, below {taken.priority}"
    return "whose name comes later"


def _numbers(steps: Sequence[int]) -> str:
    return ", ".join(map(str, steps)) or "none"
