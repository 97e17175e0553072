"""Caches decisions, and reuses one while everything that it was made from is the same object.

A decision is made from the subject's grants, the policies and the locks, from the time, and from the results of the
grants' conditions. The grants, policies and locks are immutable, and a commit that changes them replaces them. So a
decision stands while they are still the same objects, none of its grants has begun or ended since, and its conditions
give the same results. The cache compares it with a view that has passed the barrier like any other, so a reused
decision is as fresh as a new one (docs/adr/0033-cache-decisions-by-object-identity.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Final, NamedTuple

from jit_service.check.index import SubjectGrants, View
from jit_service.domain.checks.decision import Decision, Question, judge_condition
from jit_service.domain.checks.evidence import Candidate
from jit_service.domain.checks.policy_set import PolicySet
from jit_service.domain.conditions.condition import Judgement
from jit_service.domain.generational_cache import GenerationalCache
from jit_service.domain.grants.lock import NO_LOCKS, Locks
from jit_service.storage import Parts

MAX_DECISIONS: Final = 10_000
"""How many decisions one generation of the cache holds; the cache holds at most two, at about 1.5 KiB a decision."""
_MAX_TEXT: Final = 512
_MAX_LISTED: Final = 32


def _nothing() -> None:
    """The reference of a decision that rests on no such object."""


class CachedDecision(NamedTuple):
    """A decision, the policies that a refused subject can ask for, its encoding, and its part of the record.

    It rests on `grants`, `policies`, `locks` and the results of `conditions`, and stands until `until`. `until` is None
    for a decision that rests on more than those and cannot be reused. The references are weak: a decision that nobody
    asks for again must not keep a whole set of outdated policies in memory.
    """

    decision: Decision
    requestable: tuple[str, ...]
    encoded: bytes
    recorded: Parts
    grants: Callable[[], SubjectGrants | None] = _nothing
    policies: Callable[[], PolicySet | None] = _nothing
    locks: Locks = NO_LOCKS
    conditions: tuple[tuple[Candidate, Judgement], ...] = ()
    until: datetime | None = None

    @property
    def is_large(self) -> bool:
        """Whether the decision is too large to cache."""
        return len(self.decision.message) > _MAX_TEXT or (
            len(self.decision.findings) + len(self.requestable) > _MAX_LISTED
        )

    def stands(self, question: Question, view: View) -> bool:
        """Returns whether a decision made from the view now would be the same, word for word."""
        return (
            self.grants() is view.held[question.subject]
            and self.policies() is view.book
            and self.locks is view.locks
            and self.until is not None
            and view.now < self.until
            and (not self.conditions or _results_are_same(self.conditions, question, view))
        )


_Key = tuple[str, str, str, frozenset[str] | None, bool]


class DecisionCache:
    """The latest decisions by question. It is safe for any thread."""

    def __init__(self) -> None:
        self._kept: GenerationalCache[_Key, CachedDecision] = GenerationalCache(MAX_DECISIONS)

    def get(self, question: Question, view: View) -> CachedDecision | None:
        """Returns the cached decision of the question, if it still stands."""
        cached = self._kept.get(_key(question))
        return cached if cached is not None and cached.stands(question, view) else None

    def put(self, question: Question, decided: CachedDecision) -> None:
        """Caches the decision, if it can be reused."""
        if decided.until is not None and not decided.is_large:
            self._kept.put(_key(question), decided)


def _results_are_same(conditions: Iterable[tuple[Candidate, Judgement]], question: Question, view: View) -> bool:
    return all(judge_condition(grant, question, view.now, view.signals) == judgement for grant, judgement in conditions)


def _key(question: Question) -> _Key:
    """Returns the fields of a question that a decision without conditions reads."""
    return question.subject, question.action, question.resource, question.groups, question.groups_left_out
