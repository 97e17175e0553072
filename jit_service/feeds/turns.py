"""Turns of streams that read all there is at first: few do at once, and the others wait."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

_WAIT_SECONDS: Final = 0.5


class Turns:
    """So many may read at once: each has a connection of the store for as long, and they share a processor anyway."""

    def __init__(self, count: int) -> None:
        self._free = threading.Semaphore(count)

    @contextmanager
    def taken(self, gone: Callable[[], bool]) -> Iterator[bool]:
        """Waits for a turn, until `gone` returns True. Yields whether it has one."""
        while not (has_turn := self._free.acquire(timeout=_WAIT_SECONDS)) and not gone():
            pass
        try:
            yield has_turn
        finally:
            if has_turn:
                self._free.release()
