"""The decision: may this subject do this action on this resource, now?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any, NamedTuple

from jit_service.domain.audit.event import Event, EventType
from jit_service.domain.caller import LEFT_OUT, Caller
from jit_service.domain.checks.evidence import Candidate, Evidence
from jit_service.domain.conditions import condition
from jit_service.domain.conditions.condition import Facts, Judgement, Verdict
from jit_service.domain.conditions.signal import Signals
from jit_service.domain.grants.grant import GrantState
from jit_service.domain.grants.lock import message as locked_message
from jit_service.domain.grants.request import denies
from jit_service.domain.policies.policy import Policy
from jitaccess.naming import rfc3339
from jitaccess.naming.pattern import action_covered, resource_covered


class Reason(StrEnum):
    """Why the answer is what it is."""

    ALLOWED = "ALLOWED"
    NO_GRANT = "NO_GRANT"
    NOT_YET_STARTED = "NOT_YET_STARTED"
    EXPIRED = "EXPIRED"
    REVOKED = "REVOKED"
    RELEASED = "RELEASED"
    PENDING = "PENDING"
    CONDITION_NOT_MET = "CONDITION_NOT_MET"
    CONDITION_ERROR = "CONDITION_ERROR"
    USES_EXHAUSTED = "USES_EXHAUSTED"
    SIGNAL_STALE = "SIGNAL_STALE"
    DENIED_BY_POLICY = "DENIED_BY_POLICY"
    LOCKED = "LOCKED"


class Question(NamedTuple):
    """Concrete names in canonical form.

    For conditions to read: `groups` are those that the subject proves by this call; None where it proves none, since
    another asks, or since its own token leaves them out (`groups_left_out`): then it may be in any, whatever was known
    before. `source_address` is the subject's: where we saw it when it asked itself, or where whoever asks about it says
    it is; empty where nobody told. `principal` and `context` are the asker's.
    """

    subject: str
    action: str
    resource: str
    groups: frozenset[str] | None = None
    principal: str = ""
    context: Mapping[str, Any] = MappingProxyType({})
    source_address: str = ""
    groups_left_out: bool = False


class Finding(NamedTuple):
    """What one grant says to the question. `name` is the grant's, or of the deny policy or lock that overrules it.

    `changes`: a check that rests on it changes it, or a grant above it. `judgement` is what the grant's condition said,
    if it was judged.
    """

    name: str
    reason: Reason
    message: str
    grant: Candidate
    changes: bool = False
    judgement: Judgement | None = None


class Decision(NamedTuple):
    """The answer. `grant` is what it rests on; `findings` is everything that was looked at; `lock` is what locks it."""

    reason: Reason
    message: str
    grant: Candidate | None
    findings: tuple[Finding, ...]
    lock: str = ""

    @property
    def allowed(self) -> bool:
        """Whether the subject may."""
        return self.reason is Reason.ALLOWED


# What a grant that covers the question but does not allow it explains. Others (denied, withdrawn, lapsed) were never
# access, and explain nothing.
_EXPLAINS = {
    GrantState.SCHEDULED: Reason.NOT_YET_STARTED,
    GrantState.PENDING: Reason.PENDING,
    GrantState.EXPIRED: Reason.EXPIRED,
    GrantState.REVOKED: Reason.REVOKED,
    GrantState.RELEASED: Reason.RELEASED,
}
# Of several explanations, the one that helps the subject most.
_PRECEDENCE = (
    Reason.LOCKED,
    Reason.DENIED_BY_POLICY,
    Reason.CONDITION_NOT_MET,
    Reason.SIGNAL_STALE,
    Reason.CONDITION_ERROR,
    Reason.USES_EXHAUSTED,
    Reason.NOT_YET_STARTED,
    Reason.PENDING,
)
_NEVER = datetime.max.replace(tzinfo=UTC)
_NOT_MET = {
    Verdict.NOT_MET: Reason.CONDITION_NOT_MET,
    Verdict.ERROR: Reason.CONDITION_ERROR,
    Verdict.STALE: Reason.SIGNAL_STALE,
}


def decide(question: Question, *, grants: Iterable[Candidate], evidence: Evidence[Candidate]) -> Decision:
    """Answers the question at the evidence's `now`.

    `grants` must have every grant of the subject that may be live, and may have others. The question is allowed only if
    one ACTIVE grant of the subject covers action and resource, has uses left and a condition that is true, all of that
    holds for the grants above it too, and no lock and no deny policy forbids it to any of their subjects with the
    groups proved for that grant or by this call (invariants I1, I14, I30).
    """
    covering = [grant for grant in grants if covers(grant, question)]
    return decide_among(covering, question, evidence)


def decide_among(covering: Sequence[Candidate], question: Question, evidence: Evidence[Candidate]) -> Decision:
    """Decides as `decide` does, among grants that are known to cover the question."""
    # What is known without any grant; each grant may know of more groups.
    proved = question.groups or frozenset()
    if evidence.locks and (lock := evidence.locks.on(question.subject, proved)) is not None:
        return Decision(Reason.LOCKED, locked_message(lock, question.subject, proved), None, (), lock.name)
    if not covering:
        message = f"no grant lets {question.subject} {question.action} on {question.resource}"
        return Decision(Reason.NO_GRANT, message, None, ())
    findings = [finding for grant in covering if (finding := _finding(grant, question, evidence)) is not None]
    allowing = [finding for finding in findings if finding.reason is Reason.ALLOWED]
    if len(allowing) == 1:
        chosen: Finding | None = allowing[0]
    else:
        chosen = max(allowing, key=_preference) if allowing else _best_explanation(findings)
    if chosen is None:
        return decide_among((), question, evidence)
    by_lock = chosen.name if chosen.reason is Reason.LOCKED else ""
    return Decision(chosen.reason, chosen.message, chosen.grant, tuple(findings), by_lock)


def stands_until(judged: Iterable[Candidate], now: datetime) -> datetime | None:
    """Returns when a decision among these grants may change although no grant and no policy does.

    None where it may change at once: a counted grant changes with its checks, and one that was passed on ends with
    those above it. Conditions may say something else at any time (`conditions_judged`).
    """
    until = _NEVER
    for grant in judged:
        if grant.chain or grant.is_metered:
            return None
        for instant in (grant.starts_at, grant.expires_at, grant.request_expires_at):
            if instant is not None and now < instant < until:
                until = instant
    return until


def judge_conditions(
    judged: Iterable[Candidate], question: Question, now: datetime, signals: Signals, findings: Iterable[Finding] = ()
) -> tuple[tuple[Candidate, Judgement], ...]:
    """Returns which of these grants are judged by their condition until `stands_until`, and what it says now.

    All that a decision reads of a question beyond its names and groups, and of the signals, it reads by these.
    `findings` are those of a decision of the same question at the same `now`: what it judged is not judged again.
    """
    conditional = [grant for grant in judged if grant.check_condition and grant.state(now) is GrantState.ACTIVE]
    if not conditional:
        return ()
    known = {finding.grant.name: finding.judgement for finding in findings}
    return tuple(
        [(grant, known.get(grant.name) or judge_condition(grant, question, now, signals)) for grant in conditional]
    )


def judge_condition(grant: Candidate, question: Question, now: datetime, signals: Signals) -> Judgement:
    """Returns what the grant's check_condition says to the question.

    It permits, so it must be met with the groups of each proof by itself: whoever has left a group since the grant was
    asked for is in it no more, and whoever has joined one since was not given access by it.
    """
    facts = _facts(grant, question, now, signals)
    judgement = Judgement(Verdict.MET)
    for groups in _each_proved(grant, question):
        judgement = condition.judge(grant.check_condition, facts._replace(groups=groups))
        if judgement.verdict is not Verdict.MET:
            break
    return judgement


def check_event(
    by: Caller,
    asked: Question,
    decision: Decision,
    *,
    at: datetime,
    decision_id: str,
    revision: int,
    context_of: str = "",
) -> Event:
    """Returns what is recorded of an answer; its context is that of the record of `context_of`, if any."""
    grant = decision.grant
    return Event(
        type=EventType.ACCESS_CHECKED,
        at=at,
        principal=by.principal,
        origin=by.origin,
        subject=asked.subject,
        resources=(asked.resource,),
        actions=(asked.action,),
        decision="ALLOWED" if decision.allowed else "DENIED",
        reason=decision.reason,
        message=decision.message,
        grant=grant.name if grant else "",
        policy=grant.policy if grant else "",
        policy_revision=grant.policy_revision if grant else 0,
        chain=grant.chain if grant else (),
        decision_id=decision_id,
        revision=revision,
        groups=tuple(sorted(asked.groups or ())),
        groups_left_out=asked.groups_left_out,
        context={} if context_of else dict(asked.context),
        context_of=context_of,
        lock=decision.lock,
        subject_source_ip=asked.source_address,
    )


def covers(grant: Candidate, question: Question) -> bool:
    """Returns whether the question is about the grant: its subject, one of its actions and one of its resources."""
    return (
        grant.subject == question.subject
        and action_covered(question.action, grant.actions)
        and resource_covered(question.resource, grant.resources)
    )


def _finding(grant: Candidate, question: Question, evidence: Evidence[Candidate]) -> Finding | None:
    """Returns what the grant says to the question; what it was passed on from must allow it too."""
    finding = _own_finding(grant, question, evidence)
    if finding is None or finding.reason is not Reason.ALLOWED:
        return finding
    for name in grant.chain:
        found = _finding_above(name, question, evidence)
        if found.reason is not Reason.ALLOWED:
            message = f"{grant.name} came from {name}: {found.message}"
            return Finding(name=found.name, reason=found.reason, message=message, grant=grant)
    changes = grant.is_metered or any(evidence.above[name].is_metered for name in grant.chain)
    return finding._replace(changes=True) if changes else finding


def _finding_above(name: str, question: Question, evidence: Evidence[Candidate]) -> _Above:
    grant = evidence.above.get(name)
    state = grant.state(evidence.now) if grant is not None else None
    if grant is None or state is not GrantState.ACTIVE:
        # Whatever it is, it gives nothing.
        reason = _EXPLAINS.get(state, Reason.NO_GRANT) if state is not None else Reason.NO_GRANT
        return _Above(name, reason, f"{name} is not ACTIVE")
    if evidence.locks and (lock := evidence.locks.on(grant.subject, grant.subject_groups)) is not None:
        return _Above(lock.name, Reason.LOCKED, locked_message(lock, grant.subject, grant.subject_groups))
    if grant.is_used_up:
        return _Above(name, Reason.USES_EXHAUSTED, _message(grant, Reason.USES_EXHAUSTED))
    of_its_subject = question._replace(subject=grant.subject, groups=None, groups_left_out=False)
    for policy in evidence.policies:
        if _denies_question(policy, grant, of_its_subject):
            return _Above(policy.name, Reason.DENIED_BY_POLICY, f"{policy.name} denies it to {grant.subject}")
    return _Above(name, Reason.ALLOWED, "")


class _Above(NamedTuple):
    """What a grant above says; what was passed on has its condition, as it was when it was passed on."""

    name: str
    reason: Reason
    message: str


def _own_finding(grant: Candidate, question: Question, evidence: Evidence[Candidate]) -> Finding | None:
    locks = evidence.locks
    state = grant.state(evidence.now)
    if state is not GrantState.ACTIVE:
        reason = _EXPLAINS.get(state)
        if reason is None:
            return None
        return Finding(name=grant.name, reason=reason, message=_message(grant, reason), grant=grant)
    if locks and (lock := locks.on(grant.subject, groups := proved_groups(grant, question))) is not None:
        message = locked_message(lock, grant.subject, groups)
        return Finding(name=lock.name, reason=Reason.LOCKED, message=message, grant=grant)
    for policy in evidence.policies:
        if _denies_question(policy, grant, question):
            message = f"{policy.name} denies {question.subject} {question.action} on {question.resource}"
            message += _since_left_out(question)
            return Finding(name=policy.name, reason=Reason.DENIED_BY_POLICY, message=message, grant=grant)
    if grant.is_used_up:
        message = _message(grant, Reason.USES_EXHAUSTED)
        return Finding(name=grant.name, reason=Reason.USES_EXHAUSTED, message=message, grant=grant)
    judgement: Judgement | None = None
    if grant.check_condition:
        judgement = judge_condition(grant, question, evidence.now, evidence.signals)
        if judgement.verdict is not Verdict.MET:
            fault = judgement.message and f"cannot be judged: {judgement.message}"
            message = f"the check_condition of {grant.name} {fault or f'is not met: {grant.check_condition}'}"
            message += _since_left_out(question)
            return Finding(grant.name, _NOT_MET[judgement.verdict], message, grant, judgement=judgement)
    return Finding(grant.name, Reason.ALLOWED, _message(grant, Reason.ALLOWED), grant, judgement=judgement)


def _facts(grant: Candidate, question: Question, now: datetime, signals: Signals) -> Facts:
    return Facts(
        subject=grant.subject,
        principal=question.principal,
        resources=(question.resource,),
        actions=(question.action,),
        duration=grant.duration,
        now=now,
        signals=signals,
        claims=grant.subject_claims,
        context=question.context,
        source_address=question.source_address,
    )


def _denies_question(policy: Policy, grant: Candidate, question: Question) -> bool:
    groups = proved_groups(grant, question)
    return denies(policy, subject=question.subject, groups=groups, resource=question.resource, action=question.action)


def _each_proved(grant: Candidate, question: Question) -> tuple[frozenset[str] | None, ...]:
    """Returns the groups as each proof has them, the call's first; None alone where they are not known."""
    proofs = () if question.groups_left_out else (question.groups, grant.subject_groups)
    proved = tuple(dict.fromkeys(groups for groups in proofs if groups is not None)) or (None,)
    return proved if condition.mentions(grant.check_condition, "groups") else proved[:1]


