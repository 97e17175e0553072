"""What the page says of the machine and of the command."""

from __future__ import annotations

import pytest

from bench.machine import measured_by


@pytest.mark.parametrize("place", [("--results", "/home/me/rows"), ("--results=/home/me/rows",)])
def test_where_the_rows_went_is_not_told(place: tuple[str, ...]) -> None:
    assert measured_by(["run", *place, "--seconds", "9"]) == ["run", "--seconds", "9"]
