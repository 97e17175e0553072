"""A watch tells every change once, whatever happens to the connection."""

from __future__ import annotations

import asyncio
from threading import Event
from typing import Any

import grpc
import pytest

from jitaccess import AsyncJitClient, GrantEvent, JitClient, NotFound, Retry, Unauthenticated, Unavailable
from jitaccess import _watch as watching
from jitaccess.client import Stream
from jitaccess.replica.state import LOADING, SILENCE, first_silence
from jitaccess.v1 import grant_pb2
from jitaccess.v1.grant_pb2 import WatchGrantsRequest
from tests.client.conftest import Ask
from tests.client.service import Held, Refusal, Service

AWAY = Refusal(code=grpc.StatusCode.UNAVAILABLE)


def event(kind: str, revision: int, grant: str = "") -> grant_pb2.WatchGrantsResponse:
    told = grant_pb2.WatchGrantsResponse(
        event_type=grant_pb2.WatchGrantsResponse.EventType.Value(kind), revision=revision, history=f"h{revision}"
    )
    if grant:
        told.grant.MergeFrom(grant_pb2.Grant(name=f"grants/{grant}", revision=revision))
    return told


def heartbeat(revision: int) -> grant_pb2.WatchGrantsResponse:
    return event("HEARTBEAT", revision)


def told(events: list[GrantEvent]) -> list[tuple[str, str, int]]:
    return [(item.event_type.value, item.grant.id if item.grant else "", item.revision) for item in events]


def starts(service: Service) -> list[int]:
    return [sent.start_revision for sent in service.sent("WatchGrants")]


def test_what_happens_is_told_as_it_comes(ask: Ask, service: Service) -> None:
    service.will_stream("WatchGrants", [event("CURRENT", 3, "a"), heartbeat(3), event("GRANT_APPROVED", 4, "a")])

    events = ask("watch_grants", events=2)

    assert told(events) == [("CURRENT", "a", 3), ("GRANT_APPROVED", "a", 4)]


def test_signs_of_life_are_told_where_they_are_asked_for(ask: Ask, service: Service) -> None:
    service.will_stream("WatchGrants", [heartbeat(3), event("OVERRUN", 3)], [heartbeat(4)])

    events = ask("watch_grants", heartbeats=True, events=2)

    assert told(events) == [("HEARTBEAT", "", 3), ("HEARTBEAT", "", 4)]
    assert events[0].grant is None


@pytest.mark.parametrize("broken", [[AWAY], [event("OVERRUN", 5)], [], [event("OVERRUN", 5), AWAY]])
def test_a_stream_that_ends_is_taken_up_after_the_last_revision(ask: Ask, service: Service, broken: list[Any]) -> None:
    first = [event("GRANT_REQUESTED", 4, "a"), heartbeat(5), *broken]
    service.will_stream("WatchGrants", first, [event("GRANT_APPROVED", 6, "a")])

    events = ask("watch_grants", start_revision=3, start_history="h3", events=2)

    assert told(events) == [("GRANT_REQUESTED", "a", 4), ("GRANT_APPROVED", "a", 6)]
    assert starts(service) == [3, 5]
    assert [sent.start_history for sent in service.sent("WatchGrants")] == ["h3", "h5"]


def test_where_nothing_was_told_it_begins_where_it_was_to_begin(ask: Ask, service: Service) -> None:
    service.will_stream("WatchGrants", [AWAY], [event("GRANT_APPROVED", 9, "a")])

    ask("watch_grants", start_revision=7)

    assert starts(service) == [7, 7]


def test_a_beginning_that_broke_is_begun_anew_and_tells_nothing_twice(ask: Ask, service: Service) -> None:
    service.will_stream(
        "WatchGrants",
        [event("CURRENT", 3, "a"), event("CURRENT", 4, "b"), AWAY],
        [event("CURRENT", 3, "a"), event("CURRENT", 6, "b"), event("CURRENT", 5, "c"), heartbeat(7), AWAY],
        [event("GRANT_REVOKED", 8, "a")],
    )

    events = ask("watch_grants", events=5)

    assert told(events) == [
        ("CURRENT", "a", 3), ("CURRENT", "b", 4), ("CURRENT", "b", 6), ("CURRENT", "c", 5), ("GRANT_REVOKED", "a", 8),
    ]  # fmt: skip
    assert starts(service) == [0, 0, 7]


def test_a_change_says_that_the_beginning_was_told(ask: Ask, service: Service) -> None:
    service.will_stream(
        "WatchGrants",
        [event("CURRENT", 3, "a"), event("GRANT_REQUESTED", 4, "b"), AWAY],
        [event("GRANT_REVOKED", 5, "b")],
    )

    events = ask("watch_grants", events=3)

    assert told(events)[-1] == ("GRANT_REVOKED", "b", 5)
    assert starts(service) == [0, 4]


def test_two_changes_at_one_revision_are_both_told(ask: Ask, service: Service) -> None:
    service.will_stream("WatchGrants", [event("GRANT_REVOKED", 4, "a"), event("GRANT_REVOKED", 4, "b")])

    assert len(ask("watch_grants", start_revision=3, events=2)) == 2


