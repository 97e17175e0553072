"""Migrations: every database gets to today's schema, from nothing and from what was there before."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text
from sqlmodel import SQLModel

from jit_service.storage import Store
from jit_service.storage.engine import for_writing, open_engine
from jit_service.storage.migrate import _config, is_current, migrate
from jit_service.use_cases import grants
from tests.conftest import Clock
from tests.storage.people import ALICE, add_policy, approve, ask


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
        # SQLite's audit index is in a file of its own.
        apart = "audit_index" if connection.dialect.name == "sqlite" else None
        options = {"include_object": lambda _, name, kind, *_rest: (kind, name) != ("table", apart)}
        found = compare_metadata(MigrationContext.configure(connection, opts=options), SQLModel.metadata)

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
