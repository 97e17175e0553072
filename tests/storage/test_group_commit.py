"""SQLite's one writer: those who wait share a commit, and nothing else."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, event

from jit_service.domain.audit.event import Event
from jit_service.domain.errors import StoreUnavailable
from jit_service.domain.grants import approval, request
from jit_service.domain.grants.grant import Grant, GrantState
from jit_service.storage import Store, group_commit
from jit_service.storage.group_commit import FairLock, GroupCommit
from jit_service.storage.transaction import Transaction
from jit_service.use_cases import audit, grants
from tests.conftest import NOON, Clock
from tests.domain.test_sown_bugs import Twin, demand_caught
from tests.storage.people import ALICE, add_policy, ask

PATIENCE = 10


@pytest.fixture
def store(sqlite_url: str, clock: Clock) -> Iterator[Store]:
    store = Store(sqlite_url, clock=clock)
    yield store
    store.close()


class Crowd:
    """Transactions that are all under way before the first of them ends."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.commits = 0
        self._pool = ThreadPoolExecutor(8)
        event.listen(store._writing, "commit", self._note)

    def _note(self, _: object) -> None:
        self.commits += 1

    def run(self, *calls: Callable[[], object]) -> list[Any]:
        """Returns the answers and faults in order; the first has its turn while the others queue."""
        begun, go = threading.Event(), threading.Event()

        def hold() -> None:
            with self.store.transaction():
                begun.set()
                assert go.wait(PATIENCE)

        first = self._pool.submit(hold)
        assert begun.wait(PATIENCE)
        waiting: list[Future[Any]] = []
        for call in calls:
            waiting.append(self._pool.submit(call))
            wait_until(lambda: len(queue(self.store)) == len(waiting))
        go.set()
        return [answer(each) for each in (first, *waiting)][1:]


def queue(store: Store) -> Any:
    assert store._group_commit is not None
    return store._group_commit._lock._queue


def wait_until(holds: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(PATIENCE * 1000):
        if holds():
            return
        pause.wait(0.001)
    pytest.fail("it never happened")


def answer(future: Future[Any]) -> Any:
    fault = future.exception(PATIENCE)
    return future.result() if fault is None else fault


def asking(store: Store, resource: str) -> Callable[[], Grant]:
    return lambda: ask(store, resource=f"database/orders/{resource}")


def failing(store: Store) -> Callable[[], None]:
    def fail() -> None:
        with store.transaction() as tx:
            tx.save_grant(*requested(tx))
            raise RuntimeError

    return fail


def requested(tx: Transaction) -> tuple[Grant, Event]:
    asked = request.Ask(subject=ALICE.principal, resources=("database/orders/never",), actions=("read",))
    judged = request.judge_request(asked, policies=tx.policies(), by=ALICE, grant_name="grants/never", now=tx.now)
    return approval.open_request(judged, by=ALICE, now=tx.now)


def states(store: Store, found: list[Any]) -> list[GrantState]:
    assert [each for each in found if not isinstance(each, Grant)] == []
    return [(read := grants.get(store, ALICE, each.name)).grant.state(read.at) for each in found]


def test_those_who_wait_share_a_commit(store: Store) -> None:
    add_policy(store)
    crowd = Crowd(store)

    asked = crowd.run(asking(store, "a"), asking(store, "b"), asking(store, "c"))

    assert states(store, asked) == [GrantState.PENDING] * 3
    assert crowd.commits == 1
    assert not audit.verify(store).problem


def test_who_fails_takes_back_its_own_changes_only(store: Store) -> None:
    add_policy(store)
    crowd = Crowd(store)

    first, fault, last = crowd.run(asking(store, "a"), failing(store), asking(store, "b"))

    assert isinstance(fault, RuntimeError)
    assert states(store, [first, last]) == [GrantState.PENDING] * 2
    with store.snapshot() as snapshot:
        assert snapshot.grant("grants/never") is None
    assert not audit.verify(store).problem


def test_nobody_is_answered_where_the_commit_fails(store: Store) -> None:
    add_policy(store)
    with store.snapshot() as snapshot:
        before = snapshot.seq
    crowd = Crowd(store)

    with failing_commit(store):
        answers = crowd.run(asking(store, "a"), asking(store, "b"))

    assert [type(each) for each in answers] == [StoreUnavailable] * 2
    with store.snapshot() as snapshot:
        assert snapshot.seq == before
    assert states(store, [ask(store)]) == [GrantState.PENDING]
    assert not audit.verify(store).problem


def test_a_connection_that_cannot_write_is_not_kept(store: Store) -> None:
    """As SQLite's is for good that was opened while the file system was read-only."""
    add_policy(store)
    file = f"file:{store.engine.url.database}?mode=ro"
    opened = create_engine("sqlite://", creator=lambda: sqlite3.connect(file, uri=True, check_same_thread=False))
    assert store._group_commit is not None
    store._group_commit._connection = opened.connect()

    with pytest.raises(StoreUnavailable):
        ask(store)

    assert ask(store)


def test_checks_are_recorded_behind_what_waits_for_its_commit(store: Store) -> None:
    add_policy(store)
    crowd = Crowd(store)

    crowd.run(asking(store, "a"), lambda: store.append([b"{}"], at=store.clock()), asking(store, "b"))

    with store.snapshot() as snapshot:
        # The policy and the first request, the check's record, and the last request.
        assert snapshot.seq == 4
    assert audit.verify(store).problem == ""


def test_turns_come_in_the_order_they_were_asked_for() -> None:
    turns, had = FairLock(), []
    begun = threading.Event()

    def take(number: int) -> None:
        with turns.hold():
            had.append(number)

    def take_twice() -> None:
        with turns.hold():
            begun.set()
            wait_until(lambda: len(turns._queue) == 2)
        take(3)

    with ThreadPoolExecutor(3) as pool:
        pool.submit(take_twice)
        assert begun.wait(PATIENCE)
        pool.submit(take, 1)
        wait_until(lambda: len(turns._queue) == 1)
        pool.submit(take, 2)

    assert had == [1, 2, 3]


def test_a_turn_that_does_not_come_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "WAIT_SECONDS", 0.01)
    turns = FairLock()

    def take() -> None:
        with turns.hold():
            pass

    with turns.hold(), ThreadPoolExecutor(1) as pool:
        refused = answer(pool.submit(take))

    assert isinstance(refused, StoreUnavailable)
    take()


