"""Instants as RFC 3339 writes them: `2026-05-04T12:00:00Z`."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

_INSTANT: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d)", re.ASCII | re.IGNORECASE)


def exact(instant: datetime) -> str:
    """Returns an instant in UTC, with microseconds where it has any."""
    return instant.isoformat().replace("+00:00", "Z")


def to_seconds(instant: datetime) -> str:
    """Returns an instant in UTC, without what is finer than a second."""
    return instant.isoformat(timespec="seconds").replace("+00:00", "Z")


def parse(text: str) -> datetime | None:
    """Returns the instant in UTC; None where the text is none, or is finer than a microsecond."""
    if not _INSTANT.fullmatch(text):
        return None
    try:
        return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