def proved_groups(grant: Candidate, question: Question) -> frozenset[str] | None:
    """All groups that were proved, when the grant was asked for or by this call; None where they are not known.

    For what forbids: each of them may. They are not known where nobody proved any, or the subject's token now leaves
    them out.
    """
    if question.groups_left_out:
        return None
    proved = [groups for groups in (grant.subject_groups, question.groups) if groups is not None]
    return frozenset[str]().union(*proved) if proved else None


def _since_left_out(question: Question) -> str:
    return f"; {LEFT_OUT}" if question.groups_left_out else ""


def _message(grant: Candidate, reason: Reason) -> str:
    match reason:
        case Reason.ALLOWED:
            return f"{grant.name} allows it until {_instant(grant.expires_at)}"
        case Reason.NOT_YET_STARTED:
            return f"{grant.name} starts at {_instant(grant.starts_at)}"
        case Reason.USES_EXHAUSTED:
            times = "once" if grant.use_count == 1 else f"{grant.use_count} times"
            return f"{grant.name} has been used {times}, as often as it may be"
        case Reason.PENDING:
            return f"{grant.name} waits for approval until {_instant(grant.request_expires_at)}"
        case Reason.EXPIRED:
            return f"{grant.name} expired at {_instant(grant.expires_at)}"
        case _:
            return f"{grant.name} was {reason.lower()} at {_instant(_over_at(grant))}"


def _best_explanation(findings: Sequence[Finding]) -> Finding | None:
    for reason in _PRECEDENCE:
        for finding in findings:
            if finding.reason is reason:
                return finding
    return max(findings, key=lambda finding: _over_at(finding.grant), default=None)


def _preference(finding: Finding) -> tuple[bool, datetime]:
    """A grant that the check does not change comes first, then the one that lasts longest."""
    return not finding.changes, _sure(finding.grant.expires_at)


def _over_at(grant: Candidate) -> datetime:
    return grant.end.at if grant.end is not None else _sure(grant.expires_at)


def _instant(instant: datetime | None) -> str:
    return rfc3339.to_seconds(_sure(instant))


def _sure(instant: datetime | None) -> datetime:
    """A grant in the state at hand has this instant; one that has not is broken, and must not decide anything."""
    if instant is None:
        raise AssertionError("a started grant without its instants")
    return instant
