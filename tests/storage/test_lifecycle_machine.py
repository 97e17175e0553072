"""The use cases on SQLite and on PostgreSQL, side by side, against the reference model (invariant I22)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from jit_service.storage import Store
from jit_service.use_cases import delegations, grants, proposals
from tests import checking
from tests.conftest import Clock
from tests.storage.commits import CommitMachine
from tests.storage.stored import Naming, Stored

# `make machines` walks longer.
EXAMPLES = int(os.environ.get("EXAMPLES", "4"))


@pytest.fixture
def naming(monkeypatch: pytest.MonkeyPatch) -> Naming:
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


def test_both_databases_give_the_models_answers(stores: dict[str, Stored], clock: Clock) -> None:
    def set_clock(now: datetime) -> None:
        clock.now = now

    def fresh() -> CommitMachine:
        for store in stores.values():
            store.empty()
        return CommitMachine(stores, set_clock)

    run_state_machine_as_test(
        fresh,  # type: ignore[arg-type]
        settings=settings(max_examples=EXAMPLES, stateful_step_count=30, deadline=None),
    )
