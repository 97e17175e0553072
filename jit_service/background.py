"""The one kind of background thread: it works at every interval, no answer waits for it, and what fails is logged."""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from datetime import timedelta

from jit_service.fault_log import FaultLog


class BackgroundThread(threading.Thread, ABC):
    """Calls `work` at every interval until it is stopped.

    `undone` is what a fault leaves undone, for the log; the work is tried again at the next interval. `patience` is how
    long `stop` waits for work that is under way, None for as long as it takes.
    """

    def __init__(self, *, name: str, interval: timedelta, undone: str, patience: timedelta | None = None) -> None:
        super().__init__(name=name, daemon=True)
        self.stopping = threading.Event()
        self._interval = interval.total_seconds()
        self._patience = patience.total_seconds() if patience is not None else None
        self._log = logging.getLogger(type(self).__module__)
        self._faults = FaultLog(self._log, undone)

    @abstractmethod
    def work(self) -> None:
        """Does the work once, and returns soon where `stopping` is set."""

    def wait_for_work(self) -> None:
        """Returns when `work` is to be called again, or as soon as `stopping` is set."""
        self.stopping.wait(self._interval)

    def interrupt(self) -> None:
        """Cuts short what is under way; `stop` calls it once `stopping` is set."""

    def failed(self, fault: Exception) -> None:
        """Logs a fault of `work`."""
        self._faults.failed(fault)

    def run(self) -> None:
        """Works until stopped; no fault ends the thread."""
        self.wait_for_work()
        while not self.stopping.is_set():
            try:
                self.work()
            except Exception as fault:
                self.failed(fault)
            else:
                self._faults.succeeded()
            self.wait_for_work()

    def stop(self) -> None:
        """Ends the thread, and returns when it has ended or patience has."""
        self.stopping.set()
        self.interrupt()
        if self.is_alive():
            self.join(self._patience)
