"""What a transaction promises, on every database."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError

from jit_service.check import questions
from jit_service.domain.audit.event import EventType
from jit_service.domain.errors import LostRace, RequestIdReused, StoreUnavailable
from jit_service.domain.grants import approval
from jit_service.domain.grants.grant import GrantState
from jit_service.storage import Store, engine
from jit_service.storage.migrate import migrate
from jit_service.use_cases import audit, bulk_revocation, grants
from tests import checking
from tests.conftest import HOUR, NOON, Clock
from tests.domain.test_sown_bugs import Twin, demand_caught
from tests.storage.people import ADMIN, ALICE, BOB, CAROL, GATEWAY, add_policy, approve, ask


def event_types(store: Store) -> list[EventType]:
    page = audit.list_page(store, ADMIN, filter_text="", order_by="seq", page_size=1000, page_token="")
    return [recorded.event.type for recorded in page.events]


def test_a_grant_reads_back_as_it_was_saved(store: Store) -> None:
    add_policy(store, approvals=2)
    asked = ask(store, start_at=NOON + HOUR, labels={"team": "orders"})
    saved = approve(store, approve(store, asked), by=CAROL)

    read = grants.get(store, ALICE, saved.name)

    assert read.grant == saved
    assert read.grant.state(read.at) is GrantState.SCHEDULED
    assert [review.reviewer for review in read.grant.reviews] == [BOB.principal, CAROL.principal]


def test_instants_keep_their_microseconds(store: Store, clock: Clock) -> None:
    add_policy(store)
    clock.advance(timedelta(microseconds=123_457))

    created = ask(store)

    assert grants.get(store, ALICE, created.name).grant.created_at == NOON + timedelta(microseconds=123_457)


def test_every_transition_leaves_one_event_and_takes_one_revision(store: Store) -> None:
    first = add_policy(store)
    approve(store, ask(store))

    assert event_types(store) == [EventType.POLICY_CREATED, EventType.GRANT_REQUESTED, EventType.GRANT_APPROVED]
    with store.snapshot() as snapshot:
        assert snapshot.revision == first.revision + 2


def test_a_transaction_that_raises_leaves_nothing(store: Store) -> None:
    add_policy(store)
    grant = ask(store)
    before = event_types(store)

    with pytest.raises(RuntimeError), store.transaction() as tx:
        withdrawn, event = approval.withdraw(grant, by=ALICE, comment="", now=tx.now)
        tx.save_grant(withdrawn, event)
        raise RuntimeError

    assert grants.get(store, ALICE, grant.name).grant == grant
    assert event_types(store) == before
    assert not audit.verify(store).problem


def test_a_write_on_what_has_changed_since_it_was_read_is_refused(store: Store) -> None:
    add_policy(store, approvals=2)
    stale = ask(store)
    approve(store, stale)

    with pytest.raises(LostRace), store.transaction() as tx:
        tx.save_grant(*approval.withdraw(stale, by=ALICE, comment="", now=tx.now))

    assert grants.get(store, ALICE, stale.name).grant.end is None


def test_one_principal_reviews_once_even_past_the_rules(store: Store) -> None:
    """The UNIQUE constraint stands behind the rule (I6)."""
    add_policy(store, approvals=3)
    once = approve(store, ask(store))
    again = replace(once.reviews[0], reviewer="user:BOB@example.com")

    with pytest.raises(LostRace), store.transaction() as tx:
        _, event = approval.withdraw(once, by=ALICE, comment="", now=tx.now)
        tx.save_grant(replace(once, reviews=(*once.reviews, again)), event)


def test_time_never_goes_back(store: Store, clock: Clock) -> None:
    """A clock stepped back resurrects nothing (I13)."""
    add_policy(store)
    grant = approve(store, ask(store))
    clock.advance(2 * HOUR)
    ask(store, resource="database/orders/us")

    clock.advance(-2 * HOUR)

    read = grants.get(store, ALICE, grant.name)
    assert read.grant.state(read.at) is GrantState.EXPIRED


def test_the_same_request_id_has_the_same_answer(store: Store, clock: Clock) -> None:
    add_policy(store)
    caller = ALICE._replace(
        origin=replace(ALICE.origin, request_id="3f0e8c4e-3a52-4a7e-9f0d-0d3f4a7a5b61"),
        request_digest="d1",
    )
    first = ask(store, caller=caller)
    approve(store, first)
    clock.advance(HOUR)

    again = ask(store, caller=caller)

    assert again == first
    assert event_types(store).count(EventType.GRANT_REQUESTED) == 1


def test_a_use_changes_neither_the_etag_nor_a_plan(store: Store) -> None:
    """Else nobody could decide on a grant, or revoke it widely, while it is being used."""
    add_policy(store, steps=(), idle_timeout=HOUR)
    grant = ask(store)
    selector = bulk_revocation.GrantSelector(subject=ALICE.principal)
    plan = bulk_revocation.plan(store, selector)
    with store.snapshot() as snapshot:
        before = snapshot.revision
    question = questions.question(GATEWAY, subject=ALICE.principal, action="read", resource="database/orders/eu")

    assert checking.check(store, GATEWAY, question).decision.allowed

    read = grants.get(store, ALICE, grant.name).grant
    assert (read.revision, read.usage.count) == (grant.revision, 1)
    with store.snapshot() as snapshot:
        assert [change.revision for change in snapshot.changes(after=before, limit=9)] == [before + 1]
    done = bulk_revocation.execute(store, ADMIN, selector, plan_id=plan.id, comment="over")
    assert [ended.name for ended in done.grants] == [grant.name]


@pytest.mark.parametrize("other", ["another body", "another principal"])
def test_a_request_id_serves_one_request_of_one_principal(store: Store, other: str) -> None:
    add_policy(store)
    origin = replace(ALICE.origin, request_id="3f0e8c4e-3a52-4a7e-9f0d-0d3f4a7a5b61")
    ask(store, caller=ALICE._replace(origin=origin, request_digest="d1"))
    second = ALICE._replace(origin=origin, request_digest="d2")
    if other == "another principal":
        second = second._replace(principal="user:erin@example.com", request_digest="d1")

    with pytest.raises(RequestIdReused):
        ask(store, caller=second)

    assert event_types(store).count(EventType.GRANT_REQUESTED) == 1


@pytest.mark.parametrize(
    "url",
    ["sqlite:////nonexistent/directory/jit.db", "postgresql+psycopg://nobody@127.0.0.1:1/nothing"],
)
def test_a_store_that_cannot_be_reached_is_unavailable(url: str, clock: Clock) -> None:
    store = Store(url, clock=clock)

    with pytest.raises(StoreUnavailable), store.snapshot():
        pass
    store.prove_writing()
    with pytest.raises(StoreUnavailable), store.transaction():
        pass
    with pytest.raises(StoreUnavailable):
        store.prove_writing()


def test_a_store_that_failed_to_write_is_proved_by_a_write_that_changes_nothing(store: Store) -> None:
    with pytest.raises(StoreUnavailable), store.transaction():
        raise OperationalError("INSERT", None, Exception("the disk is full"))
    with store.snapshot() as before:
        pass

    store.prove_writing()
    with store.snapshot() as after:
        assert (after.revision, after.seq, after.head_hash) == (before.revision, before.seq, before.head_hash)
    assert not store._cannot_write


def test_a_proof_that_proves_nothing_would_be_noticed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    test_a_store_that_failed_to_write_is_proved_by_a_write_that_changes_nothing(store)
    twin = Twin(
        "a store that is never tried again",
        Store.prove_writing,
        "if self._cannot_write:",
        "if False:",
        lambda: test_a_store_that_failed_to_write_is_proved_by_a_write_that_changes_nothing(store),
    )

    demand_caught(twin, monkeypatch)


@pytest.mark.parametrize(
    ("of", "level"), [(engine.for_writing, 2), (engine.for_merging, 1)], ids=["writing", "merging"]
)
def test_sqlite_waits_for_the_disk_but_for_what_only_stores_otherwise(
    of: Callable[[Engine], Engine], level: int, tmp_path: Path
) -> None:
    """2 is FULL, where each commit is on the disk when it returns; 1 is NORMAL, where a later one brings it there."""
    url = f"sqlite:///{tmp_path / 'jit.db'}"
    migrate(url)
    opened = of(engine.open_engine(url))
    with opened.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == level
    opened.dispose()


def test_what_answers_wait_for_is_on_the_disk(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'jit.db'}"
    migrate(url)
    store = Store(url, clock=lambda: NOON)
    try:
        assert store._append_connection().dbapi_connection.execute("PRAGMA synchronous").fetchone() == (2,)
    finally:
        store.close()
