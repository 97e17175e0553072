"""What was answered live at each instant of a random history is answered again when it is asked about later."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime

import pytest
from hypothesis import settings
from hypothesis.stateful import invariant, run_state_machine_as_test

from jit_service.check import MAX_PAST, AuditMode, GrantCache, Recorder
from jit_service.check.evidence import stored_evidence
from jit_service.check.questions import past_question, question
from jit_service.check.search import Searcher, search_query
from jit_service.domain.caller import Caller, Role
from jit_service.domain.checks.decision import Decision, decide
from jit_service.domain.checks.search import SearchMatch
from jit_service.storage import Store
from jit_service.use_cases.past_access import PastAccess
from tests import checking
from tests.conftest import HOUR, Clock
from tests.model.facts import ACTIONS, RESOURCES
from tests.model.small_world import ALIAS, GROUPS_AT_FIRST
from tests.storage.commits import CommitMachine
from tests.storage.stored import Naming, Stored

EXAMPLES = int(os.environ.get("EXAMPLES", "2"))
STEPS = 15
# As what conditions see of the asker is not on record, the same one asks then and later.
ASKER = Caller(principal="user:auditor@example.com", roles=frozenset({Role.AUDITOR, Role.CHECKER}), exact=(ALIAS,))
_WHERE = [(action, resource) for action in ACTIONS for resource in RESOURCES]
Shown = tuple[str, str, str]
Asked = tuple[str, str, str]


class Answering:
    """One store, asked about now and about then."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.view = GrantCache(store, clock=store.clock, bound=HOUR)
        self.recorder = Recorder(store, AuditMode.OFF)
        self.searcher = Searcher(store, self.view, self.recorder)
        self.past = PastAccess(store, self.recorder)
        self.told: dict[datetime, tuple[dict[Asked, Shown], dict[tuple[str, str], list[Shown]]]] = {}

    def tell(self) -> None:
        """Keeps what is answered now. What is answered later at the same instant takes its place."""
        with self.store.snapshot() as snapshot:
            now = snapshot.now
        # Of all that could be asked two of what and where each time, in turn.
        chosen = [_WHERE[(2 * len(self.told) + number) % len(_WHERE)] for number in range(2)]
        checks = {
            (subject, *where): _shown(self.check(subject, *where)) for subject in GROUPS_AT_FIRST for where in chosen
        }
        self.told[now] = checks, {where: self.who(*where) for where in chosen}

    def check(self, subject: str, action: str, resource: str) -> Decision:
        """As the checker decides in a transaction, which a grant that counts its uses needs; but it counts none."""
        asked = question(ASKER, subject=subject, action=action, resource=resource)
        with self.store.snapshot() as snapshot:
            held = snapshot.live_grants(asked.subject)
            decision = decide(asked, grants=held, evidence=stored_evidence(snapshot, held, now=snapshot.now))
            if not decision.allowed:
                held += snapshot.past_grants(asked.subject, limit=MAX_PAST)
                decision = decide(asked, grants=held, evidence=stored_evidence(snapshot, held, now=snapshot.now))
            return decision

    def who(self, action: str, resource: str) -> list[Shown]:
        wanted = search_query(ASKER, subject="", action=action, resource=resource)
        return [_found(one) for one in self.searcher.search(ASKER, wanted).found]

    def demand_same(self) -> None:
        """Asks about every instant again: one search of each, and of the checks some, first those with a reason."""
        for at, (checks, searches) in self.told.items():
            for (action, resource), found in list(searches.items())[:1]:
                wanted = search_query(ASKER, subject="", action=action, resource=resource, read_at=at)
                again = self.past.search(ASKER, wanted, page_size=0, page_token="").found
                assert [_found(one) for one in again] == found, (at, action, resource)
            for asked in sorted(checks, key=lambda asked: checks[asked][0] == "NO_GRANT")[:4]:
                subject, action, resource = asked
                then = past_question(ASKER, subject=subject, action=action, resource=resource)
                assert _shown(self.past.check(ASKER, then, at).decision) == checks[asked], (at, asked)

    def stop(self) -> None:
        self.recorder.stop()
        self.view.stop()


class PastMachine(CommitMachine):
    """The world of the model on stores whose past is asked about."""

    def __init__(self, services: Mapping[str, Stored], set_clock: Callable[[datetime], None]) -> None:
        self.answering = {kind: Answering(each.store) for kind, each in services.items()}
        super().__init__(services, set_clock)

    @invariant()
    def what_is_answered_now_is_kept(self) -> None:
        for each in self.answering.values():
            each.tell()

    def teardown(self) -> None:
        try:
            for each in self.answering.values():
                each.demand_same()
        finally:
            for each in self.answering.values():
                each.stop()
            super().teardown()


@pytest.fixture
def naming(monkeypatch: pytest.MonkeyPatch) -> Naming:
    from jit_service.use_cases import delegations, grants, proposals

    naming = Naming()
    monkeypatch.setattr(grants, "new_name", naming)
    for module in (delegations, proposals):
        monkeypatch.setattr(module, "name_in_order", naming)
    return naming


@pytest.fixture
def stores(sqlite_url: str, postgresql_url: str, clock: Clock, naming: Naming) -> Iterator[dict[str, Stored]]:
    both = {"sqlite": Store(sqlite_url, clock=clock), "postgresql": Store(postgresql_url, clock=clock)}
    yield {kind: Stored(store, naming) for kind, store in both.items()}
    for store in both.values():
        checking.stop(store)
        store.close()


def walk(stores: dict[str, Stored], clock: Clock, examples: int, steps: int) -> None:
    def set_clock(now: datetime) -> None:
        clock.now = now

    def fresh() -> PastMachine:
        for store in stores.values():
            store.empty()
        return PastMachine(stores, set_clock)

    run_state_machine_as_test(
        fresh,  # type: ignore[arg-type]
        settings=settings(max_examples=examples, stateful_step_count=steps, deadline=None),
    )


def test_the_past_is_answered_as_it_was_answered_then(stores: dict[str, Stored], clock: Clock) -> None:
    walk(stores, clock, EXAMPLES, STEPS)


def _shown(decision: Decision) -> Shown:
    grant = decision.grant
    return decision.reason, decision.message, "" if grant is None else f"{grant.name} until {grant.expires_at}"


def _found(match: SearchMatch) -> Shown:
    return match.name, match.grant.name, str(match.grant.expires_at)
