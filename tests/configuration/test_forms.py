"""How durations and addresses are written in settings."""

from __future__ import annotations

from datetime import timedelta

import pytest
from pydantic import TypeAdapter, ValidationError

from jit_service.configuration.forms import Address, Span, shown_span

SPAN = TypeAdapter(Span)


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("1h", timedelta(hours=1)),
        ("1h30m", timedelta(minutes=90)),
        ("90s", timedelta(seconds=90)),
        ("60", timedelta(seconds=60)),
        ("0.5", timedelta(milliseconds=500)),
        ("0", timedelta()),
        ("PT24H", timedelta(days=1)),
        (90, timedelta(seconds=90)),
    ],
)
def test_a_duration_is_as_people_write_it_or_a_number_of_seconds(text: object, length: timedelta) -> None:
    assert SPAN.validate_python(text) == length


@pytest.mark.parametrize("text", ["soon", "1 hour", "-1", "1e9", "1.5h", ""])
def test_anything_else_is_refused_in_words(text: str) -> None:
    with pytest.raises(ValidationError, match="must be a duration, such as 90s, 30m, 1h, 1h30m, 2d, or a number of"):
        SPAN.validate_python(text)


@pytest.mark.parametrize("text", ["1d", "1h30m", "15m", "90s", "0.5s", "1d2h3m4s", "0s"])
def test_a_duration_is_shown_as_it_is_written(text: str) -> None:
    length = timedelta() if text == "0s" else SPAN.validate_python(text)

    assert shown_span(length) == ("1m30s" if text == "90s" else text)


@pytest.mark.parametrize(
    ("text", "loopback"),
    [("127.0.0.1:1", True), ("localhost:1", True), ("[::1]:1", True), ("0.0.0.0:1", False), ("host:1", False)],
)
def test_an_address_says_whether_others_reach_it(text: str, loopback: bool) -> None:
    assert Address.parse(text).is_loopback is loopback
