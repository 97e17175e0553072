"""What the sweeper does beside expiries: making audit records findable, without holding up the checks."""

from __future__ import annotations

import pytest

from jit_service.sweeper import index_pause


@pytest.mark.parametrize(
    ("waiting", "came", "pause"),
    [
        (0, 0, 0.01),
        (90_000, 200, 0.01),
        (99_999, 201, None),
        (100_000, 1_000, 0.05),
        (200_000, 20_000, 0.025),
        (1_000_000, 20_000, 0.005),
    ],
)
def test_records_are_made_findable_beside_the_checks(waiting: int, came: int, pause: float | None) -> None:
    """In a quiet service at once; in a busy one not before many wait, and then no quicker than is needed."""
    assert index_pause(waiting, came) == pause
