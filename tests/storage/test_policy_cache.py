"""Policies are kept between transactions, and none is ever judged by others than those of its own revision."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from jit_service.domain.audit.event import Event
from jit_service.domain.errors import NotEligible
from jit_service.domain.grants.grant import Grant
from jit_service.domain.policies import diff
from jit_service.domain.policies.policy import Policy, PrincipalSet
from jit_service.storage import Store
from jit_service.storage.head import Head
from jit_service.storage.policy_cache import NO_POLICIES
from jit_service.storage.snapshot import Snapshot
from jit_service.storage.transaction import Transaction
from jit_service.use_cases import policies
from tests.domain.test_sown_bugs import Twin, demand_caught
from tests.storage.people import ADMIN, add_policy, approve, ask
from tests.storage.stored import Naming, Stored


def known(store: Store) -> dict[str, int]:
    with store.snapshot() as snapshot:
        return {found.name: found.revision for found in snapshot.policies(deleted=True)}


def test_what_another_process_changed_is_judged_by_at_once(store: Store) -> None:
    add_policy(store)
    ask(store)
    other = Store(store.engine.url.render_as_string(hide_password=False), clock=store.clock)

    policies.update(
        other, ADMIN, "policies/orders", etag="", change=lambda before: with_eligible(before, "somebody-else")
    )
    other.close()

    with pytest.raises(NotEligible):
        ask(store)


def test_what_another_process_deleted_is_judged_by_no_more(store: Store) -> None:
    add_policy(store)
    grant = ask(store)
    other = Store(store.engine.url.render_as_string(hide_password=False), clock=store.clock)

    policies.delete(other, ADMIN, "policies/orders", etag="")
    approve(other, ask_under_another(other))
    other.close()

    with pytest.raises(NotEligible):
        ask(store)
    assert grant.policy == "policies/orders"


def test_a_change_that_was_rolled_back_is_not_known(store: Store) -> None:
    before = add_policy(store)

    with pytest.raises(RuntimeError), store.transaction() as tx:
        saved = tx.save_policy(*changed(tx, "policies/orders"))
        assert tx.policies() == [saved]
        raise RuntimeError

    assert known(store) == {"policies/orders": before.revision}


def test_a_change_is_known_within_its_own_transaction(store: Store) -> None:
    add_policy(store)
    add_policy(store, name="policies/another")

    with store.transaction() as tx:
        assert len(tx.policies()) == 2
        saved = tx.save_policy(*changed(tx, "policies/orders"))
        assert tx.policy("policies/orders") == saved
        assert [found.name for found in tx.policies()] == ["policies/another", "policies/orders"]

    with store.snapshot() as snapshot:
        assert snapshot.policy("policies/orders") == saved


def test_policies_of_a_history_that_was_undone_are_not_known(store: Store) -> None:
    """A restored backup has other policies under the same revisions."""
    stored = Stored(store, Naming())
    add_policy(store)
    ask(store)
    stored.empty()
    other = Store(store.engine.url.render_as_string(hide_password=False), clock=store.clock)
    add_policy(other, eligible=PrincipalSet(groups=("somebody-else",)))
    policies.delete(other, ADMIN, add_policy(other, name="policies/more").name, etag="")
    other.close()

    with pytest.raises(NotEligible):
        ask(store)


def test_unchanged_policies_are_not_read_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    add_policy(store)
    ask(store)
    read: list[Head] = []
    monkeypatch.setattr(Snapshot, "has_been_at", lambda _, head: read.append(head))

    approve(store, ask(store))

    assert read == []


def with_eligible(before: Policy, *groups: str) -> Policy:
    return replace(before, eligible=PrincipalSet(groups=groups))


def ask_under_another(store: Store) -> Grant:
    add_policy(store, name="policies/billing", resources=("database/billing/**",))
    return ask(store, resource="database/billing/eu")


def changed(tx: Transaction, name: str) -> tuple[Policy, Event]:
    before = tx.policy(name)
    assert before is not None
    return diff.update(before, with_eligible(before, "others"), by=ADMIN, now=tx.now)


TWINS: list[tuple[str, Any, str, str, Callable[[Store], None]]] = [
    (
        "policies that skip a revision",
        Snapshot._policies_by_name,
        "revision=before.head.revision",
        "revision=before.head.revision + 1",
        test_what_another_process_changed_is_judged_by_at_once,
    ),
    (
        "policies that stay as they were",
        Snapshot.__init__,
        "policy_cache if policy_cache.head == self.head else None",
        "policy_cache if policy_cache is not NO_POLICIES else None",
        test_what_another_process_deleted_is_judged_by_no_more,
    ),
    (
        "policies of another history",
        Snapshot.has_been_at,
        "self.record_hash(head.seq)",
        "head.hash",
        test_policies_of_a_history_that_was_undone_are_not_known,
    ),
    (
        "policies as they were before the transaction's own change",
        Transaction.save_policy,
        "if self.policy_cache is not None:",
        "if False:",
        test_a_change_is_known_within_its_own_transaction,
    ),
]


@pytest.mark.parametrize(("name", "function", "sound", "bug", "caught_by"), TWINS, ids=[twin[0] for twin in TWINS])
def test_no_twin_survives(
    name: str,
    function: Any,
    sound: str,
    bug: str,
    caught_by: Callable[[Store], None],
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    demand_caught(Twin(name, function, sound, bug, lambda: caught_by(store)), monkeypatch)


def test_nothing_is_known_of_a_new_store(store: Store) -> None:
    assert store._policies == NO_POLICIES
    assert known(store) == {}
