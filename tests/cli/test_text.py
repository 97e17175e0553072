"""Words for people: harmless text, local time, lengths of time."""

from __future__ import annotations

import unicodedata
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jitaccess.cli.text import listed, moment, parse_instant, parse_label, span
from jitaccess.naming.printable import safe, safe_lines

BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 11, 24, 13, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain Grüße 価 🎉", "plain Grüße 価 🎉"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\x9b31m", "\\x9b31m"),
        ("a\rb\nc\td\x07", "a\\rb\\nc\\td\\x07"),
        ("user:\u202eecila", "user:\\u202eecila"),
        ("ze\u200bro\ufeff", "ze\\u200bro\\ufeff"),
        ("line\u2028break", "line\\u2028break"),
        ("\U000e0041", "\\U000e0041"),
        ("\ue000", "\\ue000"),
    ],
)
def test_what_a_terminal_acts_on_or_hides_is_shown_as_an_escape(text: str, shown: str) -> None:
    assert safe(text) == shown


@given(st.text())
def test_nothing_that_is_shown_is_a_control_or_format_character(text: str) -> None:
    assert not {unicodedata.category(character) for character in safe(text)} & {"Cc", "Cf", "Cs", "Co", "Cn"}


def test_only_line_breaks_survive_where_lines_are_wanted() -> None:
    assert safe_lines("one\r\ntwo\n\x1b[2Jthree\rx") == "one\ntwo\n\\x1b[2Jthree\\rx"


@pytest.mark.parametrize(
    ("length", "shown"),
    [
        (timedelta(), "0 s"),
        (timedelta(milliseconds=999), "0 s"),
        (timedelta(seconds=59), "59 s"),
        (timedelta(minutes=90), "1 h 30 min"),
        (timedelta(days=1, hours=2, minutes=3, seconds=4), "1 d 2 h 3 min 4 s"),
    ],
)
def test_a_length_is_shown_whole(length: timedelta, shown: str) -> None:
    assert span(length) == shown


@pytest.mark.parametrize(
    ("at", "shown"),
    [
        (NOW + timedelta(minutes=42), "14:42:00 CET, 42 min left"),
        (NOW + timedelta(minutes=29, seconds=58), "14:29:58 CET, 29 min left"),
        (NOW + timedelta(minutes=9, seconds=58), "14:09:58 CET, 9 min 58 s left"),
        (NOW + timedelta(microseconds=1), "14:00:00 CET, 0 s left"),
        (NOW, "14:00:00 CET, 0 s ago"),
        (NOW - timedelta(minutes=5, seconds=9), "13:54:51 CET, 5 min 9 s ago"),
        (NOW + timedelta(days=3, hours=4, minutes=5), "2026-11-27 18:05:00 CET, 3 d 4 h left"),
        # Another day in Berlin, though the same in UTC.
        (NOW.replace(hour=23), "2026-11-25 00:00:00 CET, 10 h left"),
        (NOW.replace(month=7), "2026-07-24 15:00:00 CEST, 123 d ago"),
    ],
)
def test_an_instant_is_local_time_with_its_zone_and_how_far_it_is(at: datetime, shown: str) -> None:
    assert moment(at, now=NOW, zone=BERLIN) == shown


def test_an_instant_may_bear_its_zone() -> None:
    assert parse_instant("2026-11-24T09:00:00+02:00") == datetime(2026, 11, 24, 9, tzinfo=timezone(timedelta(hours=2)))
    assert parse_instant("2026-11-24T09:00:00Z") == datetime(2026, 11, 24, 9, tzinfo=UTC)


def test_an_instant_without_a_zone_is_local_time() -> None:
    assert parse_instant("2026-11-24T09:00") == datetime(2026, 11, 24, 9).astimezone()


@pytest.mark.parametrize("text", ["", "tomorrow", "2026-13-01", "14:30"])
def test_anything_else_is_no_instant(text: str) -> None:
    with pytest.raises(ValueError, match="is no instant"):
        parse_instant(text)


def test_a_label_is_a_key_and_a_value_that_may_hold_an_equals_sign() -> None:
    assert parse_label("team=a=b") == ("team", "a=b")
    assert parse_label("team=") == ("team", "")


@pytest.mark.parametrize("text", ["", "team", "=value"])
def test_anything_else_is_no_label(text: str) -> None:
    with pytest.raises(ValueError, match="KEY=VALUE"):
        parse_label(text)


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (["database/orders", "http/a,b"], "database/orders, http/a,b"),
        (["share/x, database/prod"], '"share/x, database/prod"'),
        (['a"b', "share/C:\\x"], r'"a\"b", share/C:\x'),
    ],
)
def test_names_in_a_row_are_told_apart(names: list[str], shown: str) -> None:
    assert listed(names) == shown
