"""Decides questions from a view of the grants: anew, or as before while that decision stands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol
from weakref import ref

from jit_service.check.decision_cache import CachedDecision, DecisionCache
from jit_service.check.index import View
from jit_service.domain.checks.decision import (
    Decision,
    Question,
    Reason,
    conditions_judged,
    covers,
    decide_among,
    stands_until,
)
from jit_service.domain.checks.evidence import Candidate
from jit_service.domain.checks.policy_set import PolicyBook
from jit_service.storage import parts_of_check

Past = Callable[[str], Sequence[Candidate] | None]
"""Returns a subject's ended grants, which explain a no; None where the store would have to be read for them."""
Encode = Callable[[Decision, tuple[str, ...]], bytes]
"""Returns the fields of an answer that depend on the decision and its requestable policies alone."""
_NOTHING_TO_ASK_FOR: Final = (Reason.ALLOWED, Reason.DENIED_BY_POLICY, Reason.LOCKED)


class Decider(Protocol):
    """Decides questions."""

    def decide(self, question: Question, view: View, past: Past) -> CachedDecision | None:
        """Returns the decision; None where only a transaction can make it, or `past` returns None."""

    def complete(self, question: Question, decision: Decision, book: PolicyBook) -> CachedDecision:
        """Returns a decision that a transaction made, with its encoding and its part of the record."""


class Deciding:
    """Decides anew each time. `encode` makes the part of an answer that is kept with its decision."""

    def __init__(self, encode: Encode) -> None:
        self._encode = encode

    def decide(self, question: Question, view: View, past: Past) -> CachedDecision | None:
        """See Decider."""
        subject, evidence = view.held[question.subject], view.evidence
        covering = subject.covering(question)
        candidates: list[Candidate] = [grant for grant in covering if view.is_sufficient(grant)]
        decision = decide_among(candidates, question, evidence)
        if not decision.allowed:
            if len(candidates) < len(covering):
                return None
            if (ended := past(question.subject)) is None:
                return None
            if ended and (explaining := [grant for grant in ended if covers(grant, question)]):
                # Ended grants cannot allow anything; they explain.
                known = {grant.name for grant in candidates}
                candidates += [grant for grant in explaining if grant.name not in known]
                decision = decide_among(candidates, question, evidence)
        requestable = _requestable(question, decision, view.book)
        return CachedDecision(
            decision,
            requestable,
            self._encode(decision, requestable),
            parts_of_check(question, decision),
            grants=ref(subject),
            policies=ref(view.book),
            locks=view.locks,
            conditions=conditions_judged(candidates, question, view.now, view.signals),
            until=stands_until((*covering, *candidates), view.now),
        )

    def complete(self, question: Question, decision: Decision, book: PolicyBook) -> CachedDecision:
        """See Decider."""
        requestable = _requestable(question, decision, book)
        return CachedDecision(
            decision, requestable, self._encode(decision, requestable), parts_of_check(question, decision)
        )


class Caching:
    """Gives a decision again while it stands, and has every other one made."""

    def __init__(self, decider: Decider, cache: DecisionCache) -> None:
        self._decider = decider
        self._cache = cache
        self.complete = decider.complete

    def decide(self, question: Question, view: View, past: Past) -> CachedDecision | None:
        """See Decider."""
        decided = self._cache.get(question, view)
        if decided is None and (decided := self._decider.decide(question, view, past)) is not None:
            self._cache.put(question, decided)
        return decided


def _requestable(question: Question, decision: Decision, book: PolicyBook) -> tuple[str, ...]:
    return () if decision.reason in _NOTHING_TO_ASK_FOR else book.requestable(question)
