"""Instants as RFC 3339 writes them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from jitaccess.naming import rfc3339

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)


def test_an_instant_is_written_in_utc_with_what_is_finer_than_a_second() -> None:
    assert rfc3339.exact(NOON) == "2026-05-04T12:00:00Z"
    assert rfc3339.exact(NOON.replace(microsecond=1)) == "2026-05-04T12:00:00.000001Z"


def test_an_instant_is_written_to_the_second() -> None:
    assert rfc3339.to_seconds(NOON.replace(microsecond=999_999)) == "2026-05-04T12:00:00Z"


@pytest.mark.parametrize(
    "text",
    [
        *("2026-05-04T12:00:00Z", "2026-05-04t12:00:00z", "2026-05-04T12:00:00.000000Z"),
        *("2026-05-04T14:00:00+02:00", "2026-05-04T12:00:00-00:00"),
    ],
)
def test_an_instant_is_read_with_any_offset(text: str) -> None:
    parsed = rfc3339.parse(text)

    assert parsed == NOON
    assert parsed is not None
    assert parsed.tzinfo is UTC


@pytest.mark.parametrize(
    "text",
    [
        *("", "2026-05-04", "2026-05-04T12:00:00", "2026-05-04 12:00:00Z", "2026-05-04T12:00Z", "20260504T120000Z"),
        *("2026-13-04T12:00:00Z", "2026-05-04T24:00:01Z", "0001-01-01T00:00:00+01:00", "2026-05-04T12:00:00.1234567Z"),
        *("٢٠٢٦-05-04T12:00:00Z", "2026-05-04T12:00:00Z\n"),
    ],
)
def test_what_is_no_instant_to_the_microsecond_is_none(text: str) -> None:
    assert rfc3339.parse(text) is None
