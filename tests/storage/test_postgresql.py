"""PostgreSQL as sites have it: old and new, several hosts, read-only for a while, away and back; never a standby."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, NoReturn

import pytest
from sqlalchemy import text

from jit_service.check import questions
from jit_service.domain.errors import StoreUnavailable
from jit_service.storage import Store, postgresql
from jit_service.storage.engine import open_engine
from jit_service.storage.grant_loader import GrantLoader
from jit_service.storage.migrate import migrate
from jit_service.use_cases import audit
from tests import checking
from tests.conftest import NOON, Clock
from tests.domain.test_sown_bugs import Twin, demand_caught
from tests.storage.people import ALICE, AUDITOR, GATEWAY, add_policy, approve, ask
from tests.storage.servers import Server, newest, running, versions

ASKED = questions.question(GATEWAY, subject=ALICE.principal, action="read", resource="database/orders/eu")
PATIENCE_SECONDS = 20.0


@pytest.fixture(scope="module")
def servers() -> Iterator[Callable[[Path], Server]]:
    """Servers that the tests of this module share; each leaves them as it found them."""
    with ExitStack() as stack:
        made: dict[Path, Server] = {}

        def server(binaries: Path) -> Server:
            if binaries not in made:
                made[binaries] = stack.enter_context(running(binaries))
                migrate(made[binaries].url)
            return made[binaries]

        yield server


@pytest.fixture
def server(servers: Callable[[Path], Server]) -> Server:
    return servers(newest())


@pytest.fixture
def fresh(server: Server, clock: Clock) -> Iterator[Store]:
    """A store on the server, in a database of its own."""
    store = Store(made(server), clock=clock)
    yield store
    checking.stop(store)
    store.close()


def made(server: Server) -> str:
    """Makes a database on the server. Returns its URL."""
    server.sql("DROP DATABASE IF EXISTS fresh WITH (FORCE)")
    server.sql("CREATE DATABASE fresh TEMPLATE jit")
    return server.url.replace("/jit?", "/fresh?")


def allowed(store: Store) -> bool:
    return checking.check(store, GATEWAY, ASKED).decision.allowed


def soon(fact: Callable[[], bool]) -> bool:
    """Waits for what is to come within seconds by itself."""
    until = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < until:
        try:
            if fact():
                return True
        except StoreUnavailable:
            pass
        time.sleep(0.05)
    return False


@versions
def test_each_version_lists_searches_and_verifies(
    binaries: Callable[[], Path], servers: Callable[[Path], Server], clock: Clock
) -> None:
    with closing(Store(made(servers(binaries())), clock=clock)) as store:
        add_policy(store)
        grant = approve(store, ask(store))
        assert allowed(store)
        with store.engine.begin() as connection:
            connection.execute(text("UPDATE audit_event SET payload = 'no record' WHERE seq = 2"))
            connection.execute(text("UPDATE audit_event SET payload = '\\xff' WHERE seq = 3"))

        page = audit.list_page(store, AUDITOR, filter_text="", order_by="seq", page_size=9, page_token="")
        of_grant = audit.list_page(
            store, AUDITOR, filter_text=f'grant = "{grant.name}"', order_by="seq", page_size=9, page_token=""
        )

        assert [recorded.seq for recorded in page.events] == [1, 2, 3, 4]
        assert [recorded.event.type for recorded in page.events][1:3] == ["EVENT_TYPE_UNSPECIFIED"] * 2
        assert [recorded.seq for recorded in of_grant.events] == [4]
        assert audit.verify(store).first_bad_seq == 2
        checking.stop(store)


def test_a_version_that_is_too_old_is_refused_in_one_line(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgresql, "OLDEST", 99)

    with pytest.raises(StoreUnavailable, match=r"^PostgreSQL \d+ is too old; 99 or newer is needed$"):
        migrate(server.url)


def test_a_server_that_takes_no_writes_is_away_until_it_does(server: Server, fresh: Store) -> None:
    add_policy(fresh)
    approve(fresh, ask(fresh))
    assert allowed(fresh)

    server.take_no_writes()
    try:
        assert soon(lambda: is_away(lambda: allowed(fresh)))
        for call in (lambda: ask(fresh), lambda: read(fresh), lambda: fresh.grant_loader().moved(fresh._policies.head)):
            with pytest.raises(StoreUnavailable):
                call()
    finally:
        server.take_writes()

    assert soon(lambda: bool(ask(fresh, resource="database/orders/us")))
    assert soon(lambda: allowed(fresh))


def read(store: Store) -> int:
    with store.snapshot() as snapshot:
        return snapshot.revision


def is_away(call: Callable[[], object]) -> bool:
    try:
        call()
    except StoreUnavailable:
        return True
    return False


def test_a_view_on_a_server_that_was_demoted_sees_nothing(server: Server, fresh: Store) -> None:
    """Its connection is kept for long: it is asked at each look what it is connected to."""
    add_policy(fresh)
    with fresh.snapshot() as snapshot:
        head = snapshot.head
    reader = fresh.grant_loader()
    assert reader.moved(head) is not None

    server.take_no_writes()
    try:
        assert soon(lambda: is_away(lambda: reader.moved(head)))
    finally:
        server.take_writes()

    assert soon(lambda: reader.moved(head) is not None)
    reader.close()


def test_what_appends_leaves_it_to_the_server_whether_it_writes(server: Server, fresh: Store) -> None:
    """Its connection is kept for long, too, and has read before: the pool gives the same to both."""
    with closing(Store(server.url.replace("/jit?", "/fresh?"), clock=fresh.clock)) as store:
        before = store.head()
        store.append([b"{}"], at=NOON)

        server.take_no_writes()
        try:
            assert soon(lambda: is_away(lambda: store.append([b"{}"], at=NOON)))
        finally:
            server.take_writes()

        assert soon(lambda: not is_away(lambda: store.append([b"{}"], at=NOON)))
        assert store.head().seq > before.seq + 1


def test_a_server_that_was_away_is_read_and_written_again_at_the_first_try(server: Server, fresh: Store) -> None:
    add_policy(fresh)
    approve(fresh, ask(fresh))
    assert allowed(fresh)

    server.stop()
    with pytest.raises(StoreUnavailable):
        allowed(fresh)
    with pytest.raises(StoreUnavailable):
        ask(fresh)
    server.start()

    assert allowed(fresh)
    assert ask(fresh, resource="database/orders/us")


def test_a_process_without_a_free_file_descriptor_cannot_reach_the_store(
    fresh: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection had its socket, and there was no descriptor left for what psycopg waits with."""
    add_policy(fresh)
    fresh.engine.dispose()

    with monkeypatch.context() as patched:
        patched.setattr("psycopg.waiting.DefaultSelector", no_descriptor_left)
        with pytest.raises(StoreUnavailable):
            read(fresh)
        with pytest.raises(StoreUnavailable):
            ask(fresh)

    assert ask(fresh)


