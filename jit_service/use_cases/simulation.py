"""The use case of simulating policies: recorded requests and checks of a window are judged again by a draft set.

Both answers are made anew, by the stored policies and by the draft, from the same recorded facts; so a difference comes
from the policies alone. What was not recorded is not judged: of a refused request its justification, its claims and
whether it was an emergency.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from jit_service.domain.audit.audit_filter import AUDIT_FIELDS
from jit_service.domain.audit.event import Event, EventType, RecordedEvent
from jit_service.domain.caller import Caller, Origin
from jit_service.domain.checks import what_if
from jit_service.domain.checks.decision import Question
from jit_service.domain.checks.evidence import Evidence
from jit_service.domain.conditions import signal
from jit_service.domain.conditions.signal import Signal, Signals
from jit_service.domain.errors import InvalidField
from jit_service.domain.grants import request
from jit_service.domain.grants.grant import Grant
from jit_service.domain.grants.request import Ask
from jit_service.domain.language.filter import parse
from jit_service.domain.policies import diff
from jit_service.domain.policies.diff import PolicyDraft
from jit_service.domain.policies.policy import JustificationRule, Policy
from jit_service.storage import Snapshot, Store
from jit_service.storage.rows import GrantChange
from jit_service.use_cases.long_work import followed, result_of

DEFAULT_WINDOW: Final = timedelta(hours=24)
DEFAULT_CHANGES: Final = 100
MAX_CHANGES: Final = 1000
MAX_EVENTS: Final = 10_000
"""How many recorded requests and checks are judged at once."""
_CHUNK: Final = 1000
_ASKED = (EventType.GRANT_REQUESTED, EventType.BREAK_GLASS_USED)
_ASKING = ("/jitaccess.v1.GrantService/RequestGrant", "/jitaccess.v1.GrantService/EnsureGrant")


_JUDGED = (*_ASKED, EventType.CALL_REFUSED, EventType.ACCESS_CHECKED)
_SIGNAL_KINDS = (EventType.SIGNAL_SET, EventType.SIGNAL_DELETED)


class Kind(StrEnum):
    """What was answered."""

    REQUEST = "REQUEST"
    CHECK = "CHECK"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An answer: a request's outcome, or ALLOWED or DENIED; the reason of a no."""

    answer: str
    reason: str
    message: str

    def differs(self, other: Answer) -> bool:
        """Returns whether a program would see another answer."""
        return (self.answer, self.reason) != (other.answer, other.reason)


@dataclass(frozen=True, kw_only=True)
class Change:
    """One answer that would change; `seq` is its audit record's."""

    kind: Kind
    seq: int
    at: datetime
    subject: str
    resources: tuple[str, ...]
    actions: tuple[str, ...]
    before: Answer
    after: Answer


