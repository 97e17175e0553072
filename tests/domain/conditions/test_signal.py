"""Signals: a value until its expiry, and missing from then on."""

from __future__ import annotations

from typing import Any

import pytest

from jit_service.domain.audit.event import EventType
from jit_service.domain.caller import Caller, Origin, Role
from jit_service.domain.conditions import signal
from jit_service.domain.conditions.signal import Signal, Signals
from jit_service.domain.errors import InvalidField
from tests.domain.factories import HOUR, NOON, TICK

ADMIN = Caller(
    principal="user:admin@example.com", roles=frozenset({Role.ADMIN}), origin=Origin(method="SetSignal", trace_id="7")
)


def incident(**changes: Any) -> Signal:
    facts: dict[str, Any] = {"name": "signals/incident", "value": "on", "expires_at": NOON + HOUR}
    return Signal(**(facts | changes))


def test_a_signal_is_stale_exactly_at_its_expiry() -> None:
    assert signal.at([incident()], NOON + HOUR - TICK) == Signals(live={"incident": "on"})
    assert signal.at([incident()], NOON + HOUR) == Signals(stale=frozenset({"incident"}))


def test_setting_keeps_who_and_when_and_the_revision_it_follows() -> None:
    new, event = signal.put(incident(value={"a": 1}), replaces=incident(revision=7), by=ADMIN, now=NOON)

    assert (new.setter, new.updated_at, new.revision) == (ADMIN.principal, NOON, 7)
    assert (event.type, event.signal, event.message, event.duration) == (
        EventType.SIGNAL_SET,
        "signals/incident",
        '{"a": 1}',
        HOUR,
    )
    assert signal.put(incident(), replaces=None, by=ADMIN, now=NOON)[0].revision == 0


def test_a_signal_is_known_again_by_the_event_that_records_it() -> None:
    given = incident(value={"level": [1, "high"]})
    _, event = signal.put(given, replaces=None, by=ADMIN, now=NOON)

    assert signal.recorded(event) == given
    assert signal.recorded(signal.deletion_event(given, by=ADMIN, now=NOON)) is None


def test_deleting_is_an_event() -> None:
    event = signal.deletion_event(incident(), by=ADMIN, now=NOON)

    assert (event.type, event.signal, event.duration) == (EventType.SIGNAL_DELETED, "signals/incident", None)
    assert (event.at, event.principal, event.origin, event.message) == (NOON, ADMIN.principal, ADMIN.origin, "deleted")


def test_setting_is_recorded_with_who_and_from_where() -> None:
    new, event = signal.put(incident(value="\u00e9"), replaces=None, by=ADMIN, now=NOON)

    assert new.value == "\u00e9"
    assert (event.at, event.principal, event.origin, event.message) == (NOON, ADMIN.principal, ADMIN.origin, '"\u00e9"')


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"value": None}, "signal.value"),
        ({"value": "x" * 4095}, "signal.value"),
        ({"expires_at": NOON}, "signal.expire_time"),
        ({"expires_at": NOON + signal.MAX_AHEAD + TICK}, "signal.expire_time"),
    ],
)
def test_a_wrong_signal_names_its_field(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidField) as refused:
        signal.put(incident(**changes), replaces=None, by=ADMIN, now=NOON)

    assert refused.value.field == field


def test_the_bounds_themselves_are_allowed() -> None:
    for changes in ({"value": "x" * 4094}, {"expires_at": NOON + TICK}, {"expires_at": NOON + signal.MAX_AHEAD}):
        assert signal.put(incident(**changes), replaces=None, by=ADMIN, now=NOON)


def test_a_signals_id_is_what_cel_can_name() -> None:
    assert signal.normalize_name("incident", "name") == "signals/incident"
    assert signal.normalize_name("signals/a_1", "name") == "signals/a_1"
    for bad in ("", "signals/", "A", "a-b", "1a", "a.b", "a" * 64):
        with pytest.raises(InvalidField):
            signal.normalize_name(bad, "name")


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"value": None}, "is required; any JSON value but null"),
        ({"value": "x" * 4095}, "has 4097 characters of JSON; at most 4096 are allowed"),
        (
            {"expires_at": NOON},
            "is 2026-03-02T12:00:00+00:00; it must be later than now and at most 366 days ahead",
        ),
    ],
)
def test_a_wrong_signal_is_told_what_is_allowed(changes: dict[str, Any], fault: str) -> None:
    with pytest.raises(InvalidField) as refused:
        signal.put(incident(**changes), replaces=None, by=ADMIN, now=NOON)

    assert refused.value.fault == fault


def test_characters_beyond_ascii_count_once() -> None:
    assert signal.put(incident(value="\u00e9" * 4094), replaces=None, by=ADMIN, now=NOON)


def test_a_wrong_name_is_shown_as_far_as_it_is_short() -> None:
    with pytest.raises(InvalidField) as refused:
        signal.normalize_name("A" * 81, "signal.name")

    assert refused.value.message == (
        f"signal.name: '{'A' * 80}' is not a signal's name; it must be signals/ID, where ID is 1 to 63 of a-z, 0-9 "
        "and _, and starts with a letter"
    )
