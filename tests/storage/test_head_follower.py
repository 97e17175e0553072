"""The head follower wakes whoever waits for a commit, of this process or of another, and nobody else."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any

import pytest

from jit_service.domain.audit.event import Event, EventType
from jit_service.domain.errors import ServiceStopping, StoreUnavailable
from jit_service.storage import Store, payload_of
from jit_service.storage.head_follower import HeadFollower
from tests.conftest import NOON
from tests.domain.test_sown_bugs import Twin, demand_caught
from tests.storage.people import add_policy

PATIENCE_SECONDS = 10.0


@pytest.fixture
def follower(store: Store) -> Iterator[HeadFollower]:
    follower = HeadFollower(store)
    yield follower
    follower.stop()


def append(store: Store) -> None:
    """Appends a record as checks do: it moves no revision, and the follower is not notified."""
    store.append([payload_of(Event(type=EventType.CALL_REFUSED, at=NOON, principal="user:p"))], at=NOON)


@contextmanager
def another_process(store: Store) -> Iterator[Store]:
    with closing(Store(store.engine.url.render_as_string(hide_password=False), clock=store.clock)) as other:
        yield other


@contextmanager
def waiting(
    follower: HeadFollower, wait: Callable[..., None], *, after: int = 0, gone: Callable[[], bool] = lambda: False
) -> Iterator[Future[None]]:
    """Waits in another thread; a wait that goes on is ended with the block."""
    with ThreadPoolExecutor(1) as pool:
        try:
            yield pool.submit(wait, after=after, seconds=60.0, gone=gone)
        finally:
            follower.stop()


def demand_past(wait: Callable[..., None]) -> None:
    """Fails where the follower does not know of anything after 0: then it asks whether the caller is gone."""
    asked: list[None] = []

    wait(after=0, seconds=0.0, gone=lambda: bool(asked.append(None)))

    assert not asked


def test_a_commit_of_this_process_wakes_without_a_look(store: Store, follower: HeadFollower) -> None:
    with waiting(follower, follower.wait_for_revision) as woken:
        add_policy(store)

        woken.result(PATIENCE_SECONDS)


def test_a_look_sees_the_commit_of_another_process(store: Store, follower: HeadFollower) -> None:
    with waiting(follower, follower.wait_for_revision) as woken, another_process(store) as other:
        add_policy(other)

        assert follower.look() == store.head()

        woken.result(PATIENCE_SECONDS)


def test_the_thread_looks_while_somebody_waits(store: Store, follower: HeadFollower) -> None:
    follower.start()

    with waiting(follower, follower.wait_for_record) as woken:
        append(store)

        woken.result(PATIENCE_SECONDS)


def test_the_thread_does_not_read_the_store_while_nobody_waits(
    store: Store, follower: HeadFollower, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[None] = []
    monkeypatch.setattr(follower, "look", lambda: looks.append(None))
    monkeypatch.setattr(follower, "_interval", 0.0)
    follower.start()

    follower.stop()

    assert not looks


def test_a_record_that_moves_no_revision_wakes_only_who_waits_for_records(store: Store, follower: HeadFollower) -> None:
    append(store)
    follower.look()

    demand_past(follower.wait_for_record)
    with pytest.raises(AssertionError):
        demand_past(follower.wait_for_revision)


def test_commits_that_are_told_out_of_order_do_not_move_the_head_back(store: Store, follower: HeadFollower) -> None:
    before = store.head()
    add_policy(store)

    follower._note(before)

    demand_past(follower.wait_for_revision)


def test_a_store_that_was_brought_back_is_followed_from_where_it_is(
    store: Store, follower: HeadFollower, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = store.head()
    add_policy(store)
    monkeypatch.setattr(store, "head", lambda: before)

    follower.look()

    with pytest.raises(AssertionError):
        demand_past(follower.wait_for_revision)


def test_a_caller_that_is_gone_waits_no_longer(follower: HeadFollower) -> None:
    gone = threading.Event()
    with waiting(follower, follower.wait_for_record, gone=gone.is_set) as woken:
        gone.set()
        follower.wake()

        woken.result(PATIENCE_SECONDS)


def test_the_end_of_the_service_ends_every_wait_and_says_where_to_go_on(follower: HeadFollower) -> None:
    with waiting(follower, follower.wait_for_record, after=3) as woken:
        follower.stop()

        with pytest.raises(ServiceStopping, match="go on from 3"):
            woken.result(PATIENCE_SECONDS)


def test_a_look_at_a_standby_is_refused(store: Store, follower: HeadFollower, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise StoreUnavailable("the database server takes no writes: it is a standby, or read-only")

    monkeypatch.setattr(store, "head", refuse)

    with pytest.raises(StoreUnavailable, match="standby"):
        follower.look()


TWINS: list[tuple[str, Any, str, str, Callable[[Store, HeadFollower], Any]]] = [
    (
        "a follower that takes the revision for the seq",
        HeadFollower.wait_for_record,
        "head.seq > after",
        "head.revision > after",
        test_a_record_that_moves_no_revision_wakes_only_who_waits_for_records,
    ),
    (
        "a follower that believes whatever is told last",
        HeadFollower._note,
        "if head.seq > self._head.seq:",
        "if True:",
        test_commits_that_are_told_out_of_order_do_not_move_the_head_back,
    ),
    (
        "a follower that does not keep what it read",
        HeadFollower.look,
        "self._head = head",
        "pass",
        test_a_record_that_moves_no_revision_wakes_only_who_waits_for_records,
    ),
]


@pytest.mark.parametrize(("name", "function", "sound", "bug", "caught_by"), TWINS, ids=[twin[0] for twin in TWINS])
def test_no_sown_bug_survives(
    name: str,
    function: Any,
    sound: str,
    bug: str,
    caught_by: Callable[[Store, HeadFollower], Any],
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    demand_caught(Twin(name, function, sound, bug, lambda: caught_by(store, HeadFollower(store))), monkeypatch)
