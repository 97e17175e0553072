"""Merges the audit log's rows into pieces, soon after their commit, so that the log stays small and quick to search."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Final

from jit_service.background import BackgroundThread
from jit_service.storage import Store

INTERVAL: Final = timedelta(seconds=0.25)
"""How often rows are looked for. What a busy service records in it is merged in a few steps of milliseconds."""
_PARTITIONS_EVERY: Final = timedelta(minutes=1)
"""How often the partitions of PostgreSQL are looked at: they are made when there is room for hours, or for minutes."""


class AuditCompactor(BackgroundThread):
    """Merges what is due at every interval. Every process of a service has one; they find out what the others did."""

    def __init__(self, store: Store, *, interval: timedelta = INTERVAL) -> None:
        super().__init__(name="audit-compactor", interval=interval, undone="audit records are not merged")
        self._store = store
        self._partitions_at = -_PARTITIONS_EVERY.total_seconds()

    def work(self) -> None:
        """Merges as many pieces as are due, one at a time, so that checks go on between; and makes room for more."""
        if time.monotonic() - self._partitions_at >= _PARTITIONS_EVERY.total_seconds():
            self._partitions_at = time.monotonic()
            self._store.audit_partitions.make_ahead()
        while not self.stopping.is_set() and self._store.merge_audit(rest=_give_way):
            _give_way()


def _give_way() -> None:
    """Lets a thread that waits to run do so: this one computes for milliseconds, which a check would wait for."""
    time.sleep(0)
