"""Signals: named pieces of system state with a value and an expiry, which conditions read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from jit_service.domain.audit.event import Event, EventType
from jit_service.domain.caller import Caller
from jit_service.domain.errors import InvalidField

MAX_VALUE: Final = 4096
MAX_AHEAD: Final = timedelta(days=366)
_ID = re.compile(r"[a-z][a-z0-9_]{0,62}")


@dataclass(frozen=True, kw_only=True)
class Signal:
    """A signal as stored; `value` is any JSON value but null. `revision` is 0 before it is stored."""

    name: str
    value: Any
    expires_at: datetime
    setter: str = ""
    updated_at: datetime | None = None
    revision: int = 0

    def is_stale(self, now: datetime) -> bool:
        """Returns whether the signal has expired; conditions then treat it as missing."""
        return now >= self.expires_at


@dataclass(frozen=True, kw_only=True)
class Signals:
    """What conditions see at an instant: live values by id, and the ids of those that have expired."""

    live: Mapping[str, Any] = field(default_factory=dict)
    stale: frozenset[str] = frozenset()


NO_SIGNALS: Final = Signals()


def at(signals: Iterable[Signal], now: datetime) -> Signals:
    """Returns the signals as conditions see them at `now`."""
    signals = tuple(signals)
    by_id = {signal.name.removeprefix("signals/"): signal for signal in signals}
    return Signals(
        live={name: signal.value for name, signal in by_id.items() if not signal.is_stale(now)},
        stale=frozenset(name for name, signal in by_id.items() if signal.is_stale(now)),
    )


def recorded(event: Event) -> Signal | None:
    """Returns the signal as it was after the recorded event, None where that deleted it."""
    if event.type is EventType.SIGNAL_DELETED:
        return None
    return Signal(
        name=event.signal, value=json.loads(event.message), expires_at=event.at + (event.duration or timedelta())
    )


def normalize_name(text: str, path: str) -> str:
    """Returns `signals/{id}`, or raises InvalidField. The id is a CEL identifier, as in `signals.incident`."""
    identifier = text.removeprefix("signals/")
    if not _ID.fullmatch(identifier):
        allowed = "signals/ID, where ID is 1 to 63 of a-z, 0-9 and _, and starts with a letter"
        raise InvalidField(path, f"{text[:80]!a} is not a signal's name; it must be {allowed}")
    return f"signals/{identifier}"


def put(signal: Signal, *, replaces: Signal | None, by: Caller, now: datetime) -> tuple[Signal, Event]:
    """Returns the signal with its new value. Raises InvalidField."""
    if signal.value is None:
        raise InvalidField("signal.value", "is required; any JSON value but null")
    text = json.dumps(signal.value, ensure_ascii=False)
    if len(text) > MAX_VALUE:
        raise InvalidField("signal.value", f"has {len(text)} characters of JSON; at most {MAX_VALUE} are allowed")
    if not now < signal.expires_at <= now + MAX_AHEAD:
        fault = f"is {signal.expires_at.isoformat()}; it must be later than now and at most {MAX_AHEAD.days} days ahead"
        raise InvalidField("signal.expire_time", fault)
    new = Signal(
        name=signal.name,
        value=signal.value,
        expires_at=signal.expires_at,
        setter=by.principal,
        updated_at=now,
        revision=replaces.revision if replaces is not None else 0,
    )
    return new, _event(EventType.SIGNAL_SET, new, by=by, now=now, message=text)


def deletion_event(signal: Signal, *, by: Caller, now: datetime) -> Event:
    """Returns the event that records the deletion of a signal."""
    return _event(EventType.SIGNAL_DELETED, signal, by=by, now=now, message="deleted")


def _event(type_: EventType, signal: Signal, *, by: Caller, now: datetime, message: str) -> Event:
    return Event(
        type=type_,
        at=now,
        principal=by.principal,
        origin=by.origin,
        message=message,
        signal=signal.name,
        duration=signal.expires_at - now if type_ is EventType.SIGNAL_SET else None,
    )
