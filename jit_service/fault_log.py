"""Logs repeated faults: the first one in full, then their count, and at last their end."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

from jit_service.domain.errors import Unavailable

COUNT_SECONDS: Final = 60.0
"""How often the count of a fault that repeats unchanged is logged."""


class FaultLog:
    """Logs the faults of one activity. `undone` says what they leave undone. One thread at a time may use it.

    `clock` gives seconds that never go back.
    """

    def __init__(self, log: logging.Logger, undone: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._undone = undone
        self._clock = clock
        self._last = ""
        self._count = 0
        self._logged_at = 0.0

    def failed(self, fault: Exception) -> None:
        """Logs the fault, unless it is the same as the last one."""
        this = f"{type(fault).__name__}: {fault}"
        now = self._clock()
        self._count += 1
        if this != self._last:
            self._last, self._logged_at = this, now
            if isinstance(fault, Unavailable | OSError):
                self._log.warning("%s for now: %s", self._undone, fault)
            else:
                self._log.error("%s", self._undone, exc_info=fault)
        elif now - self._logged_at >= COUNT_SECONDS:
            self._logged_at = now
            self._log.warning("%s for now (%d faults so far): %s", self._undone, self._count, fault)

    def succeeded(self) -> None:
        """Logs the end of the faults, if there were any."""
        if self._count:
            self._log.info("recovered after %d faults (%s)", self._count, self._undone)
        self._last, self._count = "", 0
