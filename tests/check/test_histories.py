"""A store whose history is another than the one that was read: no view of the one is ever used for the other (I32)."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import event

from jit_service.check import GrantCache, questions
from jit_service.domain.conditions.signal import Signal
from jit_service.storage import Store
from jit_service.storage.grant_loader import AnotherHistory, GrantLoader
from jit_service.storage.head import Head
from jit_service.use_cases import grants, policies, signals
from tests import checking
from tests.conftest import HOUR, Clock
from tests.domain.factories import deny_policy
from tests.storage.histories import copy_sqlite, put_back, restore_sqlite, tables
from tests.storage.people import ADMIN, ALICE, BOB, GATEWAY, add_policy, approve, ask

WHO = ALICE.principal
ASKED = questions.question(GATEWAY, subject=WHO, action="read", resource="database/orders/eu")


def allowed(store: Store) -> bool:
    return checking.check(store, GATEWAY, ASKED).decision.allowed


@pytest.mark.parametrize("more", [0, 1, 2, 3, 4, 9])
def test_a_strong_check_is_of_the_history_that_the_store_has(store: Store, more: int) -> None:
    """Security review A2: the worker read three commits that the new primary never had, and that has gone on since."""
    add_policy(store)
    grant = approve(store, ask(store))
    before = tables(store)
    for number in range(3):
        ask(store, resource=f"database/orders/lost-{number}")
    assert allowed(store)
    lost = tables(store)
    put_back(store, before)
    grants.revoke(store, BOB, grant.name, comment="over", etag="")
    for number in range(more):
        ask(store, resource=f"database/orders/new-{number}")
    after = tables(store)
    put_back(store, lost)
    assert allowed(store)

    put_back(store, after)

    assert not allowed(store)


def test_a_backup_that_is_restored_into_the_file_of_a_worker(sqlite_url: str, clock: Clock, tmp_path: Path) -> None:
    store, standby = Store(sqlite_url, clock=clock), tmp_path / "standby.db"
    add_policy(store)
    grant = approve(store, ask(store))
    copy_sqlite(store, standby)
    for number in range(3):
        ask(store, resource=f"database/orders/lost-{number}")
    assert allowed(store)
    other = Store(f"sqlite:///{standby}", clock=clock)
    grants.revoke(other, BOB, grant.name, comment="over", etag="")
    for number in range(4):
        ask(other, resource=f"database/orders/new-{number}")
    other.close()

    restore_sqlite(store, standby)

    assert not allowed(store)
    checking.stop(store)
    store.close()


def test_deny_policies_and_signals_are_of_the_history_that_the_store_has(store: Store) -> None:
    view = GrantCache(store, clock=store.clock, bound=HOUR)
    add_policy(store)
    before = tables(store)
    policies.create(store, ADMIN, deny_policy(name="policies/lost", revision=0))
    view.strong([WHO])
    put_back(store, before)
    signals.put(store, ADMIN, Signal(name="signals/incident", value="on", expires_at=store.clock() + HOUR), etag="")

    known = view.strong([WHO])

    assert known.book.denying == ()
    assert known.signals.live == {"incident": "on"}
    view.stop()


def test_records_that_checks_append_load_nothing_anew(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    add_policy(store)
    approve(store, ask(store))
    assert allowed(store)
    loads: list[GrantLoader] = []
    monkeypatch.setattr(GrantLoader, "load", lambda reader, _: loads.append(reader))

    for _ in range(3):
        assert allowed(store)

    assert loads == []


def test_a_connection_that_read_another_history_is_closed(store: Store) -> None:
    """Garbage that is there when everything is loaded anew is frozen with it, and never collected."""
    opened: list[Any] = []
    event.listen(store.engine, "connect", lambda connection, _: opened.append(connection))
    store.engine.dispose()
    reader = store.grant_loader()
    with reader.load(lambda *_: None):
        pass

    with pytest.raises(AnotherHistory):
        reader.moved(Head(7, 7, b"of another"))

    (connection,) = opened
    with pytest.raises((sqlite3.ProgrammingError, psycopg.OperationalError), match="closed"):
        connection.execute("SELECT 1")
