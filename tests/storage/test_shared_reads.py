"""What many threads need of the store at the same time is read once, and never an older state than they may have."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event
from typing import Any

import pytest

from jit_service.domain.errors import StoreUnavailable
from jit_service.feeds.grants import ControlEvent, GrantUpdate, Watched, watch
from jit_service.feeds.replica import ReplicaUpdate, replicate
from jit_service.storage import Snapshot, Store, shared_reads
from jit_service.storage.head_follower import HeadFollower
from jit_service.storage.readers.grant_changes import GrantChangeReader
from jit_service.storage.shared_reads import SharedReads
from jit_service.use_cases.grants import GrantView
from tests.domain.test_sown_bugs import Twin, demand_caught
from tests.storage.people import ALICE, AUDITOR, GATEWAY, add_policy, ask


@pytest.fixture
def reads(store: Store, monkeypatch: pytest.MonkeyPatch) -> SharedReads:
    """Shared reads, of which none becomes too old by the time that a slow machine takes."""
    monkeypatch.setattr(shared_reads, "_KEPT_SECONDS", 60.0)
    return SharedReads(store)


def test_who_asks_while_another_reads_gets_what_that_one_reads(reads: SharedReads) -> None:
    begun, goes_on, read = Event(), Event(), []

    def slowly(snapshot: Snapshot) -> int:
        begun.set()
        goes_on.wait(10)
        read.append(snapshot.revision)
        return snapshot.revision

    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(reads.read, "key", slowly, revision=0)
        assert begun.wait(10)
        others = [pool.submit(reads.read, "key", slowly, revision=0) for _ in range(7)]
        goes_on.set()
        assert {each.result(10) for each in others} == {first.result(10)}
    assert read == [0]


def test_what_was_just_read_is_given_to_whoever_comes_later_and_nothing_else(reads: SharedReads) -> None:
    counted = counting()

    found = [reads.read(key, counted, revision=0).found for key in ("a", "a", "b", "a")]

    assert found == [1, 1, 2, 1]


def test_no_state_is_given_that_is_older_than_what_is_known(store: Store, reads: SharedReads) -> None:
    add_policy(store)
    before = reads.read("key", revision_of, revision=0).found
    ask(store)

    assert reads.read("key", revision_of, revision=before).found == before
    assert reads.read("key", revision_of, revision=before + 1).found == before + 1


def test_no_state_is_given_that_was_read_before_a_stream_began(reads: SharedReads) -> None:
    counted = counting()
    reads.read("key", counted, revision=0)

    began = time.monotonic()
    found = reads.read("key", counted, revision=0, not_before=began)

    assert found.found == 2
    assert found.began_at >= began


def test_what_is_too_old_is_read_again_and_not_kept(reads: SharedReads, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = counting()
    reads.read("key", counted, revision=0)
    monkeypatch.setattr(shared_reads, "_KEPT_SECONDS", 0.0)

    assert reads.read("another", counted, revision=0).found == 2
    assert list(reads._reads) == ["another"]
    assert reads.read("key", counted, revision=0).found == 3


def test_a_fault_is_told_to_all_who_wait_and_the_next_one_tries_again(reads: SharedReads) -> None:
    together = Barrier(4)

    def fails(_: Snapshot) -> int:
        raise StoreUnavailable("the store does not answer")

    def asks() -> None:
        together.wait(10)
        reads.read("key", fails, revision=0)

    with ThreadPoolExecutor(4) as pool:
        for each in [pool.submit(asks) for _ in range(4)]:
            with pytest.raises(StoreUnavailable):
                each.result(10)
    assert reads.read("key", lambda _: "well", revision=0).found == "well"


def test_streams_at_the_same_place_read_a_change_once(
    store: Store, follower: HeadFollower, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_reads, "_KEPT_SECONDS", 60.0)
    read: list[int] = []

    def counted(reader: GrantChangeReader, *, after: int, limit: int) -> Any:
        read.append(after)
        return changes(reader, after=after, limit=limit)

    changes = GrantChangeReader.changes
    monkeypatch.setattr(GrantChangeReader, "changes", counted)
    add_policy(store)
    streams: list[Iterator[GrantUpdate | ReplicaUpdate]] = []
    for _ in range(4):
        streams += [
            watch(store, ALICE, Watched(), follower=follower, gone=lambda: False),
            watch(store, AUDITOR, Watched(view=GrantView.ALL), follower=follower, gone=lambda: False),
            replicate(store, GATEWAY, Watched(), follower=follower, gone=lambda: False),
        ]
    for each in streams:
        while next(each).type is not ControlEvent.HEARTBEAT:
            pass
    grant = ask(store)

    # A replica is told of what may give access, and else that it has seen the state.
    told = [next(each) for each in streams]

    assert [update.revision for update in told] == [grant.revision] * 12
    # Watches read once for all, and replicas once.
    assert len(read) == 2


def counting() -> Callable[[Snapshot], int]:
    """Returns a read that finds how often it was read."""
    count = 0

    def counted(_: Snapshot) -> int:
        nonlocal count
        count += 1
        return count

    return counted


def revision_of(snapshot: Snapshot) -> int:
    return snapshot.revision


TWINS = [
    (
        "a state that is older than what is known",
        "read.revision >= revision and ",
        test_no_state_is_given_that_is_older_than_what_is_known,
    ),
    (
        "a state from before the stream began",
        " and read.began_at >= not_before",
        lambda _, reads: test_no_state_is_given_that_was_read_before_a_stream_began(reads),
    ),
]


@pytest.mark.parametrize(("name", "sound", "caught_by"), TWINS, ids=[twin[0] for twin in TWINS])
def test_no_twin_survives(
    name: str,
    sound: str,
    caught_by: Callable[[Store, SharedReads], None],
    store: Store,
    reads: SharedReads,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    twin = Twin(name, shared_reads._suffices, sound, "", lambda: caught_by(store, SharedReads(store)))
    demand_caught(twin, monkeypatch)