@dataclass(frozen=True, kw_only=True)
class SimulationResult:
    """How many were judged, and the earliest that would change. `truncated_at`: what came after was left out."""

    request_count: int
    check_count: int
    changed_count: int
    changes: tuple[Change, ...]
    truncated_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a simulation is: of `event_count` records, which grows while they are looked for, so many are judged."""

    judged_count: int
    event_count: int


_NOT_BEGUN: Final = Progress(judged_count=0, event_count=0)


@dataclass(frozen=True, kw_only=True)
class SimulationProgress:
    """How far a simulation is. Only the last one has the result."""

    at: Progress
    result: SimulationResult | None = None


@dataclass(frozen=True, kw_only=True)
class Draft:
    """What is simulated: the policies, whether they are all there are, and the window [start, end).

    `max_changes` 0 is DEFAULT_CHANGES; `exact` is as in `name.principal`.
    """

    proposed: Sequence[PolicyDraft]
    prune: bool
    start: datetime | None
    end: datetime | None
    max_changes: int
    exact: tuple[str, ...] = ()


Simulating = Generator[Progress, None, SimulationResult]
"""The steps of a simulation; what it found is its result."""


def simulate(store: Store, draft: Draft) -> SimulationResult:
    """Judges the window again. Raises InvalidField, StaleEtag."""
    return result_of(_simulation(store, draft))


def stream_simulation(store: Store, draft: Draft, *, gone: Callable[[], bool]) -> Iterator[SimulationProgress]:
    """Yields how far it is, as it judges as `simulate` does, until `gone`; the last one has the result.

    The first one comes at once, then one each half second. Raises what `simulate` raises, before the first.
    """
    for at, result in followed(_simulation(store, draft), gone=gone):
        yield SimulationProgress(at=at, result=result)


def _simulation(store: Store, draft: Draft) -> Simulating:
    if not 0 <= draft.max_changes <= MAX_CHANGES:
        raise InvalidField("max_changes", f"is {draft.max_changes}; 0 to {MAX_CHANGES} are allowed")
    with store.long_snapshot() as snapshot:
        end = draft.end or snapshot.now
        beginning = snapshot.log_beginning
        if draft.start is not None and beginning.was_pruned and draft.start < beginning.last_at:
            raise beginning.pruned("start_time", f"is {draft.start.isoformat()}")
        if draft.start is not None:
            snapshot.grant_beginning.demand_known(draft.start, "start_time")
        start = draft.start or max(end - DEFAULT_WINDOW, beginning.last_at, snapshot.grant_beginning.known_from)
        if start >= end:
            raise InvalidField("start_time", f"is {start.isoformat()}; it must be before {end.isoformat()}")
        stored = snapshot.policies()
        there = snapshot.policies(deleted=True)
        changes = diff.difference(there, draft.proposed, prune=draft.prune, exact=draft.exact)
        yield _NOT_BEGUN
        signals = [
            RecordedEvent(seq=seq, hash=b"", event=event) for seq, event in snapshot.carried_settings() if event.signal
        ]
        signals += yield from _finding(snapshot, _window(None, end, _SIGNAL_KINDS), at_most=None, told=False)
        events = yield from _finding(snapshot, _window(start, end, _JUDGED), at_most=MAX_EVENTS + 1)
        judging = _judging(_History(snapshot, signals), events[:MAX_EVENTS], stored, diff.outcome(stored, changes))
        tally = yield from judging
        return SimulationResult(
            request_count=tally.counts[Kind.REQUEST],
            check_count=tally.counts[Kind.CHECK],
            changed_count=len(tally.changed),
            changes=tuple(tally.changed[: draft.max_changes or DEFAULT_CHANGES]),
            truncated_at=events[MAX_EVENTS - 1].event.at if len(events) > MAX_EVENTS else None,
        )


@dataclass(kw_only=True)
class _Tally:
    """How many requests and checks were judged, and which would be answered otherwise."""

    counts: dict[Kind, int] = field(default_factory=lambda: dict.fromkeys(Kind, 0))
    changed: list[Change] = field(default_factory=list)


def _judging(
    past: _History, events: Sequence[RecordedEvent], stored: list[Policy], draft: list[Policy]
) -> Generator[Progress, None, _Tally]:
    tally = _Tally()
    for number, recorded in enumerate(events):
        yield Progress(judged_count=number, event_count=len(events))
        event = recorded.event
        kind = Kind.CHECK if event.type is EventType.ACCESS_CHECKED else Kind.REQUEST
        question = past.check(recorded) if kind is Kind.CHECK else past.request(recorded)
        if question is None:
            continue
        tally.counts[kind] += 1
        before, after = question.answer(stored), question.answer(draft)
        if before.differs(after):
            tally.changed.append(_change(kind, recorded, before, after))
    yield Progress(judged_count=len(events), event_count=len(events))
    return tally


def _change(kind: Kind, recorded: RecordedEvent, before: Answer, after: Answer) -> Change:
    event = recorded.event
    return Change(
        kind=kind,
        seq=recorded.seq,
        at=event.at,
        subject=event.subject or event.principal,
        resources=event.resources,
        actions=event.actions,
        before=before,
        after=after,
    )


@dataclass(frozen=True, kw_only=True)
class _Request:
    """A request as it was recorded."""

    ask: Ask
    by: Caller
    at: datetime
    signals: Signals
    justified: bool

    def answer(self, policies: Sequence[Policy]) -> Answer:
        if not self.justified:
            policies = [replace(policy, justification=JustificationRule()) for policy in policies]
        judged = what_if.judge_request(self.ask, policies=policies, by=self.by, now=self.at, signals=self.signals)
        return Answer(answer=judged.outcome, reason=judged.reason, message=judged.message)


@dataclass(frozen=True, kw_only=True)
class _Check:
    """A check as it was recorded, with the subject's grants as they were then."""

    question: Question
    grants: Sequence[Grant]
    above: dict[str, Grant]
    at: datetime
    signals: Signals

    def answer(self, policies: Sequence[Policy]) -> Answer:
        evidence = Evidence(policies, self.at, self.signals, self.above)
        decision = what_if.answer(self.question, grants=self.grants, evidence=evidence)
        return Answer(
            answer="ALLOWED" if decision.allowed else "DENIED",
            reason="" if decision.allowed else decision.reason,
            message=decision.message,
        )


