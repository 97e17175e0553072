"""Answers questions from one view, and records the answers before they are given."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from operator import attrgetter
from typing import NamedTuple

from jit_service.check.deciding import Decider, Past
from jit_service.check.decision_cache import CachedDecision
from jit_service.check.index import View
from jit_service.check.questions import CheckRequest, RefusedItem
from jit_service.check.recorder import AuditMode, Recorder
from jit_service.domain.audit.refusal import refusal_event
from jit_service.domain.caller import Caller
from jit_service.domain.checks.decision import Decision, Question, Reason
from jit_service.domain.checks.decision_id import decision_ids
from jit_service.domain.errors import JitError
from jit_service.domain.frozen import replace
from jit_service.metrics.catalogue import DECISIONS
from jit_service.storage import CheckRecords, SharedContexts, payload_of


class CheckResult(NamedTuple):
    """An answer, with the revision and instant that it rests on.

    `staleness` is how old its view may be; None for a view that includes every commit.
    """

    question: Question
    decided: CachedDecision
    decision_id: str
    revision: int
    at: datetime
    staleness: timedelta | None = None

    @property
    def decision(self) -> Decision:
        return self.decided.decision

    @property
    def requestable(self) -> tuple[str, ...]:
        """The policies under which the subject of a no can ask for access."""
        return self.decided.requestable


_REASON = attrgetter("decided.decision.reason")


class Recording:
    """Has `decider` decide questions, and records each answer as the recorder's mode says."""

    def __init__(self, decider: Decider, recorder: Recorder) -> None:
        self._decider = decider
        self._recorder = recorder
        self.complete = decider.complete

    @property
    def waits(self) -> bool:
        """Whether an answer may wait for the commit of its record."""
        return self._recorder.mode is not AuditMode.OFF

    def answer(self, requests: Sequence[CheckRequest | None], view: View, past: Past) -> list[CheckResult | None]:
        """Returns the answers in order, recorded in one commit.

        An answer is None if the request is None or if only a transaction can answer it. Raises StoreUnavailable if the
        record fails; then no answer may be given.
        """
        ids = decision_ids(len(requests), at=view.now)
        results = [
            None if request is None else self._result(request.question, view, past, id_)
            for request, id_ in zip(requests, ids, strict=True)
        ]
        records = CheckRecords(at=view.now, revision=view.revision)
        payloads, digests = [], []
        for request, result in zip(requests, results, strict=True):
            if request is None or result is None or not self._recorder.wants(allowed=result.decided.decision.allowed):
                continue
            recorded = result.decided.recorded
            payloads.append(records.payload(request.caller, request.question, recorded, result.decision_id))
            digests.append(records.digests(request.caller, request.question, recorded))
        self._record(payloads, digests, at=view.now)
        count_decisions(results)
        return results

    def answer_batch(
        self, caller: Caller, items: Sequence[Question | RefusedItem], view: View, past: Past, shared: SharedContexts
    ) -> list[CheckResult | JitError | None]:
        """Answers the items of one caller's batch as `answer` does; records refused items, and equal contexts once."""
        records = CheckRecords(at=view.now, revision=view.revision)
        answers: list[CheckResult | JitError | None] = []
        payloads: list[bytes] = []
        digests: list[bytes] = []
        for item, id_ in zip(items, decision_ids(len(items), at=view.now), strict=True):
            if isinstance(item, RefusedItem):
                answers.append(item.error)
                payloads.append(_refusal(caller, item, shared, id_, at=view.now))
                continue
            result = self._result(item, view, past, id_)
            answers.append(result)
            if result is not None and self._recorder.wants(allowed=result.decision.allowed):
                payloads.append(records.payload(caller, item, result.decided.recorded, id_, shared))
                digests.append(records.digests(caller, item, result.decided.recorded))
        self._record(payloads, digests, at=view.now)
        count_decisions(answer for answer in answers if isinstance(answer, CheckResult))
        return answers

    def _result(self, question: Question, view: View, past: Past, decision_id: str) -> CheckResult | None:
        if (decided := self._decider.decide(question, view, past)) is None:
            return None
        return CheckResult(question, decided, decision_id, view.revision, view.now, view.staleness)

    def _record(self, payloads: Sequence[bytes], digests: Sequence[bytes], *, at: datetime) -> None:
        if payloads:
            self._recorder.record(payloads, at=at, digests=digests)


def count_decisions(results: Iterable[CheckResult | None]) -> None:
    """Counts the decisions that are given as answers, together: one by one it would take longer."""
    for reason, count in Counter(map(_REASON, filter(None, results))).items():
        DECISIONS.add("allowed" if reason is Reason.ALLOWED else "denied", reason.value, by=count)


def _refusal(caller: Caller, item: RefusedItem, shared: SharedContexts, decision_id: str, *, at: datetime) -> bytes:
    """Returns the record of a refused item, with an id of its own; only the first of equal contexts is in a record."""
    event = refusal_event(caller, item.error, item.about, at=at)
    first = shared.first_of(event.context, decision_id)
    return payload_of(replace(event, decision_id=decision_id, context={} if first else event.context, context_of=first))
