"""Gives a decision again while everything that it was made from is the very same.

A decision is made from the subject's grants, the policies and the locks, which are immutable and replaced whenever a
commit changes them, from the time, and from what its grants' conditions say. So it stands while all are still the same
objects, no instant has come at which one of its grants begins or ends, and the conditions say the same. It is looked up
in a view that has passed the barrier like any other, so a decision that is given again is as fresh as one that is made
(docs/adr/0033-cache-decisions-by-object-identity.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Final, NamedTuple

from jit_service.check.index import SubjectGrants, View
from jit_service.domain.checks.decision import Decision, Question, judged_by_condition
from jit_service.domain.checks.evidence import Candidate
from jit_service.domain.checks.policy_set import PolicyBook
from jit_service.domain.conditions.condition import Judgement
from jit_service.domain.generational_cache import GenerationalCache
from jit_service.domain.grants.lock import NO_LOCKS, Locks
from jit_service.storage import Parts

MAX_DECISIONS: Final = 10_000
"""For how many questions a decision is kept; for twice as many at most, at about 1.5 KiB each."""
_MAX_TEXT: Final = 512
_MAX_LISTED: Final = 32


def _nothing() -> None:
    """The reference of a decision that rests on no such thing."""


class CachedDecision(NamedTuple):
    """A decision, with the policies that a no could be asked under, its encoding, and its part of the record.

    It rests on `grants`, `policies`, `locks` and the verdicts of `conditions`, and stands until `until`; None where it
    rests on more than those, and stands for itself alone. The references are weak: a decision that is not asked for
    again must not keep a whole set of policies in memory that nobody reads any more.
    """

    decision: Decision
    requestable: tuple[str, ...]
    encoded: bytes
    recorded: Parts
    grants: Callable[[], SubjectGrants | None] = _nothing
    policies: Callable[[], PolicyBook | None] = _nothing
    locks: Locks = NO_LOCKS
    conditions: tuple[tuple[Candidate, Judgement], ...] = ()
    until: datetime | None = None

    @property
    def is_large(self) -> bool:
        """Whether it is not worth its place in memory."""
        return len(self.decision.message) > _MAX_TEXT or (
            len(self.decision.findings) + len(self.requestable) > _MAX_LISTED
        )

    def stands(self, question: Question, view: View) -> bool:
        """Returns whether the view would have it made again, word for word."""
        return (
            self.grants() is view.held[question.subject]
            and self.policies() is view.book
            and self.locks is view.locks
            and self.until is not None
            and view.now < self.until
            and (not self.conditions or _say_the_same(self.conditions, question, view))
        )


_Key = tuple[str, str, str, frozenset[str] | None, bool]


class DecisionCache:
    """The decisions made last, by question. For any thread."""

    def __init__(self) -> None:
        self._kept: GenerationalCache[_Key, CachedDecision] = GenerationalCache(MAX_DECISIONS)

    def get(self, question: Question, view: View) -> CachedDecision | None:
        """Returns the decision of the question that still stands."""
        cached = self._kept.get(_key(question))
        return cached if cached is not None and cached.stands(question, view) else None

    def put(self, question: Question, decided: CachedDecision) -> None:
        """Keeps the decision, where it may be given again."""
        if decided.until is not None and not decided.is_large:
            self._kept.put(_key(question), decided)


def _say_the_same(conditions: Iterable[tuple[Candidate, Judgement]], question: Question, view: View) -> bool:
    return all(
        judged_by_condition(grant, question, view.now, view.signals) == judgement for grant, judgement in conditions
    )


def _key(question: Question) -> _Key:
    """Returns all of a question that is read without a condition."""
    return question.subject, question.action, question.resource, question.groups, question.groups_left_out
