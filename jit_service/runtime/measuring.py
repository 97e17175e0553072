"""The metrics of a whole service: of this process and of its workers, as one.

A worker is asked for its values over the pipes that it has to its parent. What a worker counted stays in the totals
when it ends, up to the last time that it was asked, which is every other second at least; its gauges go with it.
"""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Final

from jit_service.background import BackgroundThread
from jit_service.metrics.catalogue import FAMILIES, counted
from jit_service.metrics.families import Values, added, only_counts
from jit_service.runtime.orders import ASK, Orders

KEEP: Final = timedelta(seconds=2)
"""How often workers are asked without a scrape."""
_PATIENCE_SECONDS: Final = 1.0


class WorkerValues:
    """The values of one worker process. Any thread may use it."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._answers: queue.SimpleQueue[Values] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._is_asked = False
        self.latest: Values = {}

    def came(self, line: str) -> None:
        """Takes a line that the worker wrote."""
        try:
            self._answers.put(json.loads(line)["metrics"])
        except (ValueError, KeyError, TypeError):
            self._answers.put({})

    def ask(self) -> None:
        """Asks the worker, unless its last answer is still awaited."""
        with self._lock:
            if not self._is_asked:
                self._is_asked = self._orders.give(ASK)

    def await_(self, until: float) -> Values:
        """Returns the answer, or the one before where none comes until then, an instant of time.monotonic."""
        with self._lock:
            if self._is_asked:
                try:
                    self.latest = self._answers.get(timeout=max(0.0, until - time.monotonic())) or self.latest
                    self._is_asked = False
                except queue.Empty:
                    pass
            return self.latest


class WorkersTogether:
    """The values of all workers, by the numbers of their places."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[int, WorkerValues] = {}
        self._gone: Values = {}

    def joined(self, number: int, worker: WorkerValues) -> None:
        """Takes a new worker, which may be in the place of one that has ended."""
        with self._lock:
            self._leave(number)
            self._running[number] = worker

    def left(self, number: int) -> None:
        """Keeps what a worker that has ended counted, and nothing else of it."""
        with self._lock:
            self._leave(number)

    def values(self) -> Values:
        """Returns the values of all workers together."""
        with self._lock:
            running, gone = tuple(self._running.values()), self._gone
            for worker in running:
                worker.ask()
            until = time.monotonic() + _PATIENCE_SECONDS
            return added(FAMILIES, [gone, *(worker.await_(until) for worker in running)])

    def _leave(self, number: int) -> None:
        if (ended := self._running.pop(number, None)) is not None:
            self._gone = added(FAMILIES, [self._gone, only_counts(FAMILIES, ended.latest)])


class Keeper(BackgroundThread):
    """Asks the workers now and then, so that little of what one counted is lost with it."""

    def __init__(self, together: WorkersTogether) -> None:
        super().__init__(name="metrics-keeper", interval=KEEP, undone="metrics of workers are not kept")
        self._together = together

    def work(self) -> None:
        """Asks all workers."""
        self._together.values()


def of_process(gauges: Callable[[], Values]) -> Values:
    """Returns what this process counted, with its gauges."""
    return added(FAMILIES, [counted(), gauges()])


def answer_line(gauges: Callable[[], Values]) -> str:
    """Returns a worker's line of values."""
    answer: Mapping[str, Any] = {"metrics": of_process(gauges)}
    return json.dumps(answer, separators=(",", ":"))
