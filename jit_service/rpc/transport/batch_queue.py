"""A lane: the calls of one method that wait at the same time, answered together by one thread."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Final

from jit_service.rpc.transport.check_batch import Answer, Call, Together

BATCH: Final = 64
"""How many calls are answered at once, at most."""
# As PostgreSQL's commit_delay and commit_siblings: where so many were answered at once, a little later is sooner for
# all. So long at a time, and so often at most.
_CROWD: Final = 8
_CROWD_SECONDS: Final = 0.00025
_CROWD_DELAYS: Final = 4
_log = logging.getLogger(__name__)

Waiting = tuple[int, float | None, Call]
"""A call that waits: its number, the seconds that were left for it when it came, and what came."""


class BatchQueue:
    """See the module. One thread brings calls by `put` and `wait_until_idle`, another answers them by `run`."""

    def __init__(self, path: str, together: Together) -> None:
        self._path = path
        self._together = together
        self._queue: SimpleQueue[Waiting | None] = SimpleQueue()
        # Clear from when a call comes until none waits.
        self._idle = threading.Event()
        self._idle.set()

    def __len__(self) -> int:
        return self._queue.qsize()

    def put(self, waiting: Waiting) -> None:
        """Takes the call in."""
        if self._idle.is_set():
            self._idle.clear()
        self._queue.put(waiting)

    def wait_until_idle(self, seconds: float) -> None:
        """Returns when no call waits, or after so long."""
        self._idle.wait(seconds)

    def close(self) -> None:
        """Ends `run`; what waits still is answered no more."""
        self._queue.put(None)

    def run(
        self,
        still_waits: Callable[[int], bool],
        answer: Callable[[Sequence[Waiting], Sequence[Answer]], None],
    ) -> None:
        """Answers calls until `close`. Nobody waits for the answer of a call that was cancelled in the queue."""
        expected = 0
        while (taken := self._taken(expected)) is not None:
            waiting = [each for each in taken if still_waits(each[0])]
            try:
                answer(waiting, self._answers(waiting))
            except Exception:
                _log.exception("the answers of %d calls of %s are not given", len(waiting), self._path)
            left = len(self)
            if not left:
                self._idle.set()
            # Those who are answered now are likely to ask again at once.
            expected = len(taken) + left if len(taken) >= _CROWD else 0

    def _answers(self, waiting: Sequence[Waiting]) -> Sequence[Answer]:
        """After a fault each call is to be answered by itself."""
        try:
            answers = self._together([call for _, _, call in waiting])
            if len(answers) != len(waiting):
                raise ValueError(f"{len(answers)} answers to {len(waiting)} calls")
        except Exception:
            _log.exception("%s failed for %d calls at once", self._path, len(waiting))
            return [None] * len(waiting)
        return answers

    def _taken(self, expected: int) -> list[Waiting] | None:
        """Returns the calls that wait, up to a batch, once there is one; None at the end.

        Where more are `expected` than wait, those that wait do so a little longer, to go with them.
        """
        taken: list[Waiting] = []
        try:
            while len(taken) < BATCH:
                waiting = self._queue.get(block=not taken)
                if waiting is None:
                    # What was taken before it has been closed already.
                    return None
                if not taken:
                    self._wait_for_crowd(min(expected, BATCH) - 1)
                taken.append(waiting)
        except Empty:
            pass
        return taken

    def _wait_for_crowd(self, others: int) -> None:
        for _ in range(_CROWD_DELAYS):
            if len(self) >= others:
                return
            self._idle.set()
            time.sleep(_CROWD_SECONDS)
