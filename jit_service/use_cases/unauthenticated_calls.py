"""Refused calls without a valid token: one audit record a second and address, with a count (invariant I33).

Nobody vouches for such a call, and anybody may make millions. So its record has the method, the address and the reason
and nothing that the caller wrote, the first of an address is written at once, and those that follow within a second
are counted and recorded together.
"""

from __future__ import annotations

import ipaddress
import threading
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from jit_service.background import BackgroundThread
from jit_service.domain.audit.refusal import unauthenticated_event
from jit_service.domain.caller import Caller, Origin
from jit_service.domain.errors import Unavailable
from jit_service.storage import Store

INTERVAL: Final = timedelta(seconds=1)
"""How long the refusals of one address are counted before they are recorded."""
MAX_SAMPLES: Final = 20
"""How many records of all addresses together may be written in an interval."""
MAX_ADDRESSES: Final = 4096
"""How many addresses are told apart at once; what comes from more is counted under none."""
# Whoever has one address of IPv6 has its /64.
_NETWORK_BITS: Final = 64


@dataclass
class _RefusalCount:
    """The refusals of one address since its last record, which was written at `recorded_at`. The latest says why."""

    origin: Origin
    reason: str
    recorded_at: datetime
    count: int = 0


class UnauthenticatedCalls(BackgroundThread):
    """Counts and records refused calls that no token vouches for. Any thread may count."""

    def __init__(self, store: Store) -> None:
        super().__init__(name="unproved", interval=INTERVAL, undone="refusals of unproved callers are not recorded")
        self._store = store
        self._addresses: OrderedDict[str, _RefusalCount] = OrderedDict()
        self._window = (datetime.min.replace(tzinfo=store.clock().tzinfo), 0)
        self._lock = threading.Lock()

    def refused(self, caller: Caller, *, reason: str) -> None:
        """Counts a refused call, and records it unless its address had a record within the last second.

        Raises Unavailable; then it stays counted.
        """
        now = self._store.clock()
        with self._lock:
            counted = self._counted(caller.origin, reason, now)
            counted.count += 1
            if not self._is_due(counted, now) or not self._take_sample(now):
                return
            batch = [self._taken(counted, now)]
        self._record(batch)

    def work(self) -> None:
        """Records what has been counted for a second."""
        now = self._store.clock()
        with self._lock:
            for address, counted in list(self._addresses.items()):
                if counted.count == 0 and self._is_due(counted, now):
                    del self._addresses[address]
            waiting = [counted for counted in self._addresses.values() if counted.count and self._is_due(counted, now)]
            batch = [self._taken(counted, now) for counted in waiting if self._take_sample(now)]
        self._record(batch)

    def stop(self) -> None:
        """Ends the thread, and records what is still counted."""
        super().stop()
        with self._lock:
            batch = [self._taken(counted, counted.recorded_at) for counted in self._addresses.values() if counted.count]
        try:
            self._record(batch)
        except Unavailable as fault:
            self._log.warning("refusals of %d addresses are not recorded: %s", len(batch), fault)

    def _counted(self, origin: Origin, reason: str, now: datetime) -> _RefusalCount:
        address = _network(origin.source_address)
        if address not in self._addresses and len(self._addresses) >= MAX_ADDRESSES:
            address, origin = "", Origin(method=origin.method)
        counted = self._addresses.setdefault(address, _RefusalCount(origin, reason, now - INTERVAL))
        counted.origin, counted.reason = origin, reason
        return counted

    def _is_due(self, counted: _RefusalCount, now: datetime) -> bool:
        # A clock that was set back must not silence an address.
        return not timedelta() <= now - counted.recorded_at < INTERVAL

    def _take_sample(self, now: datetime) -> bool:
        began, taken = self._window
        if not timedelta() <= now - began < INTERVAL:
            began, taken = now, 0
        if taken >= MAX_SAMPLES:
            return False
        self._window = began, taken + 1
        return True

    def _taken(self, counted: _RefusalCount, now: datetime) -> _RefusalCount:
        taken = _RefusalCount(counted.origin, counted.reason, now, counted.count)
        counted.count, counted.recorded_at = 0, now
        return taken

    def _record(self, batch: list[_RefusalCount]) -> None:
        if not batch:
            return
        try:
            with self._store.transaction() as tx:
                for counted in batch:
                    tx.record(
                        unauthenticated_event(counted.origin, reason=counted.reason, count=counted.count, at=tx.now)
                    )
        except BaseException:
            with self._lock:
                for counted in batch:
                    self._counted(counted.origin, counted.reason, counted.recorded_at).count += counted.count
            raise


def _network(address: str) -> str:
    """Returns what stands for whoever has the address: itself, or of IPv6 its network."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    return address if parsed.version == 4 else str(ipaddress.ip_network((parsed, _NETWORK_BITS), strict=False))
