"""The store hangs, is cut off, or ends a connection: every way to it says UNAVAILABLE, and is well again by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import psycopg
import pytest
from sqlalchemy.exc import DBAPIError

from jit_service.check import questions
from jit_service.domain.caller import Origin
from jit_service.domain.errors import StoreUnavailable
from jit_service.storage import Store, postgresql
from jit_service.storage.failures import demand_outcome, translate_errors
from jit_service.storage.head_follower import HeadFollower
from jit_service.storage.migrate import is_current, migrate
from jit_service.use_cases import audit, grants
from tests import checking
from tests.conftest import HOUR, NOON, Clock
from tests.domain.test_sown_bugs import Twin, demand_caught
from tests.storage.people import ADMIN, ALICE, GATEWAY, add_policy, approve, ask
from tests.storage.servers import Server, newest, running
from tests.storage.test_postgresql import made, soon
from tests.storage.wire import Wire, wire

ASKED = questions.question(GATEWAY, subject=ALICE.principal, action="read", resource="database/orders/eu")
Door_ = Callable[[], object]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running(newest()) as server:
        migrate(server.url)
        yield server


@pytest.fixture
def way(server: Server) -> Iterator[Wire]:
    with wire(server.socket) as way:
        yield way


@pytest.fixture
def store(server: Server, way: Wire, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A store that reaches a database of its own by the wire, with little patience."""
    monkeypatch.setattr(postgresql, "_PING_SECONDS", 1)
    made(server)
    store = Store(f"postgresql+psycopg://jit@127.0.0.1:{way.port}/fresh", clock=clock)
    yield store
    way.go_on()
    checking.stop(store)
    store.close()


def doors(store: Store) -> dict[str, Door_]:
    """Every way in which the service uses the store, each after it was used once."""
    loader, follower = store.grant_loader(), HeadFollower(store)
    place = store.head()

    def outbox() -> None:
        with store.outbox() as outbox:
            outbox.claim("oncall", lease=HOUR)

    found: dict[str, Door_] = {
        "read": store.head,
        "write": lambda: ask(store, resource="database/orders/us"),
        "records of checks": lambda: store.append([b"{}"], at=NOON),
        "view of checks": lambda: loader.moved(place),
        "load of grants": lambda: loaded(store),
        "feeds": follower.look,
        "outbox": outbox,
        "merging": store.merge_audit,
        "schema": lambda: is_current(store.engine),
        "check": lambda: checking.check(store, GATEWAY, ASKED),
    }
    return found


def loaded(store: Store) -> int:
    with closing(store.grant_loader()) as loader, loader.load(lambda *_: None) as everything:
        return sum(map(len, everything.grants))


def answers(calls: dict[str, Door_]) -> dict[str, str]:
    """Calls all at once. Returns what is wrong with each: nothing, or the fault's name."""
    with ThreadPoolExecutor(len(calls)) as pool:
        return dict(zip(calls, pool.map(fault_of, calls.values()), strict=True))


def fault_of(call: Door_) -> str:
    try:
        call()
    except Exception as fault:
        return type(fault).__name__
    return ""


def demand_soon(calls: dict[str, Door_], fault: str) -> None:
    """Waits until each call has that fault, or none if it is empty. Says which has not."""
    expected = dict.fromkeys(calls, fault)
    found: dict[str, str] = {}

    def all_are() -> bool:
        found.update(answers(calls))
        return found == expected

    soon(all_are)
    assert found == expected


def hang(server: Server, way: Wire) -> Callable[[], None]:
    way.hang()
    return way.go_on


def cut(server: Server, way: Wire) -> Callable[[], None]:
    way.cut()
    return way.go_on


def stop(server: Server, way: Wire) -> Callable[[], None]:
    server.stop()
    return server.start


def take_no_writes(server: Server, way: Wire) -> Callable[[], None]:
    server.take_no_writes()
    return server.take_writes


@pytest.mark.parametrize("strike", [hang, cut, stop, take_no_writes])
def test_every_way_to_the_store_says_that_it_is_away_and_then_goes_on(
    strike: Callable[[Server, Wire], Callable[[], None]], server: Server, way: Wire, store: Store
) -> None:
    add_policy(store)
    approve(store, ask(store))
    calls = doors(store)
    assert answers(calls) == dict.fromkeys(calls, "")
    # What only reads goes on to be answered for a moment by a server that is told to take no writes.
    reads_on = {"schema"} if strike is take_no_writes else set()

    mend = strike(server, way)
    try:
        told = {name: call for name, call in calls.items() if name not in reads_on}
        demand_soon(told, "StoreUnavailable")
    finally:
        mend()

    demand_soon(calls, "")
    assert audit.verify(store).problem == ""


