"""Decisions that are given again: while everything that they were made from is the very same.

A decision is made from the subject's grants, the policies and the locks, which are immutable and replaced whenever a
commit changes them, from the time, and from what its grants' conditions say. So it stands while all are still the same
objects, no instant has come at which one of its grants begins or ends, and the conditions say the same. It is looked up
in a view that has passed the barrier like any other, so a decision that is given again is as fresh as one that is made
(docs/adr/0033-cache-decisions-by-object-identity.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Final
from weakref import ref

from jit_service.check.index import Held, Sight
from jit_service.domain.checks.decision import Candidate, Decision, Question, judged_by_condition
from jit_service.domain.checks.policy_set import PolicyBook
from jit_service.domain.conditions.condition import Judgement
from jit_service.domain.generational_cache import Recent
from jit_service.domain.grants.lock import NO_LOCKS, Locks
from jit_service.storage import Parts

MAX_JUDGED: Final = 10_000
"""For how many questions a decision is kept; for twice as many at most, at about 1.5 KiB each."""
_MAX_TEXT: Final = 512
_MAX_LISTED: Final = 32


def _nothing() -> None:
    """What nothing rests on."""


class Judged:
    """A decision, with the policies that a no could be asked under.

    It rests on `held`, `book`, `locks` and what the `conditions` say, and stands until `until`; None where it rests on
    more than those. `encoded` and `recorded` are for those who answer and record it: what they made of what lasts.
    """

    __slots__ = ("book", "conditions", "decision", "encoded", "held", "locks", "recorded", "requestable", "until")

    def __init__(
        self,
        decision: Decision,
        requestable: tuple[str, ...],
        *,
        held: Held | None = None,
        book: PolicyBook | None = None,
        conditions: tuple[tuple[Candidate, Judgement], ...] = (),
        until: datetime | None = None,
        locks: Locks = NO_LOCKS,
    ) -> None:
        self.decision = decision
        self.requestable = requestable
        # One that is not asked for again must not hold on to a whole book of policies that nobody reads any more.
        self.held: Callable[[], Held | None] = ref(held) if held is not None else _nothing
        self.book: Callable[[], PolicyBook | None] = ref(book) if book is not None else _nothing
        self.conditions = conditions
        self.until = until
        self.locks = locks
        self.encoded: bytes | None = None
        self.recorded: Parts | None = None

    @property
    def is_large(self) -> bool:
        """Whether it is not worth its place in memory."""
        return len(self.decision.message) > _MAX_TEXT or (
            len(self.decision.findings) + len(self.requestable) > _MAX_LISTED
        )


_Key = tuple[str, str, str, frozenset[str] | None, bool]


class Judgements:
    """See the module. For any thread."""

    def __init__(self) -> None:
        self._kept: Recent[_Key, Judged] = Recent(MAX_JUDGED)

    def of(self, asked: Question, sight: Sight) -> Judged | None:
        """Returns what was judged of the question and still stands."""
        judged = self._kept.get(_key(asked))
        if (
            judged is not None
            and judged.held() is sight.held[asked.subject]
            and judged.book() is sight.book
            and judged.locks is sight.locks
            and judged.until is not None
            and sight.now < judged.until
            and (not judged.conditions or _say_the_same(judged.conditions, asked, sight))
        ):
            return judged
        return None

    def keep(self, asked: Question, judged: Judged) -> None:
        """Keeps what was judged of the question, where it may be given again."""
        if judged.until is not None and not judged.is_large:
            self._kept.put(_key(asked), judged)


def _say_the_same(conditions: Iterable[tuple[Candidate, Judgement]], asked: Question, sight: Sight) -> bool:
    return all(
        judged_by_condition(grant, asked, sight.now, sight.signals) == judgement for grant, judgement in conditions
    )


def _key(asked: Question) -> _Key:
    """Returns all of a question that is read without a condition."""
    return asked.subject, asked.action, asked.resource, asked.groups, asked.groups_left_out
