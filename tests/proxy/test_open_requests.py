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
from tests.conftest import HOUR, NOON, TICK, Clock
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


def test_what_the_proxy_ends_at_its_time_is_logged_with_what_its_time_was(
    running: OpenRequests, caplog: pytest.LogCaptureFixture
) -> None:
    """Envoy's timer is a moment before the next look at the open requests. What ends before is nobody's cut."""
    caplog.set_level("INFO", "jit_service.proxy.cut_log")
    over = replace(STREAM, grant="grants/over", ends_at=NOON, ends_by="it ran for 60 s")
    early = replace(STREAM, grant="grants/early", ends_at=NOON + TICK)

    for stream in (over, early):
        running.forget(running.add(stream, lambda _: None))

    running.stop()
    asked = STREAM.asked
    assert caplog.messages == [
        f"cut {asked.action} on {asked.resource} of {asked.subject}, which passed by grants/over: it ran for 60 s"
    ]


def test_a_cut_is_logged_where_the_store_does_not_say_who_ended_the_grant(
    view: GrantCache, running: OpenRequests, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO", "jit_service.proxy.cut_log")
    running.add(STREAM, lambda _: None)
    view.strong(())

    def fails(_: str) -> Any:
        raise StoreUnavailable("the store does not answer")

    monkeypatch.setattr(view, "past", fails)
    running.sweep()
    running.stop()

    assert [message.endswith("grants/none was ended before its time") for message in caplog.messages] == [True]


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