class _History:
    """What was known at each record. Records must be asked about in their order."""

    def __init__(self, snapshot: Snapshot, signals: list[RecordedEvent]) -> None:
        """`signals` are the records of the signals until the end of the window, in order."""
        self._snapshot = snapshot
        self._told = signals
        self._signals: dict[str, Signal] = {}
        self._changes: dict[str, list[GrantChange]] = {}
        # Of the items of one batch only the first has the context that they share.
        self._contexts: dict[str, dict[str, Any]] = {}

    def request(self, recorded: RecordedEvent) -> _Request | None:
        """Returns the request of the record; None where policies had no say in it, or not all of it was recorded."""
        event, signals = recorded.event, self._signals_at(recorded)
        if event.omitted_count:
            return None
        if event.type in _ASKED:
            grant = self._snapshot.grant(event.grant)
            return None if grant is None or grant.chain else _granted_request(event, grant, signals)
        if event.origin.method not in _ASKING or event.reason not in what_if.REFUSALS:
            return None
        return _refused_request(event, signals)

    def check(self, recorded: RecordedEvent) -> _Check | None:
        """Returns the check of the record; None where the record has not all that it was judged by."""
        event = recorded.event
        if event.context and event.decision_id:
            self._contexts[event.decision_id] = event.context
        context = self._contexts.get(event.context_of) if event.context_of else event.context
        if event.omitted_count or context is None:
            return None
        question = Question(
            subject=event.subject,
            action=event.actions[0],
            resource=event.resources[0],
            groups=_groups(event) if event.principal == event.subject else None,
            groups_left_out=event.groups_left_out,
            principal=event.principal,
            context=context,
            source_address=_subject_address(event),
        )
        grants = self._grants_at(event.subject, event.revision)
        above = {
            name: found
            for grant in grants
            for name in grant.chain
            if (found := self._snapshot.grant_at(name, event.revision)) is not None
        }
        return _Check(question=question, grants=grants, above=above, at=event.at, signals=self._signals_at(recorded))

    def _grants_at(self, subject: str, revision: int) -> list[Grant]:
        if subject not in self._changes:
            self._changes[subject] = self._snapshot.changes_of(subject)
        until = (change for change in self._changes[subject] if change.revision <= revision)
        return list({change.grant.name: change.grant for change in until}.values())

    def _signals_at(self, recorded: RecordedEvent) -> Signals:
        while self._told and self._told[0].seq < recorded.seq:
            event = self._told.pop(0).event
            self._signals.pop(event.signal, None)
            if (found := signal.recorded(event)) is not None:
                self._signals[event.signal] = found
        return signal.at(self._signals.values(), recorded.event.at)


def _subject_address(event: Event) -> str:
    """Returns what the check saw as its subject's address. Records from before it was told apart have the caller's."""
    own = event.origin.source_address if event.principal == event.subject else ""
    return event.subject_source_ip or own


def _granted_request(event: Event, grant: Grant, signals: Signals) -> _Request:
    """Returns a request that became a grant: its terms are the event's, all else is the grant's."""
    ask = Ask(
        subject=grant.subject,
        resources=event.resources,
        actions=event.actions,
        duration=event.duration,
        start_at=(grant.requested or grant.terms).start_at,
        justification=grant.justification,
        labels=grant.labels,
        context=grant.context,
        max_uses=grant.limits.max_uses,
        break_glass=grant.emergency is not None,
    )
    by = Caller(
        principal=grant.requester,
        groups=grant.requester_groups,
        claims=grant.claims,
        origin=Origin(source_address=grant.source_address),
    )
    return _Request(ask=ask, by=by, at=event.at, signals=signals, justified=True)


def _refused_request(event: Event, signals: Signals) -> _Request | None:
    """Returns a refused request; None where the request was malformed."""
    asked = Ask(
        subject=event.subject or event.principal,
        resources=event.resources,
        actions=event.actions,
        duration=event.duration,
        context=event.context,
    )
    try:
        # Whatever letter case the caller's own name has is the one that was proved.
        checked = request.normalize(asked, now=event.at, exact=(event.principal,))
    except InvalidField:
        return None
    by = Caller(
        principal=event.principal,
        groups=_groups(event),
        origin=Origin(source_address=event.origin.source_address),
    )
    return _Request(ask=checked, by=by, at=event.at, signals=signals, justified=False)


def _groups(event: Event) -> frozenset[str] | None:
    return None if event.groups_left_out else frozenset(event.groups)


def _window(start: datetime | None, end: datetime, kinds: Sequence[EventType]) -> str:
    """Returns the filter of the records of these kinds in [start, end)."""
    any_kind = " OR ".join(f"event_type = {kind}" for kind in kinds)
    since = f'event_time >= "{start.isoformat()}" AND ' if start is not None else ""
    return f'{since}event_time < "{end.isoformat()}" AND ({any_kind})'


def _finding(
    snapshot: Snapshot, filter_text: str, *, at_most: int | None, told: bool = True
) -> Generator[Progress, None, list[RecordedEvent]]:
    """Returns the records that match, in order. They count as those to be judged if they are `told`."""
    node = parse(filter_text, AUDIT_FIELDS)
    found: list[RecordedEvent] = []
    beyond: int | None = 0
    while beyond is not None and (at_most is None or len(found) < at_most):
        limit = _CHUNK if at_most is None else min(_CHUNK, at_most - len(found))
        chunk = snapshot.audit_events(node=node, backwards=False, beyond=beyond, limit=limit)
        found += chunk.events
        beyond = chunk.resume
        yield Progress(judged_count=0, event_count=min(len(found), MAX_EVENTS)) if told else _NOT_BEGUN
    return found
