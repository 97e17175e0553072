"""How many calls one principal may make in a second, so that no one takes the service from all (invariant I33).

A token bucket for each principal and kind of call, in each process; writes have a smaller one than checks and reads,
since all writes of all callers wait for one lock. The role checker asks for others and has no bound on its checks.
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
# A pause may be made up for within so many seconds.
_BURST_SECONDS: Final = 2.0


class Rates(NamedTuple):
    """Calls a second and principal; twice as many may come at once after a pause."""

    writes: float
    checks: float


class _Bucket(NamedTuple):
    """What was left at an instant of the monotonic clock."""

    left: float
    at: float


class Quota:
    """See the module. Any thread may ask it. `clock` gives monotonic seconds."""

    def __init__(self, rates: Rates, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._rates = rates
        self._clock = clock
        self._buckets: OrderedDict[tuple[str, bool], _Bucket] = OrderedDict()
        self._lock = threading.Lock()

    def demand(self, caller: Caller, *, writes: bool, weight: int = 1) -> None:
        """Takes `weight` calls of the caller's. Raises RateExceeded where it has had its share; then it takes none."""
        if not writes and caller.has(Role.CHECKER):
            return
        rate = self._rates.writes if writes else self._rates.checks
        most = rate * _BURST_SECONDS
        # What is more than a burst at once takes all of one, and would never pass otherwise.
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
            f"{caller.principal} has made its {rate:g} {what} a second; try again later",
            retry_after=(wanted - left) / rate,
            limit=f"{rate:g}",
        )
