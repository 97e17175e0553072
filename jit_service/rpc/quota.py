"""Bounds the calls of one principal per second, so that no principal takes the service from all others (invariant I33).

Each process has a token bucket for each principal and kind of call. The one for writes is smaller than the one for
checks and reads, since all writes wait for one lock. The role checker asks for others and has no bound on its checks.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, NamedTuple

from jit_service.domain.caller import Caller, Role
from jit_service.domain.errors import RateExceeded

_MAX_BUCKETS: Final = 10_000
# After a pause, so many seconds of calls may come at once.
_BURST_SECONDS: Final = 2.0


class Rates(NamedTuple):
    """Calls per second and principal; twice as many may come at once after a pause."""

    writes: float
    checks: float


class _Bucket(NamedTuple):
    """How many calls were left at an instant of the monotonic clock."""

    left: float
    at: float


class Quota:
    """The token buckets; safe to use from any thread. `clock` gives monotonic seconds."""

    def __init__(self, rates: Rates, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._rates = rates
        self._clock = clock
        self._buckets: OrderedDict[tuple[str, bool], _Bucket] = OrderedDict()
        self._lock = threading.Lock()

    def is_bounded(self, caller: Caller, *, writes: bool) -> bool:
        """Returns whether the caller's calls are counted at all."""
        return writes or not caller.has(Role.CHECKER)

    def demand(self, caller: Caller, *, writes: bool, weight: int = 1) -> None:
        """Takes `weight` calls from the caller's bucket. Raises RateExceeded, and takes none, if too few are left."""
        if not self.is_bounded(caller, writes=writes):
            return
        rate = self._rates.writes if writes else self._rates.checks
        most = rate * _BURST_SECONDS
        # A call of more weight than a whole burst takes all of it; it could never pass otherwise.
        wanted = min(float(weight), most)
        key = caller.principal, writes
        with self._lock:
            now = self._clock()
            left, at = self._buckets.get(key, _Bucket(most, now))
            left = min(most, left + (now - at) * rate)
            if left >= wanted:
                self._buckets[key] = _Bucket(left - wanted, now)
                self._buckets.move_to_end(key)
                if len(self._buckets) > _MAX_BUCKETS:
                    self._buckets.popitem(last=False)
                return
        what = "writes" if writes else "checks and reads"
        raise RateExceeded(
            f"{caller.principal} may make {rate:g} {what} a second, and has made them; try again later",
            retry_after=(wanted - left) / rate,
            limit=f"{rate:g}",
        )