@contextmanager
def failing_commit(store: Store) -> Iterator[None]:
    def fail(_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    event.listen(store._writing, "commit", fail)
    yield
    event.remove(store._writing, "commit", fail)


TWINS: list[tuple[str, Any, str, str, Callable[[Store], None]]] = [
    (
        "a transaction that is answered before its commit",
        GroupCommit._end,
        "if not group.is_over:\n        with",
        "if False:\n        with",
        test_nobody_is_answered_where_the_commit_fails,
    ),
    (
        "a commit whose failure is nobody's",
        GroupCommit._end,
        "if group.fault is not None:",
        "if False:",
        test_nobody_is_answered_where_the_commit_fails,
    ),
    (
        "what has failed is committed with the others",
        GroupCommit._undo,
        'driver.execute("ROLLBACK TO member")',
        "pass",
        test_who_fails_takes_back_its_own_changes_only,
    ),
    (
        "who fails takes everything back",
        GroupCommit._undo,
        "if not group.members:",
        "if True:",
        test_who_fails_takes_back_its_own_changes_only,
    ),
    (
        "a turn that is taken out of order",
        FairLock._release,
        "self._queue.popleft()",
        "self._queue.pop()",
        lambda _: test_turns_come_in_the_order_they_were_asked_for(),
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
    demand_caught(Twin(name, function, sound, bug, lambda: caught_by(store)), monkeypatch)


def test_the_log_is_copied_beside_the_writers_and_begun_anew_when_it_is_long(
    store: Store, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(sqlite_url.removeprefix("sqlite:///"))
    monkeypatch.setattr("jit_service.storage.store._LONG_WAL", 3)
    for _ in range(5):
        store.append([b"{}"], at=NOON)
    long = pages_in_log(path)

    store.checkpoint_wal()
    store.append([b"{}"], at=NOON)

    assert long > 3
    assert pages_in_log(path) < long


def test_copying_the_log_waits_for_nobody_who_writes(store: Store, sqlite_url: str) -> None:
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        store.checkpoint_wal()
        other.execute("ROLLBACK")


def pages_in_log(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()[1])
