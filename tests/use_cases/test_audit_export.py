"""Exporting the audit log: each record once, in order, up to where the log ended at the beginning."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import text

from jit_service.domain.audit import audit_filter
from jit_service.domain.audit.event import Event, EventType
from jit_service.domain.errors import InvalidField
from jit_service.storage import Store, audit_records, payload_of
from jit_service.use_cases import audit_export
from tests.conftest import NOON
from tests.domain.test_sown_bugs import Twin, demand_caught

RECORDS = 7


@pytest.fixture
def log(store: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A log of seven records, read in pages of three."""
    monkeypatch.setattr(audit_export, "_PAGE", 3)
    grow(store, RECORDS)
    return store


def grow(store: Store, count: int) -> None:
    for number in range(count):
        event = Event(type=EventType.CALL_REFUSED, at=NOON, principal=f"user:p{number}")
        store.append([payload_of(event)], at=NOON)


def pages(store: Store, filter_text: str = "", start: int = 0, end: int = 0) -> Iterator[list[Any]]:
    return audit_export.export(store, filter_text=filter_text, start_seq=start, end_seq=end, gone=lambda: False)


def exported(store: Store, *args: Any, **kwargs: Any) -> list[int]:
    return [recorded.seq for page in pages(store, *args, **kwargs) for recorded in page]


def test_an_export_may_begin_and_end_within_a_block(store: Store) -> None:
    event = payload_of(Event(type=EventType.CALL_REFUSED, at=NOON, principal="user:p"))
    before = store.head().seq
    store.append([event] * RECORDS, at=NOON)

    assert exported(store, start=before + 2, end=before + 5) == [before + 3, before + 4, before + 5]


def test_every_record_comes_once_and_in_order(log: Store) -> None:
    assert exported(log) == [1, 2, 3, 4, 5, 6, 7]


def test_what_comes_later_is_for_the_next_export(log: Store) -> None:
    begun = pages(log)
    seen = [recorded.seq for recorded in next(begun)]
    grow(log, 5)

    seen += [recorded.seq for page in begun for recorded in page]

    assert seen == [1, 2, 3, 4, 5, 6, 7]
    assert exported(log, start=seen[-1]) == [8, 9, 10, 11, 12]


def test_a_range_is_after_its_start_and_up_to_its_end(log: Store) -> None:
    for start in range(RECORDS + 1):
        assert exported(log, start=start) == list(range(start + 1, RECORDS + 1))
        for end in range(max(start, 1), RECORDS + 1):
            assert exported(log, start=start, end=end) == list(range(start + 1, end + 1))


def test_a_range_that_ends_before_it_begins_is_refused(log: Store) -> None:
    with pytest.raises(InvalidField, match="end_seq"):
        pages(log, start=4, end=3)


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        ({"start": -1}, "start_seq"),
        ({"start": RECORDS + 1}, "start_seq"),
        ({"end": -1}, "end_seq"),
        ({"end": RECORDS + 1}, "end_seq"),
        ({"filter_text": "nothing = 1"}, "filter"),
    ],
)
def test_what_cannot_be_told_is_refused_before_anything_is(log: Store, wanted: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidField) as refused:
        pages(log, **wanted)

    assert refused.value.field == field


def test_a_page_without_a_match_is_a_sign_of_life(log: Store) -> None:
    found = list(pages(log, "seq = 7"))

    assert [[recorded.seq for recorded in page] for page in found] == [[], [], [7]]


def test_no_snapshot_is_held_between_pages(log: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[str] = []
    begun = pages(log)
    next(begun)

    with (
        log.engine.begin() as connection
    ):  # On SQLite this would wait for a reader that keeps the log from being reset.
        held = [row.state for row in connection.execute(text(_IDLE[connection.dialect.name])) if row.state]

    assert held == []
    begun.close()  # type: ignore[attr-defined]


_IDLE = {
    "sqlite": "SELECT '' AS state",
    "postgresql": "SELECT state FROM pg_stat_activity WHERE state = 'idle in transaction' AND datname = "
    "current_database()",
}


def test_an_export_ends_when_its_client_is_gone(log: Store) -> None:
    gone = iter([False, True])

    begun = audit_export.export(log, filter_text="", start_seq=0, end_seq=0, gone=lambda: next(gone))

    assert [len(page) for page in begun] == [3]


def test_records_that_somebody_deleted_do_not_keep_it_from_ending(log: Store) -> None:
    with log.engine.begin() as connection:
        connection.execute(text("DELETE FROM audit_event WHERE seq > 3 AND seq <> 5"))

    assert exported(log) == [1, 2, 3, 5]


def test_a_name_that_ends_in_a_star_is_a_prefix(store: Store) -> None:
    told = [Event(type=EventType.GRANT_REQUESTED, at=NOON, principal="", grant=f"grants/{name}") for name in "ab"]
    store.append([payload_of(event) for event in told], at=NOON)

    assert exported(store, "grant = grants/*") == [1, 2]
    assert exported(store, "grant = grants/a*") == [1]
    assert exported(store, "grant = grants/") == []


TWINS: list[tuple[str, Any, str, str, Callable[[Store], None]]] = [
    (
        "a page that skips a record",
        audit_records._within,
        "after + 1 - block.first",
        "after + 1 + bool(after) - block.first",
        test_every_record_comes_once_and_in_order,
    ),
    (
        "a page that tells one again",
        audit_records._within,
        "after + 1 - block.first",
        "after - block.first",
        test_an_export_may_begin_and_end_within_a_block,
    ),
    (
        "an end that runs away",
        audit_export._pages,
        "until=until",
        "until=2**62",
        test_what_comes_later_is_for_the_next_export,
    ),
    (
        "a filter that is not asked",
        audit_export._pages,
        "if node is None else meant(node, page)",
        "",
        test_a_page_without_a_match_is_a_sign_of_life,
    ),
    (
        "a prefix that means a name alone",
        audit_filter._holds,
        'str(comparison.value).endswith("*")',
        "False",
        test_a_name_that_ends_in_a_star_is_a_prefix,
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
    monkeypatch.setattr(audit_export, "_PAGE", 3)
    if caught_by is not test_a_name_that_ends_in_a_star_is_a_prefix:
        grow(store, RECORDS)
    demand_caught(Twin(name, function, sound, bug, lambda: caught_by(store)), monkeypatch)
