"""Decisions that are given again: while everything that they were made from is the very same.

A decision is made from the subject's grants and the policies, which are immutable and replaced whenever a commit
changes them, and from the time. So it stands while both are still the same objects and no instant has come at which
one of its grants begins or ends. It is looked up in a view that has passed the barrier like any other, so a decision
that is given again is as fresh as one that is made (docs/adr/0033-decisions-that-are-given-again.md).
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from jit_service.check.index import Held, Sight
from jit_service.domain.decision import Decision, Question
from jit_service.domain.policy_book import PolicyBook
from jit_service.domain.recent import Recent

MAX_JUDGED: Final = 10_000
"""For how many questions a decision is kept; for twice as many at most, at about 1.5 KiB each."""
_MAX_TEXT: Final = 512
_MAX_LISTED: Final = 32


class Judged:
    """A decision, with the policies that a no could be asked under.

    `encoded` and `recorded` are for those who answer and record it: what they made of the parts that last.
    """

    __slots__ = ("decision", "encoded", "recorded", "requestable")

    def __init__(self, decision: Decision, requestable: tuple[str, ...]) -> None:
        self.decision = decision
        self.requestable = requestable
        self.encoded: bytes | None = None
        self.recorded: tuple[str, str] | None = None


class _Kept:
    """What was judged, and what it rests on: it may be given again before `until`."""

    __slots__ = ("book", "held", "judged", "until")

    def __init__(self, judged: Judged, held: Held, book: PolicyBook, until: datetime) -> None:
        self.judged = judged
        self.held = held
        self.book = book
        self.until = until


_Key = tuple[str, str, str, frozenset[str] | None]


class Judgements:
    """See the module. For any thread. Decisions that read anything else of a question are not for it."""

    def __init__(self) -> None:
        self._kept: Recent[_Key, _Kept] = Recent(MAX_JUDGED)

    def of(self, asked: Question, sight: Sight) -> Judged | None:
        """Returns what was judged of the question and still stands."""
        kept = self._kept.get((asked.subject, asked.action, asked.resource, asked.groups))
        if kept is None or kept.held is not sight.held[asked.subject] or kept.book is not sight.book:
            return None
        return kept.judged if sight.now < kept.until else None

    def keep(self, asked: Question, sight: Sight, judged: Judged, *, until: datetime) -> None:
        """Keeps what was judged in this view, unless it is unusually large."""
        decision = judged.decision
        if len(decision.message) > _MAX_TEXT or len(decision.findings) + len(judged.requestable) > _MAX_LISTED:
            return
        key = (asked.subject, asked.action, asked.resource, asked.groups)
        self._kept.put(key, _Kept(judged, sight.held[asked.subject], sight.book, until))
