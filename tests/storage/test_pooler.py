"""PostgreSQL behind a pooler that gives each transaction another session: nothing of the service is in a session."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from typing import Any

import pytest

from jit_service.check import questions
from jit_service.domain.errors import StoreUnavailable
from jit_service.storage import Store, postgresql
from jit_service.storage.audit_partitions import RECORDS
from jit_service.storage.engine import open_engine
from jit_service.storage.failures import translate_errors
from jit_service.storage.migrate import is_current, migrate
from jit_service.use_cases import audit, grants
from tests import checking
from tests.conftest import Clock
from tests.domain.test_sown_bugs import Twin, demand_caught
from tests.storage.people import ADMIN, ALICE, GATEWAY, add_policy, approve, ask
from tests.storage.pooler import pooled
from tests.storage.servers import Server, newest, running
from tests.storage.test_postgresql import is_away, soon

ASKED = questions.question(GATEWAY, subject=ALICE.principal, action="read", resource="database/orders/eu")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running(newest()) as server:
        yield server


@pytest.fixture(scope="module")
def pooler(server: Server) -> Iterator[str]:
    with pooled(server) as url:
        yield url


@pytest.fixture
def url(server: Server, pooler: str) -> str:
    """An empty database behind the pooler."""
    server.sql("DROP DATABASE IF EXISTS fresh WITH (FORCE)")
    server.sql("CREATE DATABASE fresh")
    return pooler.replace("/jit?", "/fresh?")


@pytest.fixture
def store(url: str, clock: Clock) -> Iterator[Store]:
    migrate(url)
    store = Store(url, clock=clock)
    yield store
    checking.stop(store)
    store.close()


def allowed(store: Store) -> bool:
    return checking.check(store, GATEWAY, ASKED).decision.allowed


def test_a_life_of_a_grant_passes_through_the_pooler(store: Store) -> None:
    """Each statement often enough that a driver would prepare it, and many sessions at the same time."""
    add_policy(store)
    with ThreadPoolExecutor(8) as people:
        asked = list(people.map(lambda n: ask(store, resource=f"database/orders/{n}"), range(16)))
        given = list(people.map(lambda grant: approve(store, grant), [*asked, ask(store)]))
        assert allowed(store)
        answers = list(people.map(lambda _: allowed(store), range(64)))
    assert all(answers)

    grants.revoke(store, ADMIN, given[-1].name, comment="over", etag="")

    assert not allowed(store)
    assert audit.verify(store).problem == ""
    assert is_current(store.engine)


def test_each_transaction_is_bounded_and_leaves_its_session_as_it_was(store: Store) -> None:
    add_policy(store)
    with store.transaction() as transaction:
        bounds = bounds_of(transaction._connection.connection.dbapi_connection)
    raw: Any = store.engine.raw_connection()
    raw.dbapi_connection.autocommit = True
    afterwards = [bounds_of(raw.dbapi_connection) for _ in range(8)]
    raw.close()

    assert bounds == ("5s", "5s", "10s")
    assert set(afterwards) == {("0", "0", "0")}


def bounds_of(connection: Any) -> tuple[str, ...]:
    names = ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout")
    return tuple(connection.execute(f"SELECT current_setting('{name}')").fetchone()[0] for name in names)


def test_a_session_of_its_own_is_bounded_once_and_prepares_its_statements(postgresql_url: str) -> None:
    engine = open_engine(postgresql_url)
    connection: Any = engine.raw_connection().dbapi_connection

    assert not connection.is_pooled
    assert connection.prepare_threshold == 5
    assert bounds_of(connection) == ("5s", "5s", "10s")
    engine.dispose()


@pytest.mark.parametrize(("said", "is_pooled"), [("transaction", True), ("none", False), ("auto", False)])
def test_the_url_may_say_what_stands_between(postgresql_url: str, said: str, is_pooled: bool) -> None:
    engine = open_engine(f"{postgresql_url}&pooler={said}")
    connection: Any = engine.raw_connection().dbapi_connection

    assert connection.is_pooled is is_pooled
    engine.dispose()


def test_answers_that_came_out_of_step_are_a_connection_that_is_lost(postgresql_url: str) -> None:
    """A pooler that lost its server adds its own answer to what was answered; the next would be taken for another's."""
    engine = open_engine(postgresql_url)
    connection: Any = engine.raw_connection().dbapi_connection
    connection.rollback()
    connection._begin_statement = b"BEGIN; SELECT 1"

    with pytest.raises(StoreUnavailable), translate_errors():
        connection.execute("SELECT 2")

    assert connection.closed


def test_a_url_with_another_pooler_is_refused(postgresql_url: str) -> None:
    with pytest.raises(StoreUnavailable, match=r"^pooler=session in the database URL is none of auto, transaction, no"):
        open_engine(f"{postgresql_url}&pooler=session")


def test_a_pooler_that_reaches_a_server_without_writes_is_away_until_it_takes_them(
    server: Server, store: Store
) -> None:
    """The check of a connection may be answered by one session, and the transaction go to another."""
    add_policy(store)
    raw: Any = store.engine.raw_connection()
    held = raw.dbapi_connection

    def is_refused() -> bool:
        with suppress(StoreUnavailable):
            postgresql.begin(held)
            held.rollback()
            return False
        held.rollback()
        return True

    server.take_no_writes()
    try:
        assert soon(is_refused)
        assert soon(lambda: is_away(lambda: ask(store)))
    finally:
        server.take_writes()

    assert soon(lambda: not is_refused())
    assert soon(lambda: bool(ask(store)))
    raw.close()


TWINS = [
    (
        "a connection that takes every server for its own",
        postgresql._Session.set_up,
        'self._pooler == "auto" and not is_direct',
        "False",
        test_a_life_of_a_grant_passes_through_the_pooler,
    )
]


@pytest.mark.parametrize(("name", "function", "sound", "bug", "caught_by"), TWINS, ids=[twin[0] for twin in TWINS])
def test_no_twin_survives(
    name: str, function: Any, sound: str, bug: str, caught_by: Any, url: str, clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    migrate(url)

    def lives() -> None:
        with closing(Store(url, clock=clock)) as store:
            try:
                caught_by(store)
            except (StoreUnavailable, ExceptionGroup) as fault:
                pytest.fail(str(fault))
            finally:
                checking.stop(store)

    demand_caught(Twin(name, function, sound, bug, lives), monkeypatch)


def test_partitions_of_the_audit_log_are_made_through_it(store: Store) -> None:
    assert store.audit_partitions.make_ahead(room=3 * RECORDS) == 1

    with store.snapshot() as snapshot:
        assert [part.end for part in snapshot.audit_layout.partitions] == [RECORDS, 2 * RECORDS, 3 * RECORDS]
