"""Migrations: every database gets to today's schema, from nothing and from what was there before."""

from __future__ import annotations

import logging
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text
from sqlmodel import SQLModel

from jit_service.domain.audit.event import Event, EventType, RecordedEvent
from jit_service.domain.conditions.signal import Signal
from jit_service.domain.notification import Subscription, interests
from jit_service.notifications.delivery import list_waiting
from jit_service.storage import Store, audit_compaction, payload_of
from jit_service.storage import engine as engines
from jit_service.storage import migrate as module
from jit_service.storage.engine import for_writing, open_engine
from jit_service.storage.migrate import _config, _scripts, is_current, migrate
from jit_service.use_cases import audit, grants, signals
from tests.conftest import HOUR, NOON, Clock, copy_of
from tests.storage.people import ADMIN, ALICE, add_policy, approve, ask


def upgrade(url: str, revision: str) -> None:
    engine = for_writing(open_engine(url))
    with engine.begin() as connection:
        command.upgrade(_config(connection), revision)
    engine.dispose()


def downgrade(url: str, revision: str) -> None:
    engine = for_writing(open_engine(url))
    with engine.begin() as connection:
        command.downgrade(_config(connection), revision)
    engine.dispose()


def test_the_migrations_make_what_the_tables_say(store: Store) -> None:
    with store.engine.connect() as connection:
        partitions: set[str] = set()
        if connection.dialect.name == "postgresql":
            partitions |= set(connection.execute(text("SELECT relname FROM pg_class WHERE relispartition")).scalars())
        context = MigrationContext.configure(
            connection, opts={"include_name": lambda name, type_, _: type_ != "table" or name not in partitions}
        )
        found = compare_metadata(context, SQLModel.metadata)

    assert found == []


def test_migrating_twice_changes_nothing(database_url: str) -> None:
    migrate(database_url)

    engine = open_engine(database_url)
    assert is_current(engine)
    engine.dispose()


def test_an_older_database_is_not_current_and_keeps_its_grants(database_url: str, clock: Clock) -> None:
    store = Store(database_url, clock=clock)
    add_policy(store)
    grant = approve(store, ask(store))
    store.close()
    downgrade(database_url, "0001")
    old = Store(database_url, clock=clock)
    assert not is_current(old.engine)
    old.close()

    migrate(database_url)

    again = Store(database_url, clock=clock)
    assert is_current(again.engine)
    assert again.is_unsealed()
    assert again.seal_existing() > 1
    assert grants.get(again, ALICE, grant.name).grant == grant
    again.close()


def test_notifications_that_wait_stay_and_those_of_addressees_go_with_the_downgrade(
    database_url: str, clock: Clock
) -> None:
    """The release before knows no addressees: it would send each of theirs to one place."""
    wanted = interests(["*"])
    store = Store(
        database_url,
        clock=clock,
        subscriptions=[
            Subscription(receiver="oncall", interests=wanted),
            Subscription(receiver="mail", interests=wanted, addressees=("bob@example.com",)),
        ],
    )
    add_policy(store)
    store.close()
    downgrade(database_url, "0018")

    migrate(database_url)

    again = Store(database_url, clock=clock)
    assert [(left.receiver, left.addressee, left.type) for left in list_waiting(again)] == [
        ("oncall", "", "POLICY_CREATED")
    ]
    again.close()


def test_a_log_in_pieces_becomes_rows_and_pieces_again(
    database_url: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_compaction, "PIECE", 4)
    store = Store(database_url, clock=clock)
    add_policy(store)
    signals.put(store, ADMIN, Signal(name="signals/incident", value=True, expires_at=clock() + HOUR), etag="")
    store.append([payload_of(Event(type=EventType.CALL_REFUSED, at=NOON, principal="user:p"))] * 5, at=NOON)
    ask(store)
    assert sum(iter(store.merge_audit, 0)) == 7
    before, listed = everything(store), changes_of_settings(store)
    store.close()

    downgrade(database_url, "0016")
    engine = open_engine(database_url)
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT seq, hash, payload FROM audit_event ORDER BY seq")).all()
    engine.dispose()
    assert [(row.seq, bytes(row.hash)) for row in rows] == [(recorded.seq, recorded.hash) for recorded in before]
    migrate(database_url)

    again = Store(database_url, clock=clock)
    assert everything(again) == before
    assert changes_of_settings(again) == listed == [(1, "policies/orders"), (2, "signals/incident")]
    assert audit.verify(again).problem == ""
    assert sum(iter(again.merge_audit, 0)) == 8
    assert everything(again) == before
    again.close()


def everything(store: Store) -> list[RecordedEvent]:
    with store.snapshot() as snapshot:
        return [record.recorded for record in snapshot.audit_records(after=0, until=snapshot.seq, enough=99)]


def changes_of_settings(store: Store) -> list[tuple[int, str]]:
    with store.engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text("SELECT seq, name FROM setting_change ORDER BY seq"))]


