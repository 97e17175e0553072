"""What looks after the requests that run, where it cannot look."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from jit_service.check import GrantCache
from jit_service.domain.checks.http_request import Stream
from jit_service.domain.errors import JitError, PassageOver, ServiceStopping, StoreUnavailable, TooManyWatchers
from jit_service.proxy.open_requests import BLIND, OpenRequests
from jit_service.storage import Store
from tests.conftest import HOUR, NOON, Clock
from tests.domain.factories import question

STREAM = Stream(asked=question(), grant="grants/none", ends_at=NOON + HOUR, revision=0)


@pytest.fixture
def view(sqlite_url: str, clock: Clock) -> Iterator[GrantCache]:
    store = Store(sqlite_url, clock=clock)
    view = GrantCache(store, clock=clock, bound=timedelta(seconds=1))
    yield view
    view.stop()
    store.close()


@pytest.fixture
def running(view: GrantCache) -> OpenRequests:
    """Looks when the test says so."""
    return OpenRequests(view, limit=2)


def test_what_passed_by_a_grant_that_is_not_there_is_ended_once(view: GrantCache, running: OpenRequests) -> None:
    ends: list[JitError] = []
    running.add(STREAM, ends.append)
    view.strong(())

    running.sweep()
    running.sweep()

    assert [type(end) for end in ends] == [PassageOver]


def test_what_has_ended_by_itself_is_not_ended(view: GrantCache, running: OpenRequests) -> None:
    ends: list[JitError] = []
    running.forget(running.add(STREAM, ends.append))
    view.strong(())

    running.sweep()

    assert ends == []


def test_everything_ends_when_the_view_is_too_old(view: GrantCache, running: OpenRequests) -> None:
    """Nobody moves this view forward, and nobody has."""
    ends: list[JitError] = []
    running.add(STREAM, ends.append)
    running.add(STREAM, ends.append)
    assert (view.held(()).staleness or BLIND) > BLIND

    running.sweep()

    assert [type(end) for end in ends] == [StoreUnavailable, StoreUnavailable]


def test_everything_ends_when_it_cannot_be_judged(
    view: GrantCache, running: OpenRequests, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends: list[JitError] = []
    running.add(STREAM, ends.append)

    def fails(_: Any) -> Any:
        raise RuntimeError

    monkeypatch.setattr(view, "held", fails)
    running.start()
    try:
        for _ in range(100):
            if ends:
                break
            running.join(0.05)
    finally:
        running.stop()

    assert [type(end) for end in ends] == [StoreUnavailable]


def test_one_that_cannot_be_judged_ends_alone_and_one_that_cannot_be_ended_holds_nobody_up(
    view: GrantCache, running: OpenRequests
) -> None:
    ends: list[JitError] = []
    unsound = replace(STREAM, ends_at=STREAM.ends_at.replace(tzinfo=None))

    def sticks(_: JitError) -> None:
        raise RuntimeError

    running.add(unsound, ends.append)
    running.add(STREAM, sticks)
    view.strong(())

    running.sweep()

    assert [type(end) for end in ends] == [StoreUnavailable]
    running.add(STREAM, ends.append)
    running.sweep()
    assert [type(end) for end in ends] == [StoreUnavailable, PassageOver]


def test_there_is_room_for_so_many_and_again_for_one_that_comes_later(running: OpenRequests) -> None:
    first, _ = (running.add(STREAM, lambda _: None) for _ in range(2))

    with pytest.raises(TooManyWatchers):
        running.add(STREAM, lambda _: None)
    running.forget(first)
    running.add(STREAM, lambda _: None)


def test_a_service_that_stops_ends_everything_and_takes_no_more(running: OpenRequests) -> None:
    ends: list[JitError] = []
    running.add(STREAM, ends.append)

    running.stop()

    assert [type(end) for end in ends] == [ServiceStopping]
    with pytest.raises(ServiceStopping):
        running.add(STREAM, ends.append)
