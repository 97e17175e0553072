"""The clock of a running service: it tells no time while nobody can be sure of it.

A grant ends by the clock, and the store keeps the latest instant that it has seen (I13). A clock that was set years
ahead would end everything for good; one that was set back would let grants last longer than was decided.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from jit_service.domain.errors import ClockStepped

MAX_STEP: Final = timedelta(minutes=1)
"""By how much the clock may be set while the service runs, and by how much it may differ from the database's."""


def utc_now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)


def _elapsed() -> float:
    """Seconds by a clock that nobody sets; on Linux it goes on while the machine sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class SteadyClock:
    """The wall clock, for as long as it goes with one that nobody sets.

    Both are slewed alike (clock_gettime(2)), so they part only where the wall clock is set.
    """

    def __init__(self, wall: Callable[[], datetime] = utc_now, elapsed: Callable[[], float] = _elapsed) -> None:
        self._wall = wall
        self._elapsed = elapsed
        self._offset = self._difference(wall())
        self._bound = MAX_STEP.total_seconds()

    def __call__(self) -> datetime:
        """Returns the time. Raises ClockStepped while it is off by more than MAX_STEP."""
        now = self._wall()
        step = self._difference(now) - self._offset
        if abs(step) > self._bound:
            way = "ahead" if step > 0 else "back"
            raise ClockStepped(
                f"this host's clock was set {timedelta(seconds=round(abs(step)))} {way} while the service ran; set it "
                "right, or restart the service if it is right now"
            )
        return now

    def _difference(self, now: datetime) -> float:
        return now.timestamp() - self._elapsed()
