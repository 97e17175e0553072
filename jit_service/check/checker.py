"""The use case of Check: answer from committed state, and record the answer before giving it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from typing import Any, Final, NamedTuple

from pydantic_core import to_json

from jit_service.check import MAX_PAST, AuditMode, Combining, Judged, Judgements, LiveView, Recorder, Sight
from jit_service.domain.audit.event import Event
from jit_service.domain.audit.refusal import About, refused
from jit_service.domain.caller import Caller, Role
from jit_service.domain.checks.decision import (
    Candidate,
    Decision,
    Question,
    Reason,
    checked_event,
    conditions_judged,
    covers,
    decide,
    decide_among,
    stands_until,
)
from jit_service.domain.checks.policy_set import PolicyBook
from jit_service.domain.conditions import context, signal
from jit_service.domain.errors import InvalidField, JitError, RoleRequired
from jit_service.domain.frozen import replace
from jit_service.domain.grants.grant import Grant, expiring, used
from jit_service.domain.grants.lock import demand_unlocked_caller
from jit_service.domain.language import name
from jit_service.storage import CheckRecords, SharedContexts, Store, parts_of_check, payload_of

MAX_ITEMS = 1000
MAX_CONTEXTS: Final = 64 << 10
"""How many bytes of context the items of one batch may assert, what is the same counted once."""
_MAX_COMBINED = 64
# Of an UUID, by the random digit in whose place it stands.
_VARIANT = dict(zip("0123456789abcdef", 4 * "89ab", strict=True))
_NOTHING_TO_ASK_FOR = (Reason.ALLOWED, Reason.DENIED_BY_POLICY, Reason.LOCKED)


class Consistency(StrEnum):
    """How fresh an answer must be."""

    STRONG = "STRONG"
    BOUNDED = "BOUNDED"


class Checked(NamedTuple):
    """An answer, with the revision and instant it rests on, and the policies that a no could be asked under.

    `staleness` is how old the view may be that it rests on; None for one that saw every commit.
    """

    question: Question
    judged: Judged
    decision_id: str
    revision: int
    at: datetime
    staleness: timedelta | None = None

    @property
    def decision(self) -> Decision:
        return self.judged.decision

    @property
    def requestable(self) -> tuple[str, ...]:
        return self.judged.requestable


@dataclass(frozen=True, kw_only=True)
class RefusedItem:
    """An item of a batch that is no question, with what it was about."""

    error: JitError
    about: About


def question(
    caller: Caller, *, subject: str, action: str, resource: str, asserted: dict[str, Any] | None = None
) -> Question:
    """Returns the question in canonical form. Raises RoleRequired, InvalidField.

    Anyone may ask about itself, the role `checker` about others.
    """
    if not subject:
        raise InvalidField("subject", "is required: user:NAME or service:NAME")
    itself = subject == caller.principal or name.folded(subject, caller.exact) == caller.principal
    if not itself and not caller.has(Role.CHECKER):
        raise RoleRequired(f"asking about another subject needs the role checker, which {caller.principal} has not")
    told, source_address = context.told_of(caller, asserted, itself=itself)
    return Question(
        subject=name.principal(subject, "subject", exact=caller.exact),
        action=name.action(action, "action"),
        resource=name.resource(resource, "resource"),
        groups=caller.groups if itself else None,
        groups_left_out=itself and caller.groups is None,
        principal=caller.principal,
        context=told,
        source_address=source_address,
    )


class Asked(NamedTuple):
    """A question with who asks it, and the revision that its answer must have seen."""

    caller: Caller
    question: Question
    min_revision: int = 0


class Checker:
    """Answers questions. Every method raises StoreUnavailable where it cannot be sure, and Locked for a locked caller.

    What the live view can judge is judged there. A grant that counts its checks is judged and counted in a transaction.
    """

    def __init__(self, store: Store, view: LiveView, recorder: Recorder) -> None:
        self._store = store
        self._view = view
        self._recorder = recorder
        self._judgements = Judgements()
        self._combining: dict[Consistency, Combining[Asked, Checked | None]] = {
            consistency: Combining(partial(self.check_together, consistency=consistency), most=_MAX_COMBINED)
            for consistency in Consistency
        }

    def check(
        self,
        caller: Caller,
        asked: Question,
        *,
        min_revision: int = 0,
        consistency: Consistency = Consistency.STRONG,
    ) -> Checked:
        """Answers one question. Raises InvalidField for a revision that the store has not reached."""
        if consistency is Consistency.STRONG or self._recorder.mode is not AuditMode.OFF:
            # What costs most can be shared with whoever asks at the same time.
            checked = self._combining[consistency].ask(Asked(caller, asked, min_revision))
            if checked is not None:
                return checked
        return self._check_alone(caller, asked, min_revision, consistency)

    def _check_alone(self, caller: Caller, asked: Question, min_revision: int, consistency: Consistency) -> Checked:
        sight = self._sight((asked.subject,), min_revision, consistency)
        demand_unlocked_caller(sight.locks, caller)
        checked = self._from_sight(asked, sight, self._view.past, _decision_id())
        if checked is None:
            return self._in_transaction(caller, asked)
        records = CheckRecords(at=checked.at, revision=checked.revision)
        self._record(self._recorded(caller, checked, records), at=checked.at)
        return checked

    def check_many(
        self,
        caller: Caller,
        items: Sequence[Question | RefusedItem],
        *,
        min_revision: int = 0,
        consistency: Consistency = Consistency.STRONG,
    ) -> list[Checked | JitError]:
        """Answers the questions in order, at one revision and instant; an item that is a refusal stays one.

        An item that rests on a grant which counts its checks is answered after the others, at its own instant. Raises
        InvalidField for a revision that the store has not reached.
        """
        demand_bounded(item.context if isinstance(item, Question) else item.about.context for item in items)
        subjects = {item.subject for item in items if isinstance(item, Question)}
        sight = self._sight(subjects, min_revision, consistency)
        demand_unlocked_caller(sight.locks, caller)
        past, is_recorded = self._view.past, self._recorder.mode is not AuditMode.OFF
        making, shared = CheckRecords(at=sight.now, revision=sight.revision), SharedContexts()
        answers: list[Checked | JitError | None] = []
        records: list[bytes] = []
        for item, decision_id in zip(items, _decision_ids(len(items)), strict=True):
            if isinstance(item, RefusedItem):
                answers.append(item.error)
                event = refused(caller, item.error, item.about, at=sight.now)
                records.append(payload_of(_with_shared(event, shared, decision_id)))
                continue
            checked = self._from_sight(item, sight, past, decision_id)
            answers.append(checked)
            if is_recorded and checked is not None:
                records += self._recorded(caller, checked, making, shared)
        self._record(records, at=sight.now)
        return [
            self._in_transaction(caller, item, shared)
            if answer is None and isinstance(item, Question)
            else _given(answer)
            for item, answer in zip(items, answers, strict=True)
        ]

    def check_together(self, everything: Sequence[Asked], consistency: Consistency) -> list[Checked | None]:
        """Answers questions of several callers, all asked before this: one look at the store, one commit.

        None for a question that must go to `check`, since the store has to be read or changed for it, or it is refused.
        """
        sight = self._sight([one.question.subject for one in everything], 0, consistency)
        past, is_recorded = self._view.known_past, self._recorder.mode is not AuditMode.OFF
        making = CheckRecords(at=sight.now, revision=sight.revision)
        answers: list[Checked | None] = []
        records: list[bytes] = []
        for (caller, asked, min_revision), decision_id in zip(everything, _decision_ids(len(everything)), strict=True):
            checked = None
            if 0 <= min_revision <= sight.revision and not (sight.locks and sight.locks.on_caller(caller)):
                checked = self._from_sight(asked, sight, past, decision_id)
            if is_recorded and checked is not None:
                records += self._recorded(caller, checked, making)
            answers.append(checked)
        self._record(records, at=sight.now)
        return answers

    def _recorded(
        self, caller: Caller, checked: Checked, records: CheckRecords, shared: SharedContexts | None = None
    ) -> tuple[bytes, ...]:
        """Returns what is recorded of the answer, if anything is."""
        judged = checked.judged
        if not self._recorder.wants(allowed=judged.decision.allowed):
            return ()
        if (parts := judged.recorded) is None:
            parts = judged.recorded = parts_of_check(checked.question, judged.decision)
        return (records.payload(caller, checked.question, parts, checked.decision_id, shared),)

    def _record(self, records: Sequence[bytes], *, at: datetime) -> None:
        if records:
            self._recorder.record(records, at=at)

    def _sight(self, subjects: Iterable[str], min_revision: int, consistency: Consistency) -> Sight:
        if min_revision < 0:
            raise InvalidField("min_revision", f"is {min_revision}; 0 or a revision that the service has answered")
        if consistency is Consistency.BOUNDED:
            sight = self._view.bounded(subjects)
            if sight.revision >= min_revision:
                return sight
        sight = self._view.strong(subjects)
        if min_revision > sight.revision:
            raise InvalidField("min_revision", f"is {min_revision}; the store is at revision {sight.revision}")
        return sight

    def _from_sight(
        self,
        asked: Question,
        sight: Sight,
        past: Callable[[str], Sequence[Candidate] | None],
        decision_id: str,
    ) -> Checked | None:
        """Returns the answer; None where it may rest on a grant that only a transaction can judge.

        `past` gives a subject's ended grants, or None: then nothing is answered that they would explain.
        """
        judged = self._judgements.of(asked, sight) or self._judged(asked, sight, past)
        if judged is None:
            return None
        return Checked(asked, judged, decision_id, sight.revision, sight.now, sight.staleness)

    def _judged(
        self, asked: Question, sight: Sight, past: Callable[[str], Sequence[Candidate] | None]
    ) -> Judged | None:
        held = sight.held[asked.subject].covering(asked)
        looked_at: list[Candidate] = [grant for grant in held if sight.is_sufficient(grant)]
        decision = _decided(asked, looked_at, sight)
        if not decision.allowed:
            if len(looked_at) < len(held):
                return None
            if (ended := past(asked.subject)) is None:
                return None
            if ended and (explaining := [grant for grant in ended if covers(grant, asked)]):
                # Ended grants cannot allow anything; they explain.
                known = {grant.name for grant in looked_at}
                looked_at += [grant for grant in explaining if grant.name not in known]
                decision = _decided(asked, looked_at, sight)
        judged = Judged(
            decision,
            _requestable(asked, decision, sight.book),
            held=sight.held[asked.subject],
            book=sight.book,
            conditions=conditions_judged(looked_at, asked, sight.now, sight.signals),
            until=stands_until((*held, *looked_at), sight.now),
            locks=sight.locks,
        )
        self._judgements.keep(asked, judged)
        return judged

    def _in_transaction(self, caller: Caller, asked: Question, shared: SharedContexts | None = None) -> Checked:
        with self._store.transaction() as tx:
            policies, signals = tx.policies(), signal.at(tx.signals(), tx.now)
            held = tx.live_grants(asked.subject)
            above = tx.ancestors(held)
            judge = partial(decide, asked, policies=policies, now=tx.now, signals=signals, locks=tx.locks)
            decision = judge(grants=held, above=above)
            if not decision.allowed:
                held += tx.past_grants(asked.subject, limit=MAX_PAST)
                above = tx.ancestors(held)
                decision = judge(grants=held, above=above)
            checked = Checked(
                asked,
                Judged(decision, _requestable(asked, decision, PolicyBook(policies))),
                _decision_id(),
                tx.revision,
                tx.now,
            )
            rests_on = next((grant for grant in held if grant is decision.grant), None)
            changed = _used(rests_on, above, tx.now) if decision.allowed and rests_on is not None else []
            tx.save_uses(
                changed,
                checked_event(
                    caller,
                    asked,
                    decision,
                    at=tx.now,
                    decision_id=checked.decision_id,
                    revision=tx.revision,
                    context_of=shared.first_of(asked.context, checked.decision_id) if shared is not None else "",
                ),
            )
            return checked


def _with_shared(event: Event, shared: SharedContexts, decision_id: str) -> Event:
    """Returns the event of an item, which can be told from the others of its batch, with a context once for all."""
    first = shared.first_of(event.context, decision_id)
    return replace(event, decision_id=decision_id, context={} if first else event.context, context_of=first)


def demand_bounded(contexts: Iterable[Mapping[str, Any]]) -> None:
    """Raises InvalidField where the contexts of a batch, each counted once, are longer than MAX_CONTEXTS together."""
    texts = {to_json(dict(context)) for context in contexts if context}
    size = sum(map(len, texts))
    if size > MAX_CONTEXTS:
        raise InvalidField("context", f"has in all items {size} bytes of JSON; at most {MAX_CONTEXTS} are allowed")


def _given(answer: Checked | JitError | None) -> Checked | JitError:
    if answer is None:
        raise AssertionError("an item without an answer")
    return answer


def _used(grant: Grant, above: Mapping[str, Grant], now: datetime) -> list[Grant]:
    """Returns the grants that an allowed check changes: those above first, since none outlives what it came from."""
    changed: list[Grant] = []
    until: datetime | None = None
    for before in (*(above[ancestor] for ancestor in grant.chain), grant):
        after = used(before, now=now, until=until) if before.is_metered else expiring(before, until=until)
        if after != before:
            changed.append(after)
        until = after.expires_at
    return changed


def _decided(asked: Question, grants: Sequence[Candidate], sight: Sight) -> Decision:
    return decide_among(
        grants,
        asked,
        policies=sight.book.denying,
        now=sight.now,
        signals=sight.signals,
        above=sight.above,
        locks=sight.locks,
    )


def _requestable(asked: Question, decision: Decision, book: PolicyBook) -> tuple[str, ...]:
    if decision.reason in _NOTHING_TO_ASK_FOR:
        return ()
    return book.requestable(asked)


def _decision_id() -> str:
    return _decision_ids(1)[0]


def _decision_ids(count: int) -> list[str]:
    """Returns random UUIDs (RFC 9562, version 4). By hand: the standard library's take longer than decisions."""
    digits = os.urandom(16 * count).hex()
    return [_uuid(digits[at : at + 32]) for at in range(0, 32 * count, 32)]


def _uuid(digits: str) -> str:
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{_VARIANT[digits[16]]}{digits[17:20]}-{digits[20:]}"
