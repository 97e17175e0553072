"""Which versions may serve a schema: the one before goes on with a newer one that is marked so, and no other does."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
from sqlalchemy import Engine, text

from jit_service.domain.errors import StoreUnavailable
from jit_service.storage import Store, inspection
from jit_service.storage import migrate as module
from jit_service.storage.engine import for_writing, open_engine
from jit_service.storage.migrate import _in_order, _scripts, migrate, schema_fault
from jit_service.storage.schema_mark import mark, marked, oldest_serving
from tests.conftest import Clock
from tests.storage.people import ALICE, add_policy, ask

HEAD = str(_scripts().get_current_head())
NEWER = "0999"


@dataclass
class Step:
    """A migration that says which revision may still serve after it; None says nothing."""

    revision: str
    says: str | None = None
    module: SimpleNamespace = field(init=False)

    def __post_init__(self) -> None:
        self.module = SimpleNamespace(**({"oldest_serving": self.says} if self.says else {}))


def migrated_by_a_newer_version(url: str, *, oldest: str) -> Engine:
    """Does what a migration of a later release does that this code does not know, and that keeps `oldest` served."""
    engine = for_writing(open_engine(url))
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE access_grant ADD COLUMN of_tomorrow TEXT DEFAULT 'x' NOT NULL"))
        connection.execute(text("UPDATE alembic_version SET version_num = :newer"), {"newer": NEWER})
        mark(connection, oldest)
    return engine


class TestMarks:
    def test_a_step_that_says_nothing_is_served_by_nothing_older(self) -> None:
        assert oldest_serving([Step("1"), Step("2")]) == "2"

    def test_one_that_only_adds_leaves_the_version_before_able_to_serve(self) -> None:
        assert oldest_serving([Step("1"), Step("2", "1"), Step("3", "1")]) == "1"

    def test_one_that_takes_away_counts_for_all_that_follow(self) -> None:
        assert oldest_serving([Step("1"), Step("2", "1"), Step("3", "2"), Step("4", "1")]) == "2"

    def test_none_can_name_what_comes_later(self) -> None:
        with pytest.raises(ValueError, match="migration 1: oldest_serving is '2'"):
            oldest_serving([Step("1", "2"), Step("2")])

    @pytest.mark.parametrize(
        ("until", "oldest"), [("0025", "0024"), ("0028", "0028"), ("0026", "0028"), ("0027", "0028")]
    )
    def test_those_that_there_are_leave_it_to_what_was_tried_with_them(self, until: str, oldest: str) -> None:
        order = [each.revision for each in _in_order()]

        assert oldest_serving(_in_order()[: order.index(until) + 1]) == oldest


def test_migrate_marks_the_schema_also_where_it_is_that_of_an_earlier_release(store: Store, database_url: str) -> None:
    with store.engine.begin() as connection:
        for column in ("oldest_serving", "marked_revision"):
            connection.execute(text(f"ALTER TABLE alembic_version DROP COLUMN {column}"))
        assert marked(connection) == ""

    migrate(database_url)

    with store.engine.connect() as connection:
        assert marked(connection) == oldest_serving(_in_order())


def test_a_newer_schema_that_leaves_it_able_to_is_served(store: Store, database_url: str, clock: Clock) -> None:
    add_policy(store)
    before = ask(store, caller=ALICE)
    migrated_by_a_newer_version(database_url, oldest=HEAD).dispose()

    assert schema_fault(store.engine) == ""
    again = Store(database_url, clock=clock)
    after = ask(again, caller=ALICE)
    with again.snapshot() as snapshot:
        assert {grant.name for grant in snapshot.live_grants(ALICE.principal)} == {before.name, after.name}
    again.close()


def test_a_newer_schema_that_does_not_is_refused(store: Store, database_url: str) -> None:
    migrated_by_a_newer_version(database_url, oldest=NEWER).dispose()

    assert f"of a newer version ({NEWER})" in schema_fault(store.engine)
    with pytest.raises(StoreUnavailable, match="of a newer version"):
        migrate(database_url)


def test_a_mark_counts_only_for_the_schema_that_it_was_written_for(store: Store) -> None:
    with store.engine.begin() as connection:
        mark(connection, HEAD)
        connection.execute(text("UPDATE alembic_version SET version_num = '0999'"))

    assert "of a newer version (0999)" in schema_fault(store.engine)


def test_migrate_of_the_version_before_leaves_a_newer_schema_as_it_is(
    store: Store, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    migrated_by_a_newer_version(database_url, oldest=HEAD).dispose()

    migrate(database_url)

    assert "may serve too; nothing is changed" in caplog.text
    with store.engine.connect() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one() == NEWER


def test_migrate_says_when_the_version_before_may_not_serve_any_more(
    database_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from tests.storage.test_migrations import downgrade

    before = _in_order()[-2].revision
    downgrade(database_url, before)
    monkeypatch.setattr(module, "oldest_serving", lambda _: HEAD)

    migrate(database_url)

    assert f"no version from before {HEAD} may serve this schema" in caplog.text


def test_check_and_doctor_tell_of_it(store: Store, database_url: str, clock: Clock) -> None:
    migrated_by_a_newer_version(database_url, oldest=HEAD).dispose()

    found = inspection.inspect(database_url, keys=None, clock=clock)

    assert (found.schema_fault, f"the schema {NEWER} of a newer version" in found.newer) == ("", True)
