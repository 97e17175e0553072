"""The revision barrier: a thread that passes it has seen every commit that was acknowledged before it came.

One read of the store serves every thread that came before that read began, as in etcd's ReadIndex (Ongaro, Consensus,
section 6.4). So all threads that wait share the price of linearizability.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from jit_service.domain.errors import StoreUnavailable
from jit_service.metrics.catalogue import BARRIER_SECONDS, STORE_ERRORS
from jit_service.tracing import spans


class Barrier:
    """Lets threads pass once a `look` that began after they came has ended.

    `look` brings the index up to the store's revision. It runs in one thread at a time. A thread
    does not wait for its turn while the store `hangs`.
    """

    def __init__(
        self, look: Callable[[], None], *, wait_seconds: float, hangs: Callable[[], bool] = lambda: False
    ) -> None:
        self._look = look
        self._hangs = hangs
        self._wait_seconds = wait_seconds
        self._turn = threading.Lock()
        # Looks are numbered. A look serves the threads that came before it began.
        self._begun = 0
        self._done = 0

    def pass_(self) -> None:
        """Returns once a look that began after this call has ended. Raises StoreUnavailable, and what `look` raises."""
        with spans.part("barrier"):
            self._pass()

    def _pass(self) -> None:
        came = self._begun
        if not self._turn.acquire(timeout=0 if self._hangs() else self._wait_seconds):
            STORE_ERRORS.add("barrier")
            raise StoreUnavailable("the store does not answer")
        try:
            if self._done > came:
                return
            self._begun += 1
            number = self._begun
            begun_at = time.perf_counter()
            self._look()
            BARRIER_SECONDS.observe(time.perf_counter() - begun_at)
            self._done = number
        finally:
            self._turn.release()
