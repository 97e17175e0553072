"""How fast the clients of a run go: as fast as the service answers, or at a rate that leaves the machine to others."""

from __future__ import annotations

import threading
import time
from typing import Protocol

from tests.soak.place import Place
from tests.soak.told import Told

CAUGHT_UP_SECONDS = 1.0
"""What an outage cost is made up for by so many seconds' calls at most."""
PAID_SECONDS = 5.0
"""For so many seconds at most is nobody let in, so that a flood of calls is not followed by silence."""


class Pace(Protocol):
    """Says when somebody may begin what they do next: a question, a story, an attempt."""

    def wait(self) -> None:
        """Waits for it, or for the end of the run."""


class AtOnce:
    """Everybody goes on at once."""

    def wait(self) -> None:
        return


def of(rate: float, site: Place, told: Told) -> Pace:
    """Returns the pace of so many calls a second of all together, or of as many as are answered where that is 0."""
    return Fixed(site, told, rate) if rate else AtOnce()


class Fixed:
    """Lets all together make `per_second` calls a second on average, whatever each of them does at its turn.

    What was begun is not slowed, so a story still asks right after each ack; the calls that it made are paid for by
    whoever begins next.
    """

    def __init__(self, site: Place, told: Told, per_second: float) -> None:
        self._site = site
        self._told = told
        self._seconds_each = 1 / per_second
        self._turn = threading.Lock()
        self._paid = told.calls - told.apart
        self._due = time.monotonic()

    def wait(self) -> None:
        # One at a time, so that those who wait do not all begin at one instant.
        with self._turn:
            made = self._told.calls - self._told.apart - self._paid
            self._paid += made
            costs = min(max(1, made) * self._seconds_each, PAID_SECONDS)
            self._due = max(self._due, time.monotonic() - CAUGHT_UP_SECONDS) + costs
            self._site.stopping.wait(max(0.0, self._due - time.monotonic()))
