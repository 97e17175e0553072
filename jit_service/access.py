"""The use case of Check: answer from committed state, and record the answer before giving it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple

from jit_service.check import MAX_PAST, LiveView, Recorder, Sight
from jit_service.domain import context, name, signal
from jit_service.domain.caller import Caller, Role
from jit_service.domain.decision import (
    Candidate,
    Decision,
    Question,
    Reason,
    checked_event,
    covers,
    decide,
    decide_among,
)
from jit_service.domain.errors import InvalidField, JitError, RoleRequired
from jit_service.domain.grant import Grant, expiring, used
from jit_service.domain.policy_book import PolicyBook
from jit_service.domain.refusal import About, refused
from jit_service.storage import Store, payload_of, payload_of_check

MAX_ITEMS = 1000
_NOTHING_TO_ASK_FOR = (Reason.ALLOWED, Reason.DENIED_BY_POLICY)


class Consistency(StrEnum):
    """How fresh an answer must be."""

    STRONG = "STRONG"
    BOUNDED = "BOUNDED"


class Checked(NamedTuple):
    """An answer, with the revision and instant it rests on, and the policies that a no could be asked under.

    `staleness` is how old the view may be that it rests on; None for one that saw every commit.
    """

    question: Question
    decision: Decision
    decision_id: str
    revision: int
    at: datetime
    requestable: tuple[str, ...]
    staleness: timedelta | None = None


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
    itself = subject == caller.principal
    if not itself and not caller.has(Role.CHECKER):
        raise RoleRequired(f"asking about another subject needs the role checker, which {caller.principal} has not")
    return Question(
        subject=name.principal(subject, "subject"),
        action=name.action(action, "action"),
        resource=name.resource(resource, "resource"),
        groups=caller.groups if itself else None,
        principal=caller.principal,
        context=context.checked(asserted) if asserted else {},
        source_address=caller.origin.source_address,
    )


class Asked(NamedTuple):
    """A question with who asks it, and the revision that its answer must have seen."""

    caller: Caller
    question: Question
    min_revision: int = 0


class Checker:
    """Answers questions. Every method raises StoreUnavailable where it cannot be sure.

    What the live view can judge is judged there. A grant that counts its checks is judged and counted in a transaction.
    """

    def __init__(self, store: Store, view: LiveView, recorder: Recorder) -> None:
        self._store = store
        self._view = view
        self._recorder = recorder

    def check(
        self,
        caller: Caller,
        asked: Question,
        *,
        min_revision: int = 0,
        consistency: Consistency = Consistency.STRONG,
    ) -> Checked:
        """Answers one question. Raises InvalidField for a revision that the store has not reached."""
        with self._recorder.expecting():
            sight = self._sight((asked.subject,), min_revision, consistency)
            checked = self._from_sight(asked, sight, self._view.past)
            if checked is not None:
                self._record(self._records(caller, checked), at=checked.at)
                return checked
        return self._in_transaction(caller, asked)

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
        subjects = {item.subject for item in items if isinstance(item, Question)}
        sight = self._sight(subjects, min_revision, consistency)
        answers: list[Checked | JitError | None] = []
        records: list[bytes] = []
        for item in items:
            if isinstance(item, RefusedItem):
                answers.append(item.error)
                records.append(payload_of(refused(caller, item.error, item.about, at=sight.now)))
                continue
            checked = self._from_sight(item, sight, self._view.past)
            answers.append(checked)
            if checked is not None:
                records += self._records(caller, checked)
        self._record(records, at=sight.now)
        return [
            self._in_transaction(caller, item) if answer is None and isinstance(item, Question) else _given(answer)
            for item, answer in zip(items, answers, strict=True)
        ]

    def check_together(self, everything: Sequence[Asked], consistency: Consistency) -> list[Checked | None]:
        """Answers questions of several callers, all asked before this: one look at the store, one commit.

        None for a question that must go to `check`, since the store has to be read or changed for it, or it is refused.
        """
        sight = self._sight({one.question.subject for one in everything}, 0, consistency)
        answers: list[Checked | None] = []
        records: list[bytes] = []
        for one in everything:
            checked = None
            if 0 <= one.min_revision <= sight.revision:
                checked = self._from_sight(one.question, sight, self._view.known_past)
            if checked is not None:
                records += self._records(one.caller, checked)
            answers.append(checked)
        self._record(records, at=sight.now)
        return answers

    def _records(self, caller: Caller, checked: Checked) -> tuple[bytes, ...]:
        """Returns what is recorded of the answer, if anything is."""
        if not self._recorder.wants(allowed=checked.decision.allowed):
            return ()
        return (
            payload_of_check(
                caller,
                checked.question,
                checked.decision,
                at=checked.at,
                decision_id=checked.decision_id,
                revision=checked.revision,
            ),
        )

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
        self, asked: Question, sight: Sight, past: Callable[[str], Sequence[Candidate] | None]
    ) -> Checked | None:
        """Returns the answer; None where it may rest on a grant that only a transaction can judge.

        `past` gives a subject's ended grants, or None: then nothing is answered that they would explain.
        """
        held = sight.held[asked.subject].covering(asked)
        judged: list[Candidate] = [grant for grant in held if sight.is_sufficient(grant)]
        decision = _decided(asked, judged, sight)
        if not decision.allowed:
            if len(judged) < len(held):
                return None
            if (ended := past(asked.subject)) is None:
                return None
            if ended and (explaining := [grant for grant in ended if covers(grant, asked)]):
                # Ended grants cannot allow anything; they explain.
                known = {grant.name for grant in judged}
                judged += [grant for grant in explaining if grant.name not in known]
                decision = _decided(asked, judged, sight)
        return Checked(
            asked,
            decision,
            _new_decision_id(),
            sight.revision,
            sight.now,
            _requestable(asked, decision, sight.book),
            sight.staleness,
        )

    def _in_transaction(self, caller: Caller, asked: Question) -> Checked:
        with self._store.transaction() as tx:
            policies, signals = tx.policies(), signal.at(tx.signals(), tx.now)
            held = tx.live_grants(asked.subject)
            above = tx.ancestors(held)
            decision = decide(asked, grants=held, policies=policies, now=tx.now, signals=signals, above=above)
            if not decision.allowed:
                held += tx.past_grants(asked.subject, limit=MAX_PAST)
                above = tx.ancestors(held)
                decision = decide(asked, grants=held, policies=policies, now=tx.now, signals=signals, above=above)
            checked = Checked(
                asked,
                decision,
                _new_decision_id(),
                tx.revision,
                tx.now,
                _requestable(asked, decision, PolicyBook(policies)),
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
                ),
            )
            return checked


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
        grants, asked, policies=sight.book.denying, now=sight.now, signals=sight.signals, above=sight.above
    )


def _requestable(asked: Question, decision: Decision, book: PolicyBook) -> tuple[str, ...]:
    if decision.reason in _NOTHING_TO_ASK_FOR:
        return ()
    return book.requestable(subject=asked.subject, groups=asked.groups, resource=asked.resource, action=asked.action)


def _new_decision_id() -> str:
    """Returns a random UUID (RFC 9562, version 4). By hand: the standard library's takes longer than a decision."""
    digits = os.urandom(16).hex()
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"
