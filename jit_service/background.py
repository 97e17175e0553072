"""The base class of background threads: they work at intervals, no answer waits for them, and faults are logged."""

from __future__ import annotations

import logging
import threading
import time
from abc import ABC, abstractmethod
from datetime import timedelta

from jit_service.fault_log import FaultLog
from jit_service.metrics.catalogue import RUNS


class BackgroundThread(threading.Thread, ABC):
    """Calls `work` at every interval until it is stopped.

    `undone` says in the log what a fault leaves undone; the work is tried again at the next interval. `patience` is how
    long `stop` waits for work that is under way; None waits for its end.
    """

    def __init__(self, *, name: str, interval: timedelta, undone: str, patience: timedelta | None = None) -> None:
        super().__init__(name=name, daemon=True)
        self.stopping = threading.Event()
        self._interval = interval.total_seconds()
        self._patience = patience.total_seconds() if patience is not None else None
        self._log = logging.getLogger(type(self).__module__)
        self._faults = FaultLog(self._log, undone)
        self.succeeded_at: float | None = None
        """When the work last succeeded, in seconds since 1970."""

    @abstractmethod
    def work(self) -> None:
        """Does the work once, and returns soon if `stopping` is set."""

    def wait_for_work(self) -> None:
        """Waits until `work` is due again, or until `stopping` is set."""
        self.stopping.wait(self._interval)

    def interrupt(self) -> None:
        """Interrupts work that is under way; `stop` calls it after it has set `stopping`."""

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
                RUNS.add(self.name, "failed")
                self.failed(fault)
            else:
                RUNS.add(self.name, "done")
                self.succeeded_at = time.time()
                self._faults.succeeded()
            self.wait_for_work()

    def stop(self) -> None:
        """Stops the thread. Returns when it has ended, or after `patience`."""
        self.stopping.set()
        self.interrupt()
        if self.is_alive():
            self.join(self._patience)
