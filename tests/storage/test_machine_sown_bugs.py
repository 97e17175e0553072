"""Vulnerable twins of the use cases: the machine of the reference model must catch each.

Fixed tests catch them too; these show that the machine looks where writes are bound, by plans, etags,
request_ids and locks. Each twin names the rules of the machine that look there, and a walk by those rules alone
must catch it: so a rule that stops to look fails here, and no walk spends its steps elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import RULE_MARKER, run_state_machine_as_test

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
TWINS: list[tuple[str, tuple[str, ...], Callable[..., Any], str, str]] = [
    (
        "a plan that never goes stale",
        ("plan_and_carry_out",),
        bulk_revocation.execute,
        "if current.id != plan_id:",
        "if False:",
    ),
    (
        "a proposal that never goes stale",
        ("propose_and_approve",),
        proposal._demand_unchanged,
        "if found != expected:",
        "if False:",
    ),
    (
        "an update of what was not read",
        ("read_and_change_a_policy",),
        policies.update,
        "etags.demand(etag, name, before.revision)",
        NO_ETAG,
    ),
    (
        "a deletion of what was not read",
        ("read_and_change_a_policy",),
        policies.delete,
        "etags.demand(etag, name, before.revision)",
        NO_ETAG,
    ),
    (
        "a set over what was not read",
        ("read_and_change_a_policy",),
        diff.difference,
        "etags.demand(entry.etag, policy.name, current.revision if current else 0)",
        NO_ETAG,
    ),
    (
        "a signal over what was not read",
        ("read_and_change_the_signal",),
        signals.put,
        "etags.demand(etag, wanted.name, current.revision if current else 0)",
        NO_ETAG,
    ),
    (
        "an end of a delegation not read",
        ("read_and_end_a_delegation",),
        delegations.delete,
        "etags.demand(etag, name, found.revision)",
        NO_ETAG,
    ),
    (
        "an approval of a proposal not read",
        ("propose_and_approve",),
        proposals.approve,
        "etags.demand(etag, name, found.revision)",
        NO_ETAG,
    ),
    (
        "a request_id that serves everybody",
        ("send_again",),
        idempotency.answered_before,
        "(earlier.principal, earlier.digest) != (caller.principal, caller.request_digest)",
        "earlier.digest != caller.request_digest",
    ),
    (
        "a request_id that serves any body",
        ("send_again",),
        idempotency.answered_before,
        "(earlier.principal, earlier.digest) != (caller.principal, caller.request_digest)",
        "earlier.principal != caller.principal",
    ),
    (
        "a request that is asked for again",
        ("send_again",),
        grants.ask,
        "(earlier := answered_before(tx, caller, _GRANTS)) is not None",
        "(earlier := None) is not None",
    ),
    (
        "an answer that is sent again to who may not see it",
        ("try_to", "send_again"),
        grants.commit,
        "grant = read_visible(tx, by, name)\n        if (earlier := answered_before(tx, caller, _GRANTS)) is not None:"
        "\n            return GrantAnswer(*earlier)",
        "if (earlier := answered_before(tx, caller, _GRANTS)) is not None:\n            return GrantAnswer(*earlier)"
        "\n        grant = read_visible(tx, by, name)",
    ),
    (
        "a request of the locked",
        ("ask_while_somebody_is_locked",),
        lock.demand_unlocked_people,
        "demand_unlocked(locks, grant.requester, grant.requester_groups)",
        "pass",
    ),
    (
        "an approval of the locked that counts",
        ("look_into_inboxes_while_somebody_is_locked",),
        quorum.counting_reviews,
        "not _is_locked(review, locks)",
        "True",
    ),
]


def by_rules(*names: str) -> type[CommitMachine]:
    """The machine with these rules alone, and with time. The other rules stay methods that these may call."""

    def unruled(name: str) -> Callable[..., Any]:
        return lambda self, *given, **named: getattr(CommitMachine, name)(self, *given, **named)

    rules = {name for name in dir(CommitMachine) if hasattr(getattr(CommitMachine, name), RULE_MARKER)}
    kept = {*names, "wait", "wait_for_a_boundary"}
    assert kept <= rules
    return type("SteeredMachine", (CommitMachine,), {name: unruled(name) for name in rules - kept})


@pytest.fixture
def walk(sqlite_url: str, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """The machine on SQLite by the rules named, with the same steps each time, up to the first fault."""
    naming = Naming()
    monkeypatch.setattr(grants, "new_name", naming)
    for module in (delegations, proposals):
        monkeypatch.setattr(module, "name_in_order", naming)
    store = Store(sqlite_url, clock=clock)
    stored = Stored(store, naming)

    def set_clock(now: datetime) -> None:
        clock.now = now

    steps = settings(
        max_examples=200,
        stateful_step_count=30,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        report_multiple_bugs=False,
    )

    def walk(*rules: str) -> None:
        machine = by_rules(*rules)

        def fresh() -> CommitMachine:
            stored.empty()
            return machine({"sqlite": stored}, set_clock)

        run_state_machine_as_test(fresh, settings=steps)  # type: ignore[arg-type]

    yield walk
    checking.stop(store)
    store.close()


@pytest.mark.parametrize(("name", "rules", "function", "sound", "bug"), TWINS, ids=[twin[0] for twin in TWINS])
def test_the_machine_catches(
    name: str,
    rules: tuple[str, ...],
    function: Callable[..., Any],
    sound: str,
    bug: str,
    walk: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    demand_caught(Twin(name, function, sound, bug, lambda: walk(*rules)), monkeypatch)