def no_descriptor_left() -> NoReturn:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def test_a_connection_that_ended_unnoticed_fails_no_check(server: Server, fresh: Store) -> None:
    add_policy(fresh)
    approve(fresh, ask(fresh))
    assert allowed(fresh)

    server.stop()
    server.start()

    assert allowed(fresh)


@pytest.mark.parametrize(
    ("url", "host", "port", "attributes"),
    [
        ("postgresql+psycopg://jit@a:5432,b:5433/jit", "a,b", "5432,5433", "read-write"),
        ("postgresql+psycopg://jit@a,b/jit?target_session_attrs=primary", "a,b", "5432,5432", "primary"),
        ("postgresql+psycopg://jit@[::1]:5433,b/jit", "::1,b", "5433,5432", "read-write"),
        (
            "postgresql+psycopg://jit@/jit?host=a,b&port=5432,5433&target_session_attrs=any",
            "a,b",
            "5432,5433",
            "any",
        ),
        ("postgresql+psycopg://jit:p%40w@a:1,b:2/jit?sslmode=require", "a,b", "1,2", "read-write"),
    ],
)
def test_several_hosts_are_named_as_libpq_does(url: str, host: str, port: str, attributes: str) -> None:
    engine = open_engine(url)
    given: dict[str, Any] = {}
    engine.dialect.connect = lambda *_, **arguments: given.update(arguments)  # type: ignore[assignment, method-assign, return-value]

    with pytest.raises(AttributeError):
        engine.raw_connection()

    assert (given["host"], given["port"], given["target_session_attrs"]) == (host, port, attributes)
    assert given["user"] == "jit"
    assert given["dbname"] == "jit"
    assert given.get("password") == ("p@w" if "p%40w" in url else None)


@pytest.mark.parametrize("url", ["postgresql+psycopg://jit:secret@a:x,b/jit", "postgresql+psycopg://u:secret@a:x/jit"])
def test_a_url_that_cannot_be_read_is_refused_without_a_word_of_it(url: str) -> None:
    with pytest.raises(StoreUnavailable, match="cannot be read") as refused:
        open_engine(url)

    assert "secret" not in str(refused.value)
    assert refused.value.__cause__ is None


def test_the_first_host_that_takes_writes_is_taken(server: Server, fresh: Store, clock: Clock) -> None:
    directory = server.url.partition("host=")[2]
    url = f"postgresql+psycopg://jit@/fresh?host=/nowhere,{directory}&port=5432,5432"

    with closing(Store(url, clock=clock)) as store:
        assert add_policy(store)


TWINS = [
    (
        "a pool that keeps its connections to a server that was demoted",
        postgresql.is_primary,
        "return not",
        "return True or not",
        lambda server, store: still_written(server, store),
    ),
    (
        "a view that does not ask what it is connected to",
        GrantLoader._head,
        "if is_no_primary:",
        "if False:",
        test_a_view_on_a_server_that_was_demoted_sees_nothing,
    ),
    (
        "a writer that says READ WRITE after a reader",
        postgresql.set_read_only,
        "value or None",
        "value",
        test_what_appends_leaves_it_to_the_server_whether_it_writes,
    ),
]


def still_written(server: Server, store: Store) -> None:
    read(store)
    server.take_no_writes()
    try:
        assert soon(lambda: is_away(lambda: read(store)))
    finally:
        server.take_writes()


@pytest.mark.parametrize(("name", "function", "sound", "bug", "caught_by"), TWINS, ids=[twin[0] for twin in TWINS])
def test_no_twin_survives(
    name: str,
    function: Any,
    sound: str,
    bug: str,
    caught_by: Callable[[Server, Store], None],
    server: Server,
    fresh: Store,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caught_by(server, fresh)
    monkeypatch.setattr("tests.storage.test_postgresql.PATIENCE_SECONDS", 1.0)
    demand_caught(Twin(name, function, sound, bug, lambda: caught_by(server, fresh)), monkeypatch)
