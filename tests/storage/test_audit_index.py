"""The audit log's index: made after the log's commits, in nobody's way, and made again wherever it is not the log's."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from jit_service.runtime.audit_indexer import AuditIndexer, steps_due
from jit_service.storage import Store
from jit_service.storage.engine import index_file
from jit_service.storage.head_follower import HeadFollower
from jit_service.storage.migrate import migrate
from jit_service.use_cases import audit
from tests.conftest import Clock
from tests.storage.people import ADMIN, add_policy, ask

LOG = "jit.db"


@pytest.mark.parametrize(
    ("waiting", "came", "steps"),
    [
        (0, 0, 0),
        (1, 1, 1),
        (5_001, 200, 2),
        (499_999, 201, 0),
        (504_999, 1_000, 0),
        (505_000, 1_000, 1),
        (520_000, 20_000, 4),
    ],
)
def test_records_are_made_findable_beside_the_checks(waiting: int, came: int, steps: int) -> None:
    """In a quiet service at once; in a busy one not before many wait, and then no more of them than come."""
    assert steps_due(waiting, came) == steps


def resources(store: Store) -> list[str]:
    """Returns what was asked for, as searching finds it."""
    page = audit.list_page(
        store, ADMIN, filter_text="event_type = GRANT_REQUESTED", order_by="seq", page_size=1000, page_token=""
    )
    return [resource for recorded in page.events for resource in recorded.event.resources]


@contextmanager
def opened(directory: Path, clock: Clock) -> Iterator[Store]:
    url = f"sqlite:///{directory / LOG}"
    migrate(url)
    with closing(Store(url, clock=clock)) as store:
        yield store


def test_a_running_service_makes_records_findable_by_itself(store: Store) -> None:
    add_policy(store)
    ask(store)
    indexer = AuditIndexer(store, HeadFollower(store), interval=timedelta(milliseconds=1))
    indexer.start()
    try:
        while store.indexed_seq() < store.head().seq:
            assert indexer.is_alive()
    finally:
        indexer.stop()

    assert store.indexed_seq() == 2


def test_nobody_who_commits_waits_for_the_index(tmp_path: Path, clock: Clock) -> None:
    with opened(tmp_path, clock) as store:
        add_policy(store)
        store.indexed_seq()
        with closing(sqlite3.connect(index_file(store.engine.url), isolation_level=None)) as indexing:
            indexing.execute("BEGIN EXCLUSIVE")

            ask(store, resource="database/orders/1")
            store.append([b"{}"], at=clock())

            with store.snapshot() as snapshot:
                assert snapshot.seq == 3


def test_an_index_that_was_deleted_is_made_again(tmp_path: Path, clock: Clock) -> None:
    with opened(tmp_path, clock) as store:
        add_policy(store)
        ask(store, resource="database/orders/1")
        assert resources(store) == ["database/orders/1"]
    for path in tmp_path.glob(f"{LOG}.audit-index*"):
        path.unlink()

    with opened(tmp_path, clock) as store:
        assert resources(store) == ["database/orders/1"]
        assert audit.verify(store).problem == ""


def test_an_index_of_an_earlier_release_is_made_again(tmp_path: Path, clock: Clock) -> None:
    with opened(tmp_path, clock) as store:
        add_policy(store)
        ask(store, resource="database/orders/1")
        assert resources(store) == ["database/orders/1"]
        path = index_file(store.engine.url)
    with closing(sqlite3.connect(path)) as index:
        index.execute("ALTER TABLE audit_index DROP COLUMN subject_source_ip")

    with opened(tmp_path, clock) as store:
        assert resources(store) == ["database/orders/1"]
        assert audit.verify(store).problem == ""


def test_the_index_of_another_log_is_not_used(tmp_path: Path, clock: Clock) -> None:
    """The log is brought back from a backup, and goes on otherwise than before; its index was left as it was."""
    backup = tmp_path / "backup.db"
    with opened(tmp_path, clock) as store:
        add_policy(store)
        with store.engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        shutil.copyfile(tmp_path / LOG, backup)
        for number in range(3):
            ask(store, resource=f"database/orders/{number}")
        assert len(resources(store)) == 3
    for path in (tmp_path / f"{LOG}-wal", tmp_path / f"{LOG}-shm"):
        path.unlink(missing_ok=True)
    shutil.copyfile(backup, tmp_path / LOG)

    with opened(tmp_path, clock) as store:
        ask(store, resource="database/orders/after")

        assert resources(store) == ["database/orders/after"]
        assert audit.verify(store).problem == ""


def test_an_index_that_is_ahead_of_the_log_is_found(store: Store) -> None:
    """What was put there beforehand would hide the records that come to have those places."""
    add_policy(store)
    audit.make_findable(store)
    columns = "at, type, principal, subject, resources, actions, decision, reason, grant_name, policy, method, "
    columns += "source_address, subject_source_ip, trace_id, request_id, decision_id"
    with store.engine.begin() as connection:
        connection.execute(
            text(f"INSERT INTO audit_index (seq, {columns}) SELECT 9, {columns} FROM audit_index WHERE seq = 1")
        )

    assert audit.verify(store).problem == "the index has records up to 9, the log up to 1"


def test_records_that_come_while_the_log_is_verified_are_no_fault(store: Store) -> None:
    add_policy(store)
    audit.make_findable(store)
    indexed = store.indexed_seq()

    with store.snapshot() as snapshot:
        assert snapshot.seq == 1
        ask(store)
        audit.make_findable(store)

        assert snapshot.first_bad_record(indexed=indexed, states={}) is None
