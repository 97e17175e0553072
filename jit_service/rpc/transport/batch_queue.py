"""A queue of one method's calls: those that wait at the same time are answered as a batch, by one thread."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from queue import Empty, SimpleQueue
from typing import Final

from jit_service.domain.errors import JitError
from jit_service.rpc.admission import Call
from jit_service.rpc.calls_seen import saw_answered, saw_refused
from jit_service.rpc.errors import status_code
from jit_service.rpc.transport.check_batch import Answer, BatchHandler
from jit_service.tracing import spans
from jit_service.tracing.spans import Together

BATCH: Final = 64
"""How many calls are answered at once, at most."""
# After a batch of _CROWD calls or more, the next one waits for as many to come: up to _CROWD_DELAYS times for
# _CROWD_SECONDS. A larger batch is sooner for all, as with PostgreSQL's commit_delay and commit_siblings.
_CROWD: Final = 8
_CROWD_SECONDS: Final = 0.00025
_CROWD_DELAYS: Final = 4
_UNTRACED: Final = nullcontext()
_log = logging.getLogger(__name__)

Waiting = tuple[int, float | None, Call]
"""A call that waits: its id, the seconds until its deadline when it came, and the call."""


class BatchQueue:
    """The calls of one method. One thread adds calls by `put` and `wait_until_idle`, another answers them by `run`."""

    def __init__(self, path: str, handler: BatchHandler) -> None:
        self._path = path
        self._handler = handler
        # Each with when it came, by time.perf_counter.
        self._queue: SimpleQueue[tuple[float, Waiting] | None] = SimpleQueue()
        # Clear from when a call comes until none waits.
        self._idle = threading.Event()
        self._idle.set()

    def __len__(self) -> int:
        return self._queue.qsize()

    def put(self, waiting: Waiting) -> None:
        """Adds a call."""
        if self._idle.is_set():
            self._idle.clear()
        self._queue.put((time.perf_counter(), waiting))

    def wait_until_idle(self, seconds: float) -> None:
        """Returns when no call waits, or after so long."""
        self._idle.wait(seconds)

    def close(self) -> None:
        """Ends `run`; calls that still wait get no answer."""
        self._queue.put(None)

    def run(
        self,
        still_waits: Callable[[int], bool],
        answer: Callable[[Sequence[Waiting], Sequence[Answer]], None],
    ) -> None:
        """Answers calls until `close`, but for those that were cancelled in the queue."""
        expected = 0
        while (taken := self._taken(expected)) is not None:
            came = [each for each in taken if still_waits(each[1][0])]
            traced = spans.together(self._path, [(at, waiting[2].metadata) for at, waiting in came])
            waiting = [each for _, each in came] if traced is None else _in_traces(came, traced)
            try:
                answers = self._answers(waiting, traced)
                answer(waiting, answers)
                self._count([at for at, _ in came], answers)
                if traced is not None:
                    _end(traced, answers)
            except Exception:
                _log.exception("the answers of %d calls of %s are not given", len(waiting), self._path)
            left = len(self)
            if not left:
                self._idle.set()
            # Clients that are answered now are likely to ask again at once.
            expected = len(taken) + left if len(taken) >= _CROWD else 0

    def _count(self, came: Sequence[float], answers: Sequence[Answer]) -> None:
        """Counts the calls that are answered; those without an answer are counted where they are answered."""
        saw_answered(self._path, [at for at, answer in zip(came, answers, strict=True) if isinstance(answer, bytes)])
        for at, answer in zip(came, answers, strict=True):
            if isinstance(answer, JitError):
                saw_refused(self._path, answer, since=at)

    def _answers(self, waiting: Sequence[Waiting], traced: Together | None) -> Sequence[Answer]:
        """Returns the answers; None for each call after a fault, so that each is answered by itself."""
        try:
            with traced or _UNTRACED:
                answers = self._handler([call for _, _, call in waiting])
            if len(answers) != len(waiting):
                raise ValueError(f"{len(answers)} answers to {len(waiting)} calls")
        except Exception:
            _log.exception("%s failed for %d calls at once", self._path, len(waiting))
            return [None] * len(waiting)
        return answers

    def _taken(self, expected: int) -> list[tuple[float, Waiting]] | None:
        """Returns the next batch, once a call waits; None after `close`.

        Where more calls are `expected` than wait, the batch waits a little longer for them.
        """
        taken: list[tuple[float, Waiting]] = []
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


def _in_traces(came: Sequence[tuple[float, Waiting]], traced: Together) -> list[Waiting]:
    """Returns the calls, each sampled one with its own span as its trace."""
    waiting = [each for _, each in came]
    for place, call in traced.calls.items():
        number, left, (payload, metadata, peer, shown) = waiting[place]
        rest = tuple(entry for entry in metadata if entry[0] != "traceparent")
        waiting[place] = number, left, Call(payload, (*rest, call.header), peer, shown)
    return waiting


def _end(traced: Together, answers: Sequence[Answer]) -> None:
    """Ends the spans of the calls that have their answer. One that has none gets a span where it is answered."""
    for place, call in traced.calls.items():
        answer = answers[place]
        if answer is None:
            continue
        if isinstance(answer, JitError):
            call.settle(status_code(answer).name, answer.reason)
        call.end()
