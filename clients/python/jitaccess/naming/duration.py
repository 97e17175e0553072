"""Durations as people write them: on the command line, in policy files and in the service's settings."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final

FORMS: Final = "90s, 30m, 1h, 1h30m, 2d"
"""Durations to show as examples: days, hours, minutes and seconds, the largest first."""
_SPAN: Final = re.compile(r"(?:([0-9]{1,9})d)?(?:([0-9]{1,9})h)?(?:([0-9]{1,9})m)?(?:([0-9]{1,9}(?:\.[0-9]{1,6})?)s)?")


def parse_span(text: str) -> timedelta:
    """Returns the duration that 90s, 0.5s, 30m, 1h, 1h30m or 2d names, above zero. Raises ValueError."""
    match = _SPAN.fullmatch(text)
    days, hours, minutes, seconds = (part or "0" for part in (match.groups() if match else ("0",) * 4))
    try:
        # Not by float, which has no exact microseconds.
        whole, _, fraction = seconds.partition(".")
        length = timedelta(
            days=int(days),
            hours=int(hours),
            minutes=int(minutes),
            seconds=int(whole),
            microseconds=int(fraction.ljust(6, "0")),
        )
    except OverflowError:
        length = timedelta()
    if not length:
        raise ValueError(f"{text!r} is no duration; write days, hours, minutes, seconds: {FORMS}")
    return length
