"""Threads that do something at every interval, which no answer waits for."""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from datetime import timedelta

from jit_service.fault_log import Repeated


class Periodic(threading.Thread, ABC):
    """Works at every interval until it is stopped. `undone` says in the log what a fault has left undone."""

    def __init__(self, *, name: str, interval: timedelta, undone: str) -> None:
        super().__init__(name=name, daemon=True)
        self.stopping = threading.Event()
        self._interval = interval.total_seconds()
        self._log = logging.getLogger(type(self).__module__)
        self._faults = Repeated(self._log, undone)

    @abstractmethod
    def work(self) -> None:
        """Does it once, and soon ends where it is stopping."""

    def run(self) -> None:
        """Goes on until stopped. A store that does not answer is asked again at the next interval."""
        while not self.stopping.wait(self._interval):
            try:
                self.work()
            except Exception as fault:
                self._faults.failed(fault)
            else:
                self._faults.succeeded()

    def stop(self) -> None:
        """Ends the thread after what it is at."""
        self.stopping.set()
        if self.is_alive():
            self.join()
