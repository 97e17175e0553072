"""The use case of Check: answer from committed state, and record the answer before giving it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Final

from jit_service.check.batcher import Batcher
from jit_service.check.evidence import stored_evidence
from jit_service.check.grant_cache import MAX_PAST, GrantCache
from jit_service.check.index import View
from jit_service.check.questions import CheckRequest, Consistency, RefusedItem, demand_bounded
from jit_service.check.recording import CheckResult, Recording, count_decisions
from jit_service.domain.caller import Caller
from jit_service.domain.checks.decision import Question, check_event, decide
from jit_service.domain.checks.decision_id import decision_ids
from jit_service.domain.checks.policy_set import PolicySet
from jit_service.domain.checks.uses import count_use
from jit_service.domain.errors import InvalidField, JitError
from jit_service.domain.grants.lock import demand_unlocked_caller
from jit_service.storage import SharedContexts, Store
from jit_service.tracing import spans

MAX_ITEMS: Final = 1000
"""How many questions one batch may have."""
_MAX_COMBINED: Final = 64


class Checker:
    """Answers questions. Every method raises StoreUnavailable if its data may be stale, and Locked for a locked caller.

    It answers from the cached grants where they suffice. A grant that counts its uses is read and counted in one
    transaction.
    """

    def __init__(self, store: Store, grants: GrantCache, answers: Recording) -> None:
        self._store = store
        self._grants = grants
        self._answers = answers
        self._batchers: dict[Consistency, Batcher[CheckRequest, CheckResult | None]] = {
            consistency: Batcher(partial(self.check_batch, consistency=consistency), most=_MAX_COMBINED)
            for consistency in Consistency
        }

    def check(
        self,
        caller: Caller,
        question: Question,
        *,
        min_revision: int = 0,
        consistency: Consistency = Consistency.STRONG,
    ) -> CheckResult:
        """Answers one question. Raises InvalidField for a `min_revision` that the store has not reached."""
        request = CheckRequest(caller, question, min_revision)
        if consistency is Consistency.STRONG or self._answers.waits:
            # The read of the store and the commit cost most; all callers that ask at the same time share them.
            with spans.part("check"):
                result = self._batchers[consistency].submit(request)
            if result is not None:
                return result
        return self._check_alone(request, consistency)

    def check_batch(self, requests: Sequence[CheckRequest], consistency: Consistency) -> list[CheckResult | None]:
        """Answers questions of several callers, all asked before this call: one read of the store, one commit.

        A result is None if the question must go to `check`: it reads or changes the store, or is refused.
        """
        view = self._view([request.question.subject for request in requests], 0, consistency)
        plain: Sequence[CheckRequest | None] = requests
        if view.locks or any(request.min_revision for request in requests):
            plain = [request if _is_plain(request, view) else None for request in requests]
        return self._answers.answer(plain, view, self._grants.known_past)

    def check_many(
        self,
        caller: Caller,
        items: Sequence[Question | RefusedItem],
        *,
        min_revision: int = 0,
        consistency: Consistency = Consistency.STRONG,
    ) -> list[CheckResult | JitError]:
        """Answers the questions in order, at one revision and instant; returns the error of a RefusedItem.

        A question that rests on a grant which counts its uses is answered after the others, at its own instant. Raises
        InvalidField for a `min_revision` that the store has not reached.
        """
        demand_bounded(item.context if isinstance(item, Question) else item.about.context for item in items)
        subjects = {item.subject for item in items if isinstance(item, Question)}
        view = self._view(subjects, min_revision, consistency)
        demand_unlocked_caller(view.locks, caller)
        shared = SharedContexts()
        answers = self._answers.answer_batch(caller, items, view, self._grants.past, shared)
        return [
            self._in_transaction(caller, item, shared)
            if answer is None and isinstance(item, Question)
            else _demand_answer(answer)
            for item, answer in zip(items, answers, strict=True)
        ]

    def _check_alone(self, request: CheckRequest, consistency: Consistency) -> CheckResult:
        view = self._view((request.question.subject,), request.min_revision, consistency)
        demand_unlocked_caller(view.locks, request.caller)
        (result,) = self._answers.answer([request], view, self._grants.past)
        return result or self._in_transaction(request.caller, request.question)

    def _view(self, subjects: Iterable[str], min_revision: int, consistency: Consistency) -> View:
        if min_revision < 0:
            raise InvalidField("min_revision", f"is {min_revision}; must be 0 or a revision from an answer")
        if consistency is Consistency.BOUNDED:
            view = self._grants.bounded(subjects)
            if view.revision >= min_revision:
                return view
        view = self._grants.strong(subjects)
        if min_revision > view.revision:
            raise InvalidField("min_revision", f"is {min_revision}; the store is at revision {view.revision}")
        return view

    def _in_transaction(self, caller: Caller, question: Question, shared: SharedContexts | None = None) -> CheckResult:
        """Answers a question that may rest on a grant which counts its uses.

        One transaction makes the decision, counts the use and records the answer.
        """
        result = self._decide_in_transaction(caller, question, shared)
        count_decisions([result])
        return result

    def _decide_in_transaction(self, caller: Caller, question: Question, shared: SharedContexts | None) -> CheckResult:
        with self._store.transaction() as tx:
            held = tx.live_grants(question.subject)
            evidence = stored_evidence(tx, held, now=tx.now)
            decision = decide(question, grants=held, evidence=evidence)
            if not decision.allowed:
                held += tx.past_grants(question.subject, limit=MAX_PAST)
                evidence = evidence._replace(above=tx.ancestors(held))
                decision = decide(question, grants=held, evidence=evidence)
            decided = self._answers.complete(question, decision, PolicySet(tx.policies()))
            (decision_id,) = decision_ids(1, at=tx.now)
            # The result names the revision before this save of the uses, which moves it on.
            result = CheckResult(question, decided, decision_id, tx.revision, tx.now)
            rests_on = next((grant for grant in held if grant is decision.grant), None)
            allowed_by = rests_on if decision.allowed else None
            tx.save_uses(
                count_use(allowed_by, evidence.above, now=tx.now) if allowed_by is not None else [],
                check_event(
                    caller,
                    question,
                    decision,
                    at=tx.now,
                    decision_id=decision_id,
                    revision=result.revision,
                    context_of=shared.first_of(question.context, decision_id) if shared is not None else "",
                ),
            )
            return result


def _is_plain(request: CheckRequest, view: View) -> bool:
    """Returns whether the view has the request's revision and no lock on its caller."""
    return 0 <= request.min_revision <= view.revision and not (view.locks and view.locks.on_caller(request.caller))


def _demand_answer(answer: CheckResult | JitError | None) -> CheckResult | JitError:
    if answer is None:
        raise AssertionError("an item has no answer")
    return answer
