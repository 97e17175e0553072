"""When a checker asks the service after a no of its own, so that a refusal says what to ask for instead.

The answer in this process is there at once; the service's may take long or be away. So few ask at a time, each waits a
second at most, and after a fault nobody asks for a while: the others keep their own no.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from jitaccess.contract.model import CheckReason
from jitaccess.errors import JitError
from jitaccess.replica.decision import LocalReason

SECONDS = 1.0
"""How long one waits for the service."""
AT_ONCE = 4
"""How many wait for it at a time."""
_PAUSE_SECONDS = 5.0


class AfterNo:
    """Lets a checker ask the service after a no. Thread-safe."""

    def __init__(self, *, wanted: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._wanted = wanted
        self._clock = clock
        self._places = threading.BoundedSemaphore(AT_ONCE)
        self._not_before = -float("inf")

    def is_worth(self, reason: CheckReason | LocalReason) -> bool:
        """Returns whether to ask the service about this answer: it is a no that the state here is sure of."""
        return self._wanted and isinstance(reason, CheckReason) and reason is not CheckReason.ALLOWED

    @contextmanager
    def asking(self) -> Iterator[bool]:
        """Gives whether to ask now. A fault of the service ends the block, and nobody asks for five seconds then."""
        if self._clock() < self._not_before or not self._places.acquire(blocking=False):
            yield False
            return
        try:
            with suppress(JitError):
                yield True
                return
            self._not_before = self._clock() + _PAUSE_SECONDS
        finally:
            self._places.release()
