"""The use cases of the past: what was allowed at an instant, from the record.

They read the store at each call. Nothing that Check keeps in memory is read or changed, and no use is counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import islice
from typing import Final

from jit_service.check import MAX_PAST, Recorder
from jit_service.check.search import SearchPage, SearchQuery, by_subject, search_digest, search_event
from jit_service.domain.caller import Caller
from jit_service.domain.checks import past
from jit_service.domain.checks.decision import Decision, Question, decide
from jit_service.domain.checks.decision_id import decision_ids
from jit_service.domain.checks.evidence import Evidence
from jit_service.domain.checks.search import SearchMatch, Side, search_names, search_subjects
from jit_service.domain.conditions import condition
from jit_service.domain.conditions.signal import NO_SIGNALS, Signals
from jit_service.domain.errors import InvalidField
from jit_service.domain.grants.grant import Grant
from jit_service.domain.grants.lock import Locks
from jit_service.domain.language import paging
from jit_service.domain.policies.policy import Policy
from jit_service.storage import Snapshot, Store, payload_of
from jitaccess.naming import rfc3339

MAX_JUDGED: Final = 10_000
"""How many grants one answer about the past judges."""


@dataclass(frozen=True, kw_only=True)
class PastCheck:
    """The answer about the instant `read_at`, made at `at` from the record of the revision.

    `not_on_record` is what nobody can know of that instant.
    """

    question: Question
    decision: Decision
    decision_id: str
    read_at: datetime
    revision: int
    at: datetime
    not_on_record: tuple[str, ...]


class PastAccess:
    """Answers about past instants. Every method raises InvalidField for an instant that is not on record."""

    def __init__(self, store: Store, recorder: Recorder) -> None:
        self._store = store
        self._recorder = recorder

    def check(self, caller: Caller, question: Question, read_at: datetime) -> PastCheck:
        """Answers the question as of the instant. Raises InvalidField, also for too many grants of the subject."""
        with self._store.snapshot() as snapshot:
            then = _Then(snapshot, read_at)
            grants = then.grants(_bounded(snapshot.live_names_as_of(question.subject, read_at, limit=MAX_JUDGED + 1)))
            evidence = then.evidence(grants)
            decision = decide(question, grants=grants, evidence=evidence)
            if not decision.allowed:
                # As for a check of now: what is over allows nothing, but it explains a no.
                grants += snapshot.past_grants(question.subject, limit=MAX_PAST, at=read_at)
                evidence = then.evidence(grants)
                decision = decide(question, grants=grants, evidence=evidence)
            judged = [finding.grant for finding in decision.findings]
            then.note(past.not_on_record(question, judged, evidence))
            (decision_id,) = decision_ids(1, at=snapshot.now)
            answer = PastCheck(
                question=question,
                decision=decision,
                decision_id=decision_id,
                read_at=read_at,
                revision=snapshot.revision,
                at=snapshot.now,
                not_on_record=then.not_on_record,
            )
        self._record_check(caller, answer)
        return answer

    def search(self, caller: Caller, wanted: SearchQuery, *, page_size: int, page_token: str) -> SearchPage:
        """Returns a page of the names that would have been found at `wanted.read_at`, sorted. Raises InvalidField.

        A page may end before it is full, where too many grants had to be judged for it; its token continues.
        """
        if wanted.read_at is None:
            raise AssertionError("a search of now is for the Searcher")
        size = paging.page_size(page_size)
        query = search_digest(caller, wanted)
        after = str(paging.decode(page_token, query=query, shape=[str])[0]) if page_token else ""
        with self._store.snapshot() as snapshot:
            then = _Then(snapshot, wanted.read_at)
            search = then.subjects if wanted.side is Side.SUBJECT else then.names
            found, last = search(wanted, after, size)
            searched = SearchPage(
                found=found,
                next_page_token=paging.encode((last,), query=query) if last else "",
                revision=snapshot.revision,
                at=snapshot.now,
                read_at=wanted.read_at,
                not_on_record=then.not_on_record,
            )
        if self._recorder.wants(allowed=bool(found)):
            self._recorder.record((payload_of(search_event(caller, wanted, searched)),), at=searched.at)
        return searched

    def _record_check(self, caller: Caller, answer: PastCheck) -> None:
        if self._recorder.wants(allowed=answer.decision.allowed):
            event = past.past_check_event(
                caller,
                answer.question,
                answer.decision,
                about=answer.read_at,
                at=answer.at,
                decision_id=answer.decision_id,
                revision=answer.revision,
            )
            self._recorder.record((payload_of(event),), at=answer.at)


_Found = tuple[tuple[SearchMatch, ...], str]
"""A page, and the name after which the next one begins; empty for the last page."""


class _Then:
    """What the record says of one instant. Policies, locks and signals are read once, and signals only if needed."""

    def __init__(self, snapshot: Snapshot, at: datetime) -> None:
        begins_at = snapshot.record_begins_at()
        if snapshot.log_beginning.was_pruned and begins_at is not None and at < begins_at:
            raise snapshot.log_beginning.pruned("read_time", f"is {rfc3339.exact(at)}")
        snapshot.grant_beginning.demand_known(at, "read_time")
        past.demand_on_record(at, begins_at=begins_at, now=snapshot.now)
        self._snapshot = snapshot
        self._at = at
        self._notes: list[str] = []

    @property
    def not_on_record(self) -> tuple[str, ...]:
        """What nobody can know, of all that was judged."""
        return past.bounded(self._notes)

    def note(self, notes: Iterable[str]) -> None:
        """Adds what is not on record."""
        self._notes += notes

    def grants(self, names: Iterable[str]) -> list[Grant]:
        """Returns the grants of the names as they were. One whose changes do not reach back is left out, and noted."""
        known: list[Grant] = []
        for name in names:
            if (grant := self._snapshot.grant_as_of(name, self._at)) is not None:
                known.append(grant)
            else:
                self._notes.append(f"how {name} was then is not on record; it was left out")
        return known

    def evidence(self, grants: Sequence[Grant]) -> Evidence[Grant]:
        """Returns what else a decision on these grants rests on."""
        above = self.grants(dict.fromkeys(name for grant in grants for name in grant.chain))
        reads_signals = any(condition.mentions(grant.check_condition, "signals") for grant in grants)
        return Evidence(
            policies=self._denying,
            now=self._at,
            signals=self._signals if reads_signals else NO_SIGNALS,
            above={grant.name: grant for grant in above},
            locks=self._locks,
        )

    def names(self, wanted: SearchQuery, after: str, size: int) -> _Found:
        """Returns the actions or resources that the subject was allowed."""
        asked = wanted.question
        scopes = self._snapshot.scopes_as_of(self._at, subject=asked.subject)
        reaching = by_subject(scopes, wanted).get(asked.subject, ())
        held = self.grants(_bounded(sorted(scope.grant for scope in reaching)))
        evidence = self.evidence(held)
        self.note(past.not_on_record(asked, held, evidence))
        found = tuple(islice(search_names(asked, wanted.side, held, evidence, wants=after.__lt__), size + 1))
        page = found[:size]
        return page, page[-1].name if len(found) > size else ""

    def subjects(self, wanted: SearchQuery, after: str, size: int) -> _Found:
        """Returns the subjects that were allowed. Only those of the page are judged."""
        scopes = (scope for scope in self._snapshot.scopes_as_of(self._at) if scope.subject > after)
        found: list[SearchMatch] = []
        judged, last = 0, ""
        for subject, reaching in sorted(by_subject(scopes, wanted).items()):
            if len(found) == size or (last and judged + len(reaching) > MAX_JUDGED):
                return tuple(found), last
            judged, last = judged + len(reaching), subject
            held = self.grants(sorted(scope.grant for scope in reaching))
            evidence, asked = self.evidence(held), wanted.of(subject)
            self.note(past.not_on_record(asked, held, evidence))
            found += search_subjects([(asked, held)], evidence)
        return tuple(found), ""

    @cached_property
    def _denying(self) -> list[Policy]:
        return [policy for policy in self._snapshot.policies_as_of(self._at) if policy.deny and policy.in_force]

    @cached_property
    def _signals(self) -> Signals:
        return self._snapshot.signals_as_of(self._at)

    @cached_property
    def _locks(self) -> Locks:
        return self._snapshot.locks_as_of(self._at)


def _bounded(names: Sequence[str]) -> Sequence[str]:
    if len(names) > MAX_JUDGED:
        raise InvalidField("subject", f"held more than {MAX_JUDGED:,} grants that had to be judged; ask about less")
    return names
