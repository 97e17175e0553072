"""Refused calls of whoever proves to be nobody: what they leave in the log, however many they are."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from jit_service.domain.audit.audit_filter import AUDIT_FIELDS
from jit_service.domain.audit.event import Event, EventType
from jit_service.domain.caller import Caller, Origin
from jit_service.domain.language.filter import parse
from jit_service.storage import Store
from jit_service.use_cases import unauthenticated_calls
from jit_service.use_cases.unauthenticated_calls import INTERVAL, MAX_SAMPLES, UnauthenticatedCalls
from tests.conftest import TICK, Clock
from tests.domain.test_sown_bugs import Twin, sown

ASKS = "/jitaccess.v1.GrantService/RequestGrant"


@pytest.fixture
def calls(store: Store) -> UnauthenticatedCalls:
    return UnauthenticatedCalls(store)


def by(address: str, method: str = ASKS) -> Caller:
    origin = Origin(method=method, source_address=address, user_agent="x" * 256, trace_id="a" * 32)
    return Caller(principal="", origin=origin)


def recorded(store: Store) -> list[Event]:
    with store.snapshot() as snapshot:
        node = parse("event_type = CALL_REFUSED", AUDIT_FIELDS)
        found = snapshot.audit_events(node=node, backwards=False, beyond=None, limit=1000)
        return [recorded.event for recorded in found.events]


def counts(store: Store) -> list[tuple[str, int]]:
    return [(event.origin.source_address, event.repeat_count or 1) for event in recorded(store)]


def test_a_record_has_method_address_and_reason_and_nothing_that_the_caller_wrote(
    store: Store, calls: UnauthenticatedCalls
) -> None:
    calls.refused(by("192.0.2.1"), reason="TOKEN_MISSING")

    [event] = recorded(store)
    assert event == Event(
        type=EventType.CALL_REFUSED,
        at=event.at,
        principal="",
        origin=Origin(method=ASKS, source_address="192.0.2.1"),
        decision="REFUSED",
        reason="TOKEN_MISSING",
    )


def test_what_follows_within_a_second_is_one_record_with_its_count(
    store: Store, clock: Clock, calls: UnauthenticatedCalls
) -> None:
    for _ in range(5000):
        calls.refused(by("192.0.2.1"), reason="TOKEN_MISSING")
    assert counts(store) == [("192.0.2.1", 1)]

    clock.advance(INTERVAL)
    calls.work()

    assert counts(store) == [("192.0.2.1", 1), ("192.0.2.1", 4999)]


def test_a_second_ends_exactly_when_it_is_over(store: Store, clock: Clock, calls: UnauthenticatedCalls) -> None:
    calls.refused(by("192.0.2.1"), reason="TOKEN_MISSING")

    clock.advance(INTERVAL - TICK)
    calls.refused(by("192.0.2.1"), reason="TOKEN_MISSING")
    assert len(recorded(store)) == 1

    clock.advance(TICK)
    calls.refused(by("192.0.2.1"), reason="TOKEN_INVALID")
    assert [(event.reason, event.repeat_count) for event in recorded(store)] == [
        ("TOKEN_MISSING", 0),
        ("TOKEN_INVALID", 2),
    ]


def test_one_address_does_not_hide_another(store: Store, calls: UnauthenticatedCalls) -> None:
    for address in ("192.0.2.1", "192.0.2.1", "192.0.2.2"):
        calls.refused(by(address), reason="TOKEN_MISSING")

    assert counts(store) == [("192.0.2.1", 1), ("192.0.2.2", 1)]


def test_the_addresses_of_one_ipv6_network_are_one(store: Store, calls: UnauthenticatedCalls) -> None:
    for host in range(1, 100):
        calls.refused(by(f"2001:db8::{host:x}"), reason="TOKEN_MISSING")
    calls.refused(by("2001:db8:0:1::1"), reason="TOKEN_MISSING")

    assert counts(store) == [("2001:db8::1", 1), ("2001:db8:0:1::1", 1)]


def test_many_addresses_write_no_more_than_a_few_records_a_second(
    store: Store, clock: Clock, calls: UnauthenticatedCalls
) -> None:
    for host in range(100):
        calls.refused(by(f"192.0.2.{host}"), reason="TOKEN_MISSING")
    assert len(recorded(store)) == MAX_SAMPLES

    for _ in range(4):
        clock.advance(INTERVAL)
        calls.work()

    assert sorted(counts(store)) == sorted((f"192.0.2.{host}", 1) for host in range(100))


def test_more_addresses_than_are_told_apart_are_counted_under_none(
    store: Store, clock: Clock, calls: UnauthenticatedCalls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unauthenticated_calls, "MAX_ADDRESSES", 2)
    for host in range(10):
        calls.refused(by(f"192.0.2.{host}"), reason="TOKEN_MISSING")

    clock.advance(INTERVAL)
    calls.work()

    assert counts(store) == [("192.0.2.0", 1), ("192.0.2.1", 1), ("", 1), ("", 7)]


def test_what_is_counted_is_recorded_when_the_service_stops(store: Store, calls: UnauthenticatedCalls) -> None:
    for _ in range(3):
        calls.refused(by("192.0.2.1"), reason="TOKEN_MISSING")

    calls.stop()

    assert counts(store) == [("192.0.2.1", 1), ("192.0.2.1", 2)]


def test_an_address_is_forgotten_when_it_is_quiet(store: Store, clock: Clock, calls: UnauthenticatedCalls) -> None:
    calls.refused(by("192.0.2.1"), reason="TOKEN_MISSING")

    clock.advance(INTERVAL)
    calls.work()

    assert not calls._addresses
    assert counts(store) == [("192.0.2.1", 1)]


def test_a_clock_that_is_set_back_silences_nobody(store: Store, clock: Clock, calls: UnauthenticatedCalls) -> None:
    calls.refused(by("192.0.2.1"), reason="TOKEN_MISSING")

    clock.advance(-timedelta(hours=1))
    calls.refused(by("192.0.2.1"), reason="TOKEN_MISSING")

    assert counts(store) == [("192.0.2.1", 1), ("192.0.2.1", 1)]


Test = Callable[[Store, Clock, UnauthenticatedCalls], None]
TWINS: list[tuple[Twin, Test]] = [
    (
        Twin(
            "a record for each call", UnauthenticatedCalls._is_due, "not timedelta() <= now", "timedelta() <= now", None
        ),  # type: ignore[arg-type]
        test_what_follows_within_a_second_is_one_record_with_its_count,
    ),
    (
        Twin("no bound for all addresses", UnauthenticatedCalls._take_sample, "taken >= MAX_SAMPLES", "False", None),  # type: ignore[arg-type]
        test_many_addresses_write_no_more_than_a_few_records_a_second,
    ),
]


@pytest.mark.parametrize(("twin", "caught_by"), TWINS, ids=lambda value: getattr(value, "name", ""))
def test_no_twin_survives(
    twin: Twin,
    caught_by: Test,
    store: Store,
    clock: Clock,
    calls: UnauthenticatedCalls,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(twin.function, "__code__", sown(twin))

    with pytest.raises(AssertionError):
        caught_by(store, clock, calls)
