"""The streams that are open: so many at once, on threads of their own, and none that is stuck for long."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, TypeVar

import grpc

from jit_service.domain.errors import TooManyWatchers

STALL_SECONDS: Final = 30.0
"""How long a client may leave a message unread before its stream is cancelled."""
# Threads for telling those who are too many that they are.
_SPARE: Final = 8
Message = TypeVar("Message")


@dataclass(eq=False)
class _Stream:
    """`handed_at` is when the message that is now being sent was handed over; None while none is."""

    context: grpc.ServicerContext
    handed_at: float | None = None


class Streams:
    """See the module. `limit` streams may be open at once."""

    def __init__(self, limit: int, *, stall_seconds: float = STALL_SECONDS) -> None:
        self.pool = ThreadPoolExecutor(max_workers=limit + _SPARE, thread_name_prefix="stream")
        self._limit = limit
        self._stall_seconds = stall_seconds
        self._open: set[_Stream] = set()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        threading.Thread(target=self._watch_over, name="streams", daemon=True).start()

    def carry(self, context: grpc.ServicerContext, messages: Iterable[Message]) -> Iterator[Message]:
        """Yields the messages, as long as the client takes them. Raises TooManyWatchers."""
        with self._opened(context) as stream:
            for message in messages:
                stream.handed_at = time.monotonic()
                # The transport asks for the next one when it has sent this one.
                yield message
                stream.handed_at = None

    def end_stalled(self) -> None:
        """Cancels the streams whose client has not read for too long; it can resume from its revision."""
        with self._lock:
            streams = tuple(self._open)
        for stream in streams:
            handed_at = stream.handed_at
            if handed_at is not None and time.monotonic() - handed_at > self._stall_seconds:
                stream.context.cancel()

    def stop(self) -> None:
        """Ends the thread that watches over the streams."""
        self._stopping.set()

    @contextmanager
    def _opened(self, context: grpc.ServicerContext) -> Iterator[_Stream]:
        stream = _Stream(context)
        with self._lock:
            if len(self._open) >= self._limit:
                raise TooManyWatchers(f"{self._limit} streams are open, as many as the service keeps; try again later")
            self._open.add(stream)
        try:
            yield stream
        finally:
            with self._lock:
                self._open.discard(stream)

    def _watch_over(self) -> None:
        while not self._stopping.wait(1.0):
            self.end_stalled()