def test_the_index_of_an_earlier_release_is_used_and_removed(sqlite_url: str, clock: Clock) -> None:
    """Only what the index did not have yet is scanned: 10 million rows would take half a minute."""
    store = Store(sqlite_url, clock=clock)
    add_policy(store)
    ask(store)
    add_policy(store, name="policies/later")
    head = store.head()
    store.close()
    downgrade(sqlite_url, "0016")
    path = Path(f"{sqlite_url.removeprefix('sqlite:///')}.audit-index")
    with closing(sqlite3.connect(path)) as index, index:
        index.execute("CREATE TABLE indexed_log (id INTEGER PRIMARY KEY, seq INTEGER, hash BLOB)")
        index.execute("INSERT INTO indexed_log VALUES (1, ?, ?)", (head.seq, head.hash))
        # Of this release's index only what is asked for, and one change less than the log has.
        index.execute("CREATE TABLE audit_index (seq INTEGER PRIMARY KEY, type TEXT)")
        index.execute("INSERT INTO audit_index VALUES (1, 'POLICY_CREATED')")

    migrate(sqlite_url)

    again = Store(sqlite_url, clock=clock)
    assert changes_of_settings(again) == [(1, "policies/orders")]
    assert not path.exists()
    again.close()


def test_a_step_may_take_longer_than_a_call_of_a_client(postgresql_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An index of a large table takes minutes."""
    downgrade(postgresql_url, "0021")
    with _psycopg(postgresql_url) as connection:
        connection.execute(
            "CREATE FUNCTION slow() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN "
            "IF current_setting('jit.slow', true) IS NULL THEN "
            "PERFORM pg_sleep(1.3), set_config('jit.slow', 'once', false); END IF; END $$"
        )
        connection.execute(
            "CREATE EVENT TRIGGER slow ON ddl_command_end WHEN TAG IN ('ALTER TABLE') EXECUTE FUNCTION slow()"
        )
    monkeypatch.setattr(engines, "WAIT_SECONDS", 1)

    migrate(postgresql_url)

    engine = open_engine(postgresql_url)
    assert is_current(engine)
    engine.dispose()


def _psycopg(url: str) -> psycopg.Connection[Any]:
    return psycopg.connect(url.replace("+psycopg", ""), autocommit=True)


def test_a_database_of_each_earlier_version_keeps_its_data(database_url: str, clock: Clock, tmp_path: Path) -> None:
    store = Store(database_url, clock=clock)
    add_policy(store)
    grant = approve(store, ask(store))
    before = everything(store)
    store.close()

    for revision in earlier_revisions():
        downgrade(database_url, revision)
        with copy_of(database_url, tmp_path) as url:
            migrate(url)

            again = Store(url, clock=clock)
            if again.is_unsealed():
                again.seal_existing()
            assert is_current(again.engine), revision
            assert grants.get(again, ALICE, grant.name).grant == grant, revision
            assert everything(again) == before, revision
            assert audit.verify(again).problem == "", revision
            again.close()


def earlier_revisions() -> list[str]:
    return [script.revision for script in _scripts().walk_revisions()][1:]


def test_two_migrations_at_once_take_turns_and_the_second_finds_nothing_to_do(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    downgrade(database_url, "0001")
    caplog.set_level(logging.INFO, logger="jit_service.storage")

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(migrate, [database_url] * 2))

    applied = [record.args[0] for record in caplog.records if "took" in record.msg and isinstance(record.args, tuple)]
    assert applied == [*reversed(earlier_revisions()[:-1]), _scripts().get_current_head()]


def test_each_step_is_told_with_the_tables_that_it_keeps_from_others(
    postgresql_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    downgrade(postgresql_url, "0021")
    caplog.set_level(logging.INFO, logger="jit_service.storage")

    migrate(postgresql_url)

    assert "migration 0024 took" in caplog.text
    assert "AccessExclusiveLock of setting_change" in caplog.text
    assert "audit_beginning" not in caplog.text, "a new table keeps nobody waiting"


def test_a_migration_lets_others_go_first_while_a_long_query_uses_the_table(
    postgresql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that read the table would otherwise queue up behind the migration, and it behind the query."""
    downgrade(postgresql_url, "0021")
    monkeypatch.setattr(module, "LOCK_SECONDS", 0.05)
    monkeypatch.setattr(module, "_PAUSE_SECONDS", 0.01)
    undone = threading.Event()
    monkeypatch.setattr(module._log, "warning", lambda *_: undone.set())

    with ThreadPoolExecutor(1) as pool, _psycopg(postgresql_url) as query, _psycopg(postgresql_url) as other:
        query.autocommit = False
        query.execute("SELECT count(*) FROM setting_change")
        migration = pool.submit(migrate, postgresql_url)
        assert undone.wait(20)
        other.execute("SELECT count(*) FROM setting_change")
        assert not migration.done()
        query.rollback()
        migration.result(20)

    engine = open_engine(postgresql_url)
    assert is_current(engine)
    engine.dispose()


def test_an_empty_database_gets_the_whole_schema(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'new.db'}"
    upgrade(url, "0001")
    migrate(url)

    engine = open_engine(url)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT revision, seq FROM head")).one() == (0, 0)
    engine.dispose()


@pytest.mark.parametrize("url", ["sqlite:////nonexistent/dir/x.db", "postgresql+psycopg://u:hunter2@127.0.0.1:1/x"])
def test_a_database_that_cannot_be_reached_is_told_without_its_password(url: str) -> None:
    from jit_service.domain.errors import StoreUnavailable

    with pytest.raises(StoreUnavailable) as fault:
        migrate(url)

    assert "hunter2" not in str(fault.value)
