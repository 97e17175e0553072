"""Durations as people write them, the same on the command line, in files and in settings."""

from __future__ import annotations

from datetime import timedelta

import pytest

from jitaccess.naming.duration import parse_span


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("90s", timedelta(seconds=90)),
        ("0.5s", timedelta(milliseconds=500)),
        ("0.000001s", timedelta(microseconds=1)),
        ("30m", timedelta(minutes=30)),
        ("1h", timedelta(hours=1)),
        ("1h30m", timedelta(hours=1, minutes=30)),
        ("2d", timedelta(days=2)),
        ("1d2h3m4s", timedelta(days=1, hours=2, minutes=3, seconds=4)),
    ],
)
def test_a_duration_is_days_hours_minutes_seconds(text: str, length: timedelta) -> None:
    assert parse_span(text) == length


NONE = ["", "0", "0m", "0.0s", "1", "h", "-1h", "+1h", "1.5h", "1.s", ".5s", "0.0000001s", "1h ", "30m1h", "1w", "1H"]


@pytest.mark.parametrize("text", [*NONE, "１h", "1h\n", "999999999d24h"])
def test_anything_else_is_no_duration_and_the_fault_says_what_is(text: str) -> None:
    with pytest.raises(ValueError, match="90s, 30m, 1h, 1h30m, 2d"):
        parse_span(text)
