"""Vulnerable twins of the use cases: the machine of the reference model must catch each.

Fixed tests catch them too; these show that the machine looks where writes are bound, by plans, etags,
request_ids and locks. Each twin names the rules of the machine that look there, and a few steps by those rules that
must catch it: so a rule that stops to look fails here. Under `make machines` a walk of Hypothesis by those rules alone
must come upon it too.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import RULE_MARKER, run_state_machine_as_test

from jit_service.domain.grants import lock, quorum
from jit_service.domain.policies import diff, proposal
from jit_service.storage import Store
from jit_service.use_cases import bulk_revocation, delegations, grants, idempotency, policies, proposals, signals
from tests import checking
from tests.conftest import HOUR, Clock
from tests.domain.factories import ALICE, BOT, ERIN
from tests.domain.test_sown_bugs import Twin, demand_caught
from tests.model.facts import Changes
from tests.model.small_world import ADMIN, FOR_ANOTHER, GIVEN
from tests.storage.commits import CommitMachine
from tests.storage.stored import Naming, Stored

NO_ETAG = "pass"
BEGUN = (GIVEN[6], GIVEN[1])
ACTIVE, PENDING = "grants/g0", "grants/g1"
EARLIER, LATER = {"request_ttl": HOUR}, {"priority": 3}
Steps = Callable[[CommitMachine], object]


class Drawn:
    """Gives a rule what it would draw."""

    def __init__(self, *values: object) -> None:
        self.values = list(values)

    def draw(self, _: object) -> Any:
        return self.values.pop(0)


def send_all_again(machine: CommitMachine) -> None:
    machine.send_again(BOT, Drawn(list(machine.ledger.sent)))


TWINS: list[tuple[str, tuple[str, ...], Steps, Callable[..., Any], str, str]] = [
    (
        "a plan that never goes stale",
        ("plan_and_carry_out",),
        lambda machine: machine.plan_and_carry_out(ACTIVE, "revoke", Drawn(ACTIVE, ALICE)),
        bulk_revocation.execute,
        "if current.id != plan_id:",
        "if False:",
    ),
    (
        "a proposal that never goes stale",
        ("propose_and_approve",),
        lambda machine: machine.propose_and_approve("policies/one", LATER, EARLIER, ADMIN, True, "approve"),
        proposal._demand_unchanged,
        "if found != expected:",
        "if False:",
    ),
    (
        "an update of what was not read",
        ("read_and_change_a_policy",),
        lambda machine: machine.read_and_change_a_policy("policies/one", EARLIER, LATER, "update", ADMIN),
        policies.update,
        "etags.demand(etag, name, before.revision)",
        NO_ETAG,
    ),
    (
        "a deletion of what was not read",
        ("read_and_change_a_policy",),
        lambda machine: machine.read_and_change_a_policy("policies/one", EARLIER, LATER, "delete", ADMIN),
        policies.delete,
        "etags.demand(etag, name, before.revision)",
        NO_ETAG,
    ),
    (
        "a set over what was not read",
        ("read_and_change_a_policy",),
        lambda machine: machine.read_and_change_a_policy("policies/one", EARLIER, LATER, "apply", ADMIN),
        diff.difference,
        "etags.demand(entry.etag, policy.name, current.revision if current else 0)",
        NO_ETAG,
    ),
    (
        "a signal over what was not read",
        ("read_and_change_the_signal",),
        lambda machine: machine.read_and_change_the_signal("set", True, HOUR, False),
        signals.put,
        "etags.demand(etag, wanted.name, current.revision if current else 0)",
        NO_ETAG,
    ),
    (
        "an end of a delegation not read",
        ("read_and_end_a_delegation",),
        lambda machine: machine.read_and_end_a_delegation(True, Drawn("delegations/d0")),
        delegations.delete,
        "etags.demand(etag, name, found.revision)",
        NO_ETAG,
    ),
    (
        "an approval of a proposal not read",
        ("propose_and_approve",),
        lambda machine: machine.propose_and_approve("policies/one", LATER, None, ADMIN, True, "approve"),
        proposals.approve,
        "etags.demand(etag, name, found.revision)",
        NO_ETAG,
    ),
    (
        "a request_id that serves everybody",
        ("send_again",),
        send_all_again,
        idempotency.answered_before,
        "(earlier.principal, earlier.digest) != (caller.principal, caller.request_digest)",
        "earlier.digest != caller.request_digest",
    ),
    (
        "a request_id that serves any body",
        ("send_again",),
        send_all_again,
        idempotency.answered_before,
        "(earlier.principal, earlier.digest) != (caller.principal, caller.request_digest)",
        "earlier.principal != caller.principal",
    ),
    (
        "a request that is asked for again",
        ("send_again",),
        send_all_again,
        grants.ask,
        "(earlier := answered_before(tx, caller, _GRANTS)) is not None",
        "(earlier := None) is not None",
    ),
    (
        "an answer that is sent again to who may not see it",
        ("try_to", "send_again"),
        lambda machine: (machine.try_to(ACTIVE, [ALICE], "revoke", Changes(), HOUR), send_all_again(machine)),
        grants.commit,
        "grant = read_visible(tx, by, name)\n        if (earlier := answered_before(tx, caller, _GRANTS)) is not None:"
        "\n            return GrantAnswer(*earlier)",
        "if (earlier := answered_before(tx, caller, _GRANTS)) is not None:\n            return GrantAnswer(*earlier)"
        "\n        grant = read_visible(tx, by, name)",
    ),
    (
        "a request of the locked",
        ("ask_while_somebody_is_locked",),
        lambda machine: machine.ask_while_somebody_is_locked(FOR_ANOTHER, "anybody", ALICE),
        lock.demand_unlocked_people,
        "demand_unlocked(locks, grant.requester, grant.requester_groups)",
        "pass",
    ),
    (
        "an approval of the locked that counts",
        ("look_into_inboxes_while_somebody_is_locked",),
        lambda machine: machine.look_into_inboxes_while_somebody_is_locked(PENDING, ERIN, Drawn(ERIN, ERIN)),
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
def fresh(sqlite_url: str, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., CommitMachine]]:
    """Makes a machine on SQLite, by the rules named."""
    naming = Naming()
    monkeypatch.setattr(grants, "new_name", naming)
    for module in (delegations, proposals):
        monkeypatch.setattr(module, "name_in_order", naming)
    store = Store(sqlite_url, clock=clock)
    stored = Stored(store, naming)

    def set_clock(now: datetime) -> None:
        clock.now = now

    def fresh(*rules: str) -> CommitMachine:
        stored.empty()
        return by_rules(*rules)({"sqlite": stored}, set_clock)

    yield fresh
    checking.stop(store)
    store.close()


def take(steps: Steps, machine: CommitMachine) -> None:
    machine.begin(list(BEGUN))
    steps(machine)
    machine.teardown()


def walk(fresh: Callable[[], CommitMachine]) -> None:
    """Walks up to the first fault."""
    steps = settings(
        max_examples=200,
        stateful_step_count=30,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        report_multiple_bugs=False,
    )
    run_state_machine_as_test(fresh, settings=steps)  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "rules", "steps", "function", "sound", "bug"), TWINS, ids=[twin[0] for twin in TWINS])
def test_the_machine_catches(
    name: str,
    rules: tuple[str, ...],
    steps: Steps,
    function: Callable[..., Any],
    sound: str,
    bug: str,
    fresh: Callable[..., CommitMachine],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    take(steps, fresh(*rules))

    ways = [lambda: take(steps, fresh(*rules))]
    if "EXAMPLES" in os.environ:
        ways.append(lambda: walk(partial(fresh, *rules)))
    for way in ways:
        with monkeypatch.context() as sowing:
            demand_caught(Twin(name, function, sound, bug, way), sowing)
