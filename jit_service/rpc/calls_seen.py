"""Counts the calls that are answered, with how long they took."""

from __future__ import annotations

import time
from collections.abc import Sequence

from jit_service.domain.errors import JitError
from jit_service.metrics.catalogue import CALL_SECONDS, CALLS
from jit_service.rpc.errors import status_code
from jit_service.tracing import spans


def saw_answered(method: str, since: Sequence[float]) -> None:
    """Counts unary calls that are answered now; `since` is when each came, by time.perf_counter."""
    if since:
        now = time.perf_counter()
        CALLS.add(method, "OK", "", by=len(since))
        CALL_SECONDS.observe_all([now - came for came in since], method)


def saw_refused(method: str, refusal: JitError, *, since: float | None = None) -> None:
    """Counts a call that is refused now; `since` is when it came, None for a stream, which has no time of its own."""
    _saw(method, status_code(refusal).name, refusal.reason, since)


def saw_failed(method: str, *, since: float | None = None) -> None:
    """Counts a call that a fault of the service ends."""
    _saw(method, "INTERNAL", "INTERNAL", since)


def saw_ended(method: str, *, cancelled: bool) -> None:
    """Counts a stream that ends in order, or because its client has gone."""
    _saw(method, "CANCELLED" if cancelled else "OK", "", None)


def _saw(method: str, code: str, reason: str, since: float | None) -> None:
    CALLS.add(method, code, reason)
    spans.settle(code, reason)
    if since is not None:
        CALL_SECONDS.observe(time.perf_counter() - since, method)
