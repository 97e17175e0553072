"""The one way to the store: while the store hangs, one call at a time tries it, and the others are refused at once.

A call that tries a store that hangs waits for seconds. If all did, every thread that answers calls would, and so would
those who wait for a thread, until their deadlines are over.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from jit_service.domain.errors import StoreUnavailable
from jit_service.storage.failures import is_silence, translate_errors


class Door:
    """Closed from an attempt that nobody answered in time until one that somebody answers."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self.is_closed = False

    @contextmanager
    def passed(self) -> Iterator[None]:
        """Runs the block, which uses the store, and translates its errors. Raises StoreUnavailable."""
        tries = self.is_closed
        if tries and not self._turn.acquire(blocking=False):
            raise StoreUnavailable("the store does not answer")
        try:
            with translate_errors():
                yield
            self.is_closed = False
        except StoreUnavailable as fault:
            self.is_closed = self.is_closed or is_silence(fault.__cause__)
            raise
        except Exception:
            # The caller's own fault, or another answer of the store.
            self.is_closed = False
            raise
        finally:
            if tries:
                self._turn.release()
