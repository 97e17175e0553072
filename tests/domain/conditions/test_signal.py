"""Signals: a value until its expiry, and missing from then on."""

from __future__ import annotations

from typing import Any

import pytest

from jit_service.domain.audit.event import EventType
from jit_service.domain.caller import Caller, Role
from jit_service.domain.conditions import signal
from jit_service.domain.conditions.signal import Signal, Signals
from jit_service.domain.errors import InvalidField
from tests.domain.factories import HOUR, NOON, TICK

ADMIN = Caller(principal="user:admin@example.com", roles=frozenset({Role.ADMIN}))


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


def test_deleting_is_an_event() -> None:
    event = signal.deleted(incident(), by=ADMIN, now=NOON)

    assert (event.type, event.signal, event.duration) == (EventType.SIGNAL_DELETED, "signals/incident", None)


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
    assert signal.checked_name("incident", "name") == "signals/incident"
    assert signal.checked_name("signals/a_1", "name") == "signals/a_1"
    for bad in ("", "signals/", "A", "a-b", "1a", "a.b", "a" * 64):
        with pytest.raises(InvalidField):
            signal.checked_name(bad, "name")