def test_while_the_store_hangs_one_call_tries_it_and_the_others_do_not_wait(way: Wire, store: Store) -> None:
    assert store.head()
    way.hang()
    with pytest.raises(StoreUnavailable):
        store.head()

    with ThreadPoolExecutor(1) as pool:
        trying = pool.submit(store.head)
        assert soon(lambda: store.door._turn.locked())
        with pytest.raises(StoreUnavailable, match="does not answer"):
            store.head()
        assert not trying.done()

    with pytest.raises(StoreUnavailable):
        trying.result()
    way.go_on()
    assert soon(lambda: bool(store.head()))
    assert not store.door.is_closed


def test_who_reads_for_long_does_not_keep_the_others_out_of_a_store_that_answers_again(way: Wire, store: Store) -> None:
    way.hang()
    with pytest.raises(StoreUnavailable):
        store.head()
    assert store.door.is_closed
    way.go_on()

    def read_beside_another() -> bool:
        with store.long_snapshot():
            return bool(store.head())

    assert soon(read_beside_another)


def test_a_connection_that_ends_at_the_commit_leaves_it_open_and_a_retry_tells(way: Wire, store: Store) -> None:
    add_policy(store)
    caller = ALICE._replace(origin=Origin(request_id="0b6bb1a3-7f2f-4a3e-8a4b-0a4f3c2d1e0f"), request_digest="d")
    way.lose_answer_to(b"COMMIT")

    with pytest.raises(StoreUnavailable, match=r"did not say whether it took the change; repeat .* same request_id"):
        ask(store, caller=caller)
    again = ask(store, caller=caller)

    with store.snapshot() as snapshot:
        assert snapshot.count_pending(ALICE.principal) == 1
    assert again == ask(store, caller=caller)


def test_a_revoke_whose_commit_was_not_answered_is_seen_by_the_next_check(way: Wire, store: Store) -> None:
    add_policy(store)
    grant = approve(store, ask(store))
    assert checking.check(store, GATEWAY, ASKED).decision.allowed
    way.lose_answer_to(b"COMMIT")

    with pytest.raises(StoreUnavailable):
        grants.revoke(store, ADMIN, grant.name, comment="over", etag="")

    assert not checking.check(store, GATEWAY, ASKED).decision.allowed


def test_a_host_that_stops_in_a_transaction_frees_the_others(
    server: Server, store: Store, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    """The server ends its session; what it did is undone, and it hears that the store is away."""
    add_policy(store)
    with closing(Store(server.url.replace("/jit?", "/fresh?"), clock=clock)) as stopped:
        with pytest.raises(StoreUnavailable), stopped.transaction() as transaction:
            driver: Any = transaction._connection.connection.dbapi_connection
            driver.execute("SET LOCAL idle_in_transaction_session_timeout = 1")
            assert soon(lambda: postgresql.has_ended(driver))
            transaction.policies()

    assert ask(store)


@pytest.mark.parametrize("state", ["08006", "25006", "25P03", "26000", "42501", "42P01", "42P05", "53100", "53300",
                                   "55P03", "57014", "57P01", "57P03", "58030", "XX000", "XX001"])  # fmt: skip
def test_what_the_server_says_of_itself_is_unavailable(state: str) -> None:
    fault = psycopg.errors.lookup(state)("secret address") if state not in ("08006", "XX000") else told(state)

    for raised in (fault, DBAPIError.instance("SELECT 1", None, fault, psycopg.Error)):
        with pytest.raises(StoreUnavailable) as unavailable, translate_errors():
            raise raised
        assert "secret" not in str(unavailable.value)


def told(state: str) -> psycopg.Error:
    fault = psycopg.InternalError("secret address")
    fault.sqlstate = state
    return fault


@pytest.mark.parametrize(("state", "is_open"), [("57P01", True), ("08006", True), ("53100", False), ("40001", False)])
def test_a_commit_that_the_server_refused_is_no_open_one(state: str, is_open: bool) -> None:
    fault = told(state)

    with pytest.raises(StoreUnavailable if is_open else psycopg.InternalError), demand_outcome():
        raise fault


TWINS = [
    (
        "a commit that counts as refused",
        demand_outcome.__exit__,
        "if not state or state.startswith(_ENDED):",
        "if False:",
        test_a_connection_that_ends_at_the_commit_leaves_it_open_and_a_retry_tells,
    ),
]


@pytest.mark.parametrize(("name", "function", "sound", "bug", "caught_by"), TWINS, ids=[twin[0] for twin in TWINS])
def test_no_twin_survives(
    name: str, function: Any, sound: str, bug: str, caught_by: Any, way: Wire, store: Store,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("tests.storage.test_postgresql.PATIENCE_SECONDS", 6.0)

    def caught() -> None:
        try:
            caught_by(way, store)
        except StoreUnavailable as fault:
            pytest.fail(str(fault))
        finally:
            way.go_on()

    demand_caught(Twin(name, function, sound, bug, caught), monkeypatch)
