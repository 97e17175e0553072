"""Vulnerable twins of the use cases: the machine of the reference model, as it walks by itself, must catch each.

Fixed tests catch them too; these show that the machine looks where writes are bound, by plans, etags,
request_ids and locks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from jit_service.domain.grants import lock, quorum
from jit_service.domain.policies import diff, proposal
from jit_service.storage import Store
from jit_service.use_cases import bulk_revocation, delegations, grants, idempotency, policies, proposals, signals
from tests import checking
from tests.conftest import Clock
from tests.domain.test_sown_bugs import Twin, demand_caught
from tests.storage.commits import CommitMachine
from tests.storage.stored import Naming, Stored

NO_ETAG = "pass"
TWINS: list[tuple[str, Callable[..., Any], str, str]] = [
    ("a plan that never goes stale", bulk_revocation.execute, "if current.id != plan_id:", "if False:"),
    ("a proposal that never goes stale", proposal._demand_unchanged, "if found != expected:", "if False:"),
    ("an update of what was not read", policies.update, "etags.demand(etag, name, before.revision)", NO_ETAG),
    ("a deletion of what was not read", policies.delete, "etags.demand(etag, name, before.revision)", NO_ETAG),
    (
        "a set over what was not read",
        diff.difference,
        "etags.demand(entry.etag, policy.name, current.revision if current else 0)",
        NO_ETAG,
    ),
    (
        "a signal over what was not read",
        signals.put,
        "etags.demand(etag, wanted.name, current.revision if current else 0)",
        NO_ETAG,
    ),
    ("an end of a delegation not read", delegations.delete, "etags.demand(etag, name, found.revision)", NO_ETAG),
    ("an approval of a proposal not read", proposals.approve, "etags.demand(etag, name, found.revision)", NO_ETAG),
    (
        "a request_id that serves everybody",
        idempotency.answered_before,
        "(earlier.principal, earlier.digest) != (caller.principal, caller.request_digest)",
        "earlier.digest != caller.request_digest",
    ),
    (
        "a request_id that serves any body",
        idempotency.answered_before,
        "(earlier.principal, earlier.digest) != (caller.principal, caller.request_digest)",
        "earlier.principal != caller.principal",
    ),
    (
        "a request that is asked for again",
        grants.ask,
        "(earlier := answered_before(tx, caller, _GRANTS)) is not None",
        "(earlier := None) is not None",
    ),
    (
        "an answer that is sent again to who may not see it",
        grants._change,
        "grant = read_visible(tx, by, name)\n        if (earlier := answered_before(tx, caller, _GRANTS)) is not None:"
        "\n            return GrantAnswer(*earlier)",
        "if (earlier := answered_before(tx, caller, _GRANTS)) is not None:\n            return GrantAnswer(*earlier)"
        "\n        grant = read_visible(tx, by, name)",
    ),
    (
        "a request of the locked",
        lock.demand_unlocked_people,
        "demand_unlocked(locks, grant.requester, grant.requester_groups)",
        "pass",
    ),
    ("an approval of the locked that counts", quorum.counting_reviews, "not _is_locked(review, locks)", "True"),
]


@pytest.fixture
def walk(sqlite_url: str, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """The machine on SQLite, by the same steps each time, up to the first thing that is not as the model says."""
    naming = Naming()
    for module in (grants, delegations, proposals):
        monkeypatch.setattr(module, "new_name", naming)
    store = Store(sqlite_url, clock=clock)
    stored = Stored(store, naming)

    def set_clock(now: datetime) -> None:
        clock.now = now

    def fresh() -> CommitMachine:
        stored.empty()
        return CommitMachine({"sqlite": stored}, set_clock)

    steps = settings(
        max_examples=1000,
        stateful_step_count=30,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        report_multiple_bugs=False,
    )
    yield lambda: run_state_machine_as_test(fresh, settings=steps)  # type: ignore[arg-type]
    checking.stop(store)
    store.close()


@pytest.mark.parametrize(("name", "function", "sound", "bug"), TWINS, ids=[twin[0] for twin in TWINS])
def test_the_machine_catches(
    name: str,
    function: Callable[..., Any],
    sound: str,
    bug: str,
    walk: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    demand_caught(Twin(name, function, sound, bug, walk), monkeypatch)
