"""A log that is made long: searches see its length, and the service goes on behind it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from bench.audit_index import disk_bytes, lengthen
from jit_service.domain.audit.event import Event, EventType
from jit_service.storage import Store, audit_compaction, payload_of
from jit_service.use_cases import audit
from tests.conftest import Clock
from tests.storage.people import AUDITOR, add_policy

PIECE = 4


def append(store: Store, clock: Clock, count: int) -> None:
    for number in range(count):
        clock.advance(timedelta(seconds=1))
        checked = Event(type=EventType.ACCESS_CHECKED, at=clock(), principal="service:g", subject=f"user:u{number % 7}")
        store.append([payload_of(checked)], at=clock())


def newest(store: Store, text: str) -> list[int]:
    page = audit.list_page(store, AUDITOR, filter_text=text, order_by="seq desc", page_size=3, page_token="")
    return [recorded.seq for recorded in page.events]


@pytest.fixture
def long(store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A log of a policy and eleven checks in three pieces, made 28 records long; two records were not merged."""
    monkeypatch.setattr(audit_compaction, "PIECE", PIECE)
    add_policy(store)
    append(store, clock, 13)
    assert lengthen(store, 28) == 7
    return store


def test_it_has_the_pieces_of_its_length_and_what_was_once_is_there_once(long: Store) -> None:
    assert long.head().seq == 28
    assert newest(long, "") == [28, 27, 26]
    assert newest(long, 'event_type="POLICY_CREATED"') == [1]
    # Of the real ones, 5 and 12, each again eight and sixteen records later.
    assert newest(long, 'subject="user:u3"') == [28, 21, 20]


def test_a_repeated_piece_is_of_a_time_of_its_own(long: Store) -> None:
    with long.snapshot() as snapshot:
        ends = [span.last_at for span in snapshot.oldest_pieces(9)]

    assert ends == sorted(set(ends))


def test_the_service_goes_on_behind_it(long: Store, clock: Clock) -> None:
    append(long, clock, PIECE)

    assert long.merge_audit() == PIECE
    assert newest(long, 'subject="user:u3"') == [32, 28, 21]
    assert disk_bytes(long) > 2**16
