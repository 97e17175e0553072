"""What fails again and again, in the log: the first time in full, then counted, and at last that it is over."""

from __future__ import annotations

import logging
import time
from typing import Final

from jit_service.domain.errors import StoreUnavailable

COUNT_SECONDS: Final = 60.0
"""How often what goes on failing alike is told of again, by its number alone."""


class Repeated:
    """See the module. `what` is said of each: what a fault has left undone. For one thread at a time."""

    def __init__(self, log: logging.Logger, what: str) -> None:
        self._log = log
        self._what = what
        self._last = ""
        self._count = 0
        self._told_at = 0.0

    def failed(self, fault: Exception) -> None:
        """Tells of the fault, unless it is as the last one was."""
        alike = f"{type(fault).__name__}: {fault}"
        now = time.monotonic()
        self._count += 1
        if alike != self._last:
            self._last, self._told_at = alike, now
            if isinstance(fault, StoreUnavailable):
                self._log.warning("%s for now: %s", self._what, fault)
            else:
                self._log.error("%s", self._what, exc_info=fault)
        elif now - self._told_at >= COUNT_SECONDS:
            self._told_at = now
            self._log.warning("%s for now, %d times by now: %s", self._what, self._count, fault)

    def succeeded(self) -> None:
        """Tells that it is over, where something had failed."""
        if self._count:
            self._log.info("answers again, after %d failures: %s no more", self._count, self._what)
        self._last, self._count = "", 0
