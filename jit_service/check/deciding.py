"""Decides questions from a view of the grants, or reuses an earlier decision while it stands."""

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
    covers,
    decide_among,
    judge_conditions,
    stands_until,
)
from jit_service.domain.checks.evidence import Candidate
from jit_service.domain.checks.policy_set import PolicySet
from jit_service.storage import parts_of_check

Past = Callable[[str], Sequence[Candidate] | None]
"""Returns a subject's ended grants, which explain a no; None if only the store has them."""
Encode = Callable[[Decision, tuple[str, ...]], bytes]
"""Encodes the fields of an answer that depend only on the decision and its requestable policies."""
_NOTHING_TO_ASK_FOR: Final = (Reason.ALLOWED, Reason.DENIED_BY_POLICY, Reason.LOCKED)


class Decider(Protocol):
    """Decides questions."""

    def decide(self, question: Question, view: View, past: Past) -> CachedDecision | None:
        """Returns the decision; None if only a transaction can make it, or if `past` returns None."""

    def complete(self, question: Question, decision: Decision, book: PolicySet) -> CachedDecision:
        """Completes a decision that a transaction made with its encoding and its part of the record."""


class Deciding:
    """Makes every decision from the view. `encode` encodes the part of the answer that is cached with the decision."""

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
                # Ended grants cannot allow anything, but they explain the no.
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
            conditions=judge_conditions(candidates, question, view.now, view.signals, decision.findings),
            until=stands_until((*covering, *candidates), view.now),
        )

    def complete(self, question: Question, decision: Decision, book: PolicySet) -> CachedDecision:
        """See Decider."""
        requestable = _requestable(question, decision, book)
        return CachedDecision(
            decision, requestable, self._encode(decision, requestable), parts_of_check(question, decision)
        )


class Caching:
    """Reuses a cached decision while it stands; has `decider` make all others."""

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


def _requestable(question: Question, decision: Decision, book: PolicySet) -> tuple[str, ...]:
    return () if decision.reason in _NOTHING_TO_ASK_FOR else book.requestable(question)
