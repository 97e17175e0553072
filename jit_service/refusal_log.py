"""Logs that calls are refused because the service cannot answer: each kind at most once in some seconds, with a count.

While the store is away every call would have a line, and on a full disk these lines keep it full.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from jit_service.domain.caller import Caller

EVERY_SECONDS: Final = 5.0
"""How often a line of one kind is logged."""


def fields_of(caller: Caller) -> dict[str, Any]:
    """Returns what a line of the log has of a call: its method, trace id and principal, as far as they are known."""
    told = {"method": caller.origin.method, "trace_id": caller.origin.trace_id, "principal": caller.principal}
    return {"call": {name: value for name, value in told.items() if value}}


class RefusalLog:
    """Logs warnings about calls. It is safe for any thread. `clock` gives seconds that never go back."""

    def __init__(self, log: logging.Logger, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._clock = clock
        self._mutex = threading.Lock()
        self._kinds: dict[str, tuple[float, int]] = {}

    def warning(self, kind: str, fault: BaseException, caller: Caller | None = None) -> None:
        """Logs the fault and its cause, unless a line of the kind was logged just now. `kind` is one of a few."""
        with self._mutex:
            logged_at, left_out = self._kinds.get(kind, (float("-inf"), 0))
            if self._clock() - logged_at < EVERY_SECONDS:
                self._kinds[kind] = (logged_at, left_out + 1)
                return
            self._kinds[kind] = (self._clock(), 0)
        more = f"; {left_out} more since the last such line" if left_out else ""
        cause = f" ({fault.__cause__})" if fault.__cause__ is not None else ""
        extra = fields_of(caller) if caller is not None else None
        self._log.warning("%s: %s%s%s", kind, fault, cause, more, extra=extra)
