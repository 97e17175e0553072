"""Bounds the open streams, runs them on threads of their own, and ends those that stall.

No principal can take them all: each may open a few, and some are reserved for the role checker, whose replicas answer
for whole applications.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, NamedTuple, TypeVar

import grpc

from jit_service.background import BackgroundThread
from jit_service.domain.caller import Caller, Role
from jit_service.domain.errors import ServiceStopping, TooManyWatchers

STALL_SECONDS: Final = 30.0
"""How long a client may leave a message unread before its stream is cancelled."""
_INTERVAL: Final = timedelta(seconds=1)
# Threads that refuse the streams beyond the limit.
_SPARE: Final = 8
Message = TypeVar("Message")


class StreamLimits(NamedTuple):
    """How many streams may be open: in `total`, by `each` principal, and `reserved` for the role checker.

    The role checker is trusted to ask for others, and its replicas share one principal, so `each` does not bind it.
    """

    total: int
    each: int = 8
    reserved: int = 0


@dataclass(eq=False)
class _Stream:
    """An open stream. `handed_at` is when the message being sent was handed over; None while none is being sent."""

    context: grpc.ServicerContext
    principal: str
    is_checkers: bool
    handed_at: float | None = None


class Streams(BackgroundThread):
    """The open streams and their threads. Once a second it ends those that stall; when it stops, it ends all."""

    def __init__(self, limits: StreamLimits, *, stall_seconds: float = STALL_SECONDS) -> None:
        super().__init__(name="streams", interval=_INTERVAL, undone="stalled streams are not ended")
        self.pool = ThreadPoolExecutor(max_workers=limits.total + _SPARE, thread_name_prefix="stream")
        self._limits = limits
        self._stall_seconds = stall_seconds
        self._open: set[_Stream] = set()
        self._lock = threading.Lock()

    def carry(self, context: grpc.ServicerContext, messages: Iterable[Message], *, by: Caller) -> Iterator[Message]:
        """Yields the messages while the client reads them. Raises TooManyWatchers, ServiceStopping."""
        with self._opened(context, by) as stream:
            for message in messages:
                if self.stopping.is_set():
                    raise ServiceStopping("the service stops; go on after what came last")
                stream.handed_at = time.monotonic()
                # The transport asks for the next message once it has sent this one.
                yield message
                stream.handed_at = None

    @property
    def count(self) -> int:
        """How many streams are open."""
        return len(self._open)

    def end_stalled(self) -> None:
        """Cancels the streams whose client has not read for too long; a client can resume from its revision."""
        with self._lock:
            streams = tuple(self._open)
        for stream in streams:
            handed_at = stream.handed_at
            if handed_at is not None and time.monotonic() - handed_at > self._stall_seconds:
                stream.context.cancel()

    def work(self) -> None:
        """Ends the streams that stall."""
        self.end_stalled()

    @contextmanager
    def _opened(self, context: grpc.ServicerContext, by: Caller) -> Iterator[_Stream]:
        stream = _Stream(context, by.principal, by.has(Role.CHECKER))
        with self._lock:
            self._demand_room(stream)
            self._open.add(stream)
        try:
            yield stream
        finally:
            with self._lock:
                self._open.discard(stream)

    def _demand_room(self, new: _Stream) -> None:
        total, each, reserved = self._limits
        if len(self._open) >= total:
            raise TooManyWatchers(f"{total} streams are open, which is the limit; try again later")
        if new.is_checkers:
            return
        others = [stream for stream in self._open if not stream.is_checkers]
        if len(others) >= total - reserved:
            raise TooManyWatchers(
                f"{len(others)} streams are open, and {reserved} are kept for the role checker; try again later"
            )
        own = sum(stream.principal == new.principal for stream in others)
        if own >= each:
            raise TooManyWatchers(f"{new.principal} has {own} streams open; at most {each} are allowed; end one")
