"""Threads that do something at every interval, which no answer waits for."""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from datetime import timedelta

from jit_service.domain.errors import StoreUnavailable


class Periodic(threading.Thread, ABC):
    """Works at every interval until it is stopped. `undone` says in the log what a fault has left undone."""

    def __init__(self, *, name: str, interval: timedelta, undone: str) -> None:
        super().__init__(name=name, daemon=True)
        self.stopping = threading.Event()
        self._interval = interval.total_seconds()
        self._undone = undone
        self._log = logging.getLogger(type(self).__module__)

    @abstractmethod
    def work(self) -> None:
        """Does it once, and soon ends where it is stopping."""

    def run(self) -> None:
        """Goes on until stopped. A store that does not answer is asked again at the next interval."""
        while not self.stopping.wait(self._interval):
            try:
                self.work()
            except StoreUnavailable as fault:
                self._log.warning("%s for now: %s", self._undone, fault)
            except Exception:
                self._log.exception("%s", self._undone)

    def stop(self) -> None:
        """Ends the thread after what it is at."""
        self.stopping.set()
        if self.is_alive():
            self.join()
