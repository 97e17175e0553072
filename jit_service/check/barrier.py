"""The revision barrier: whoever passes has seen every commit that was acknowledged before it came.

One look at the store serves everybody who came before that look began, as in etcd's ReadIndex (Ongaro, Consensus,
section 6.4): so the price of linearizability is divided among all who wait.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from jit_service.domain.errors import StoreUnavailable


class Barrier:
    """See the module. `look` brings what is held up to the store; one thread is in it at a time."""

    def __init__(self, look: Callable[[], None], *, wait_seconds: float) -> None:
        self._look = look
        self._wait_seconds = wait_seconds
        self._turn = threading.Lock()
        # Looks are numbered; a look counts for who came before it began.
        self._begun = 0
        self._done = 0

    def pass_(self) -> None:
        """Returns once a look that began after this call has ended. Raises StoreUnavailable, and what `look` raises."""
        came = self._begun
        if not self._turn.acquire(timeout=self._wait_seconds):
            raise StoreUnavailable("the store does not answer: no look at it in time")
        try:
            if self._done > came:
                return
            self._begun += 1
            number = self._begun
            self._look()
            self._done = number
        finally:
            self._turn.release()
