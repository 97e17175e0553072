"""Tailing the audit log: every record as it is committed, once and in order, from any place on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from typing import Any

import pytest
from sqlalchemy import text

from jit_service.check import questions
from jit_service.domain.audit.event import Event, EventType
from jit_service.domain.caller import Caller, Role
from jit_service.domain.errors import InvalidField, ServiceStopping
from jit_service.feeds import audit
from jit_service.feeds.audit import AuditUpdate
from jit_service.storage import Store, payload_of
from jit_service.storage.head_follower import HeadFollower
from tests import checking
from tests.conftest import NOON
from tests.domain.test_sown_bugs import Twin, demand_caught
from tests.storage.histories import put_back, tables
from tests.storage.people import ALICE, add_policy, approve, ask

Tail = Callable[..., Iterator[AuditUpdate]]
RECORDS = 5
WRITERS = 4
PATIENCE_SECONDS = 3.0


@pytest.fixture
def tailed(store: Store, follower: HeadFollower, monkeypatch: pytest.MonkeyPatch) -> Tail:
    """Tails the store itself, in pages of three, with a sign of life whenever nothing else is told."""
    monkeypatch.setattr(audit, "_PAGE", 3)

    def tailed(
        filter_text: str = "", start: int = 0, gone: Callable[[], bool] = lambda: False, batch_size: int = 0
    ) -> Iterator[AuditUpdate]:
        return audit.tail(
            store,
            filter_text=filter_text,
            start_seq=start,
            batch_size=batch_size,
            follower=follower,
            gone=gone,
            heartbeat_seconds=0.0,
        )

    return tailed


def grow(store: Store, count: int = 1, principal: str = "user:p") -> None:
    event = Event(type=EventType.CALL_REFUSED, at=NOON, principal=principal)
    for _ in range(count):
        store.append([payload_of(event)], at=NOON)


def told(events: Iterator[AuditUpdate], count: int) -> list[int]:
    """Returns the places of the next so many records. Fails where they do not come."""
    return [event.seq for event in islice(records(events), count)]


def records(events: Iterator[AuditUpdate]) -> Iterator[AuditUpdate]:
    told_at = time.monotonic()
    for event in events:
        if event.records:
            yield event
            told_at = time.monotonic()
        elif time.monotonic() - told_at > PATIENCE_SECONDS:
            pytest.fail(f"nothing comes after {event.seq}")


def test_what_comes_from_now_on_is_told_in_order(store: Store, tailed: Tail) -> None:
    grow(store, 2)
    events = tailed()
    assert next(events) == AuditUpdate(seq=2)
    grow(store, RECORDS)

    assert told(events, RECORDS) == [3, 4, 5, 6, 7]
    assert next(events) == AuditUpdate(seq=7)


def test_from_each_place_on_there_is_neither_gap_nor_duplicate(store: Store, tailed: Tail) -> None:
    grow(store, RECORDS)

    for start in range(1, RECORDS):
        assert told(tailed(start=start), RECORDS - start) == list(range(start + 1, RECORDS + 1))


def test_a_sign_of_life_can_be_resumed_from(store: Store, tailed: Tail) -> None:
    grow(store, RECORDS)
    events = tailed("principal = nobody", start=1)
    places = [next(events).seq for _ in range(3)]  # In pages of three.
    grow(store)

    assert places == [1, 4, 5]
    assert told(tailed(start=places[-1]), 1) == [RECORDS + 1]


def test_only_what_the_filter_means_is_told(store: Store, tailed: Tail) -> None:
    grow(store)
    events = tailed('principal = "user:b"')
    next(events)
    for principal in ("user:a", "user:b", "user:a", "user:b"):
        grow(store, principal=principal)

    assert told(events, 2) == [3, 5]


def batches(events: Iterator[AuditUpdate], count: int) -> list[list[int]]:
    """Returns the places of each of the next so many updates that have records."""
    return [[record.seq for record in event.records] for event in islice(records(events), count)]


def test_in_batches_what_is_there_comes_together_and_nothing_is_waited_for(store: Store, tailed: Tail) -> None:
    grow(store, 7)

    assert batches(tailed(start=1, batch_size=4), 2) == [[2, 3, 4, 5], [6, 7]]


def test_a_batch_can_be_resumed_from(store: Store, tailed: Tail) -> None:
    grow(store, 7)
    events = tailed(start=1, batch_size=4)
    first = next(records(events))

    assert batches(tailed(start=first.seq, batch_size=4), 1) == [[6, 7]]


def test_a_batch_has_only_what_the_filter_means(store: Store, tailed: Tail) -> None:
    for principal in ("user:a", "user:b", "user:a", "user:b", "user:b"):
        grow(store, principal=principal)

    assert batches(tailed('principal = "user:b"', start=1, batch_size=9), 1) == [[2, 4, 5]]


def test_a_batch_has_no_more_bytes_than_a_client_accepts(
    store: Store, tailed: Tail, monkeypatch: pytest.MonkeyPatch
) -> None:
    grow(store, 5)
    with store.snapshot() as snapshot:
        length = len(snapshot.audit_records(after=1, until=2, enough=1)[0].payload)
    monkeypatch.setattr(audit, "_BATCH_BYTES", 2 * length)
    assert batches(tailed(start=1, batch_size=9), 2) == [[2, 3], [4, 5]]

    monkeypatch.setattr(audit, "_BATCH_BYTES", length - 1)
    assert batches(tailed(start=3, batch_size=9), 2) == [[4], [5]]


def test_checks_are_told_though_they_move_no_revision(store: Store, tailed: Tail) -> None:
    add_policy(store)
    approve(store, ask(store))
    events = tailed()
    next(events)
    with store.snapshot() as snapshot:
        before = snapshot.revision
    gateway = Caller(principal="service:gateway", roles=frozenset({Role.CHECKER}))
    asked = questions.question(gateway, subject=ALICE.principal, action="read", resource="database/orders/eu")

    checking.check(store, gateway, asked)

    checked = next(records(events))
    (record,) = checked.records
    assert record.recorded.event.type is EventType.ACCESS_CHECKED
    with store.snapshot() as snapshot:
        assert snapshot.revision == before


def test_of_many_writers_at_once_each_record_is_told_once(store: Store, tailed: Tail) -> None:
    def write() -> None:
        for size in (1, 2, 1, 3):
            with store.transaction() as tx:
                for _ in range(size):
                    tx.record(Event(type=EventType.CALL_REFUSED, at=NOON, principal=""))

    events = tailed()
    next(events)
    writers = [threading.Thread(target=write) for _ in range(WRITERS)]
    for writer in writers:
        writer.start()

    seen = told(events, WRITERS * 7)

    for writer in writers:
        writer.join()
    assert seen == list(range(1, WRITERS * 7 + 1))


def test_nobody_waits_for_who_does_not_read(store: Store, tailed: Tail) -> None:
    events = tailed(start=0)
    next(events)
    grow(store)
    assert told(events, 1) == [1]

    with store.engine.begin() as connection:
        open_ones = connection.execute(text(_OPEN[connection.dialect.name])).scalar_one()
    with store.transaction() as tx:
        tx.record(Event(type=EventType.CALL_REFUSED, at=NOON, principal=""))

    assert open_ones == 0
    assert told(events, 1) == [2]


_OPEN = {
    "sqlite": "SELECT 0",
    "postgresql": "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction' "
    "AND datname = current_database()",
}


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        ({"start": -1}, "start_seq"),
        ({"start": 1}, "start_seq"),
        ({"filter_text": "nothing = 1"}, "filter"),
        ({"batch_size": -1}, "batch_size"),
    ],
)
def test_what_cannot_be_told_is_refused_before_anything_is(tailed: Tail, wanted: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidField) as refused:
        tailed(**wanted)

    assert refused.value.field == field


def test_it_ends_when_its_client_is_gone(tailed: Tail) -> None:
    assert list(tailed(gone=lambda: True)) == [AuditUpdate(seq=0)]


def test_it_ends_with_the_service_and_says_from_where_to_go_on(store: Store, follower: HeadFollower) -> None:
    grow(store, 3)
    events = audit.tail(
        store, filter_text="", start_seq=2, follower=follower, gone=lambda: False, heartbeat_seconds=60.0
    )
    next(events)
    assert told(events, 1) == [3]
    follower.stop()

    with pytest.raises(ServiceStopping, match="go on from 3"):
        next(events)


def test_a_log_that_was_cut_is_not_told_twice(store: Store, tailed: Tail) -> None:
    grow(store, RECORDS)
    events = tailed(start=2)
    assert told(events, 3) == [3, 4, 5]
    with store.engine.begin() as connection:
        connection.execute(text("UPDATE head SET seq = 2"))

    with pytest.raises(InvalidField, match="another history"):
        list(islice(events, 3))


def test_a_log_of_another_history_is_not_told_as_if_it_went_on(store: Store, tailed: Tail) -> None:
    grow(store, 2)
    before = tables(store)
    grow(store, 3, principal="user:lost")
    events = tailed(start=1)
    assert told(events, 4) == [2, 3, 4, 5]
    put_back(store, before)
    grow(store, 9)

    with pytest.raises(InvalidField, match="another history"):
        told(events, 1)


def test_records_that_somebody_deleted_do_not_hold_it_up(store: Store, tailed: Tail) -> None:
    grow(store, RECORDS)
    with store.engine.begin() as connection:
        connection.execute(text("DELETE FROM audit_event WHERE seq > 3"))
    events = tailed(start=1)
    assert told(events, 2) == [2, 3]
    grow(store)

    assert told(events, 1) == [RECORDS + 1]


TWINS: list[tuple[str, Any, str, str, Callable[..., None]]] = [
    (
        "one that follows the revision",
        HeadFollower.wait_for_record,
        "head.seq",
        "head.revision",
        lambda store, _: starved(store),
    ),
    (
        "a page after which a record is skipped",
        audit._news,
        "page[-1].seq if page",
        "page[-1].seq + 1 if page",
        test_what_comes_from_now_on_is_told_in_order,
    ),
    (
        "a page that is told again",
        audit._news,
        "page[-1].seq if page",
        "page[-1].seq - 1 if len(page) == 3",
        test_from_each_place_on_there_is_neither_gap_nor_duplicate,
    ),
    (
        "a filter that is not asked",
        audit._updates,
        "if node is None else meant(node, page)",
        "",
        test_only_what_the_filter_means_is_told,
    ),
    (
        "a log that was cut and is told again",
        audit._news,
        "snapshot.seq < last or",
        "",
        test_a_log_that_was_cut_is_not_told_twice,
    ),
    (
        "a log of another history",
        audit._news,
        "or not snapshot.has_been_at(at)",
        "",
        test_a_log_of_another_history_is_not_told_as_if_it_went_on,
    ),
]


def starved(store: Store) -> None:
    """A record that moves no revision wakes who waits for it, long before the next sign of life."""
    follower = HeadFollower(store)
    follower.start()
    woken = threading.Event()

    def wait() -> None:
        with suppress(ServiceStopping):
            follower.wait_for_record(after=0, seconds=60.0, gone=lambda: False)
            woken.set()

    waiting = threading.Thread(target=wait)
    waiting.start()
    grow(store)

    came = woken.wait(PATIENCE_SECONDS)

    follower.stop()
    waiting.join()
    assert came


def test_a_record_wakes_who_waits_for_it(store: Store) -> None:
    starved(store)


@pytest.mark.parametrize(("name", "function", "sound", "bug", "caught_by"), TWINS, ids=[twin[0] for twin in TWINS])
def test_no_twin_survives(
    name: str,
    function: Any,
    sound: str,
    bug: str,
    caught_by: Callable[..., None],
    store: Store,
    tailed: Tail,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    demand_caught(Twin(name, function, sound, bug, lambda: caught_by(store, tailed)), monkeypatch)
