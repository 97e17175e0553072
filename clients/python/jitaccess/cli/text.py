"""Words for people: names in a row, instants in local time, lengths of time."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime, timedelta, tzinfo

_UNITS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
_SECONDS_MATTER_BELOW = timedelta(minutes=10)


def quoted(name: str) -> str:
    """Returns the name as it stands in a row of names: in quotes where it could be read as several."""
    return json.dumps(name, ensure_ascii=False) if " " in name or '"' in name else name


def listed(names: Iterable[str]) -> str:
    """Returns the names in one line."""
    return ", ".join(map(quoted, names))


def span(length: timedelta, *, units: int = len(_UNITS)) -> str:
    """Returns a length such as "1 h 30 min", rounded down to its `units` largest units and whole seconds."""
    rest, words = int(length.total_seconds()), []
    for name, size in _UNITS:
        amount, rest = divmod(rest, size)
        if amount:
            words.append(f"{amount} {name}")
    return " ".join(words[:units]) or "0 s"


def clock(at: datetime, *, now: datetime, zone: tzinfo | None = None) -> str:
    """Returns an instant as local time with its zone, and with its date unless that is today's."""
    local, today = at.astimezone(zone), now.astimezone(zone).date()
    shown = local.strftime("%H:%M:%S %Z")
    return shown if local.date() == today else f"{local:%Y-%m-%d} {shown}"


def moment(at: datetime, *, now: datetime, zone: tzinfo | None = None) -> str:
    """Returns an instant and how far it is: "14:30:00 CET, 42 min left" or "14:30:00 CET, 5 min ago"."""
    distance = f"{_about(at - now)} left" if at > now else f"{_about(now - at)} ago"
    return f"{clock(at, now=now, zone=zone)}, {distance}"


def parse_instant(text: str) -> datetime:
    """Returns the aware instant of an ISO 8601 text; without a zone it is local time. Raises ValueError."""
    try:
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        raise ValueError(
            f"{text!r} is no instant; write 2026-11-24T09:00:00+01:00, or without a zone for local time"
        ) from None


def parse_label(text: str) -> tuple[str, str]:
    """Returns the key and value of `key=value`. Raises ValueError."""
    key, separator, value = text.partition("=")
    if not key or not separator:
        raise ValueError(f"{text!r} is no label; write KEY=VALUE")
    return key, value


def parse_json(text: str) -> object:
    """Returns what the text means as JSON, else the text itself: `true` and `3` are no texts, `on` is one."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def parse_fact(text: str) -> tuple[str, object]:
    """Returns the key and value of `key=value`, the value as `parse_json` reads it. Raises ValueError."""
    key, separator, value = text.partition("=")
    if not key or not separator:
        raise ValueError(f"{text!r} is no fact; write KEY=VALUE, where VALUE is JSON or else text")
    return key, parse_json(value)


def _about(length: timedelta) -> str:
    """Returns a length to two units, and without the seconds of one that is not nearly over."""
    if length >= _SECONDS_MATTER_BELOW:
        length -= timedelta(seconds=length.total_seconds() % 60)
    return span(length, units=2)