def test_it_goes_on_for_as_long_as_each_stream_tells_something(ask: Ask, service: Service) -> None:
    streams = [[event("GRANT_USED", revision, "a"), AWAY] for revision in range(10, 30)]
    service.will_stream("WatchGrants", *streams)

    events = ask("watch_grants", start_revision=9, events=20, options={"retry": Retry(attempts=2, first_delay=0)})

    assert [item.revision for item in events] == list(range(10, 30))


@pytest.mark.parametrize("silent", [[AWAY], []])
def test_where_nothing_is_told_at_all_it_gives_up(ask: Ask, service: Service, silent: list[Any]) -> None:
    service.will_stream("WatchGrants", silent)

    with pytest.raises(Unavailable):
        ask("watch_grants", options={"retry": Retry(attempts=3, first_delay=0)})

    assert starts(service) == [0, 0, 0]


EXPIRED = Refusal(code=grpc.StatusCode.UNAUTHENTICATED, reason="TOKEN_EXPIRED")


def test_a_stream_that_ends_with_its_token_goes_on_with_the_next(ask: Ask, service: Service) -> None:
    service.will_stream("WatchGrants", [heartbeat(4), EXPIRED], [event("GRANT_APPROVED", 5, "a"), Held()])
    tokens = iter(["first", "second"])

    events = ask("watch_grants", start_revision=3, options={"token": lambda: next(tokens)})

    assert told(events) == [("GRANT_APPROVED", "a", 5)]
    sent = [call.metadata["authorization"] for call in service.received if call.rpc == "WatchGrants"]
    assert sent == ["Bearer first", "Bearer second"]


def test_a_token_that_stays_expired_is_an_error(ask: Ask, service: Service) -> None:
    service.will_stream("WatchGrants", [heartbeat(4), EXPIRED], [EXPIRED])

    with pytest.raises(Unauthenticated):
        ask("watch_grants", start_revision=3)

    assert starts(service) == [3, 4]


def test_any_other_error_is_raised_at_once(ask: Ask, service: Service) -> None:
    refusal = Refusal(code=grpc.StatusCode.NOT_FOUND, reason="GRANT_NOT_FOUND")
    service.will_stream("WatchGrants", [heartbeat(3), refusal])

    with pytest.raises(NotFound) as caught:
        ask("watch_grants", grant="a")

    assert caught.value.reason == "GRANT_NOT_FOUND"
    assert len(starts(service)) == 1


def test_silence_is_a_broken_stream(ask: Ask, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "SILENCE", 0.3)
    dead = Held()
    service.will_stream("WatchGrants", [heartbeat(4), dead], [event("GRANT_APPROVED", 5, "a"), Held()])

    events = ask("watch_grants", start_revision=3)

    assert told(events) == [("GRANT_APPROVED", "a", 5)]
    assert starts(service) == [3, 4]
    assert dead.left.wait(10)


def test_closing_the_iterator_ends_the_call(service: Service) -> None:
    held = Held()
    service.will_stream("WatchGrants", [event("CURRENT", 3, "a"), held])

    with JitClient(service.address, token="t") as client:
        events = client.watch_grants()
        next(events)
        events.close()

        assert held.left.wait(10)


def test_closing_the_asynchronous_iterator_ends_the_call(service: Service) -> None:
    held = Held()
    service.will_stream("WatchGrants", [event("CURRENT", 3, "a"), held])

    async def main() -> bool:
        async with AsyncJitClient(service.address, token="t") as client:
            events = client.watch_grants()
            await anext(events)
            await events.aclose()
            return await asyncio.to_thread(held.left.wait, 10)

    assert asyncio.run(main())


def test_a_consumer_may_take_its_time(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setattr(watching, "SILENCE", 0.2)
    service.will_stream("WatchGrants", [event("CURRENT", 3, "a"), event("CURRENT", 4, "b"), heartbeat(4), Held()])

    with JitClient(service.address, token="t") as client:
        events = client.watch_grants()
        next(events)
        time.sleep(0.6)
        second = next(events)
        events.close()

    assert told([second]) == [("CURRENT", "b", 4)]
    assert starts(service) == [0]


class Slow:
    """A call whose first message comes late, and whose second one never does."""

    def __init__(self) -> None:
        self._cancelled = Event()
        self._told = False

    def __next__(self) -> str:
        if self._cancelled.wait(None if self._told else 0.5):
            raise StopIteration
        self._told = True
        return "all"

    def cancel(self) -> None:
        self._cancelled.set()


def test_a_service_may_say_nothing_for_long_at_first_and_not_later() -> None:
    patient, impatient = Stream(Slow(), silence=0.1, first=30), Stream(Slow(), silence=0.1)

    assert [list(patient), list(impatient)] == [["all"], []]
    assert (patient.was_silent, impatient.was_silent) == (True, True)


def test_a_replica_that_begins_anew_waits_for_its_turn() -> None:
    assert first_silence(WatchGrantsRequest()) == LOADING
    assert first_silence(WatchGrantsRequest(start_revision=7)) == SILENCE
