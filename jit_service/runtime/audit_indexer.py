"""Indexes audit records for searches soon after their commit; while there are many checks, the checks go first.

A search indexes the records that still wait for it, so this thread only makes searches faster.
"""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Final

from jit_service.background import BackgroundThread
from jit_service.storage import Store
from jit_service.storage.head_follower import HeadFollower
from jit_service.storage.store import INDEX_CHUNK

MAX_WAITING: Final = 500_000
"""How many records may wait while the service is busy; a search then waits some seconds for them."""
# More new records than these in one interval mean that the service is busy.
_MANY: Final = 200


def steps_due(waiting: int, came: int) -> int:
    """Returns how many chunks of records to index now.

    `waiting` records are not indexed yet; `came` of them are new since the last call. While the service is busy, it
    indexes nothing until MAX_WAITING records wait, and from then on as many as come.
    """
    if came <= _MANY:
        return math.ceil(waiting / INDEX_CHUNK)
    return max(0, waiting - MAX_WAITING) // INDEX_CHUNK


class AuditIndexer(BackgroundThread):
    """Indexes the records that are due at every interval."""

    def __init__(self, store: Store, follower: HeadFollower, *, interval: timedelta) -> None:
        super().__init__(name="audit-indexer", interval=interval, undone="audit records are not indexed")
        self._store = store
        self._follower = follower
        self._seq = 0

    def work(self) -> None:
        """Indexes the chunks that are due."""
        # Read in this order, so that `seq` is never before `indexed`.
        indexed, seq = self._store.indexed_seq(), self._follower.look().seq
        came, self._seq = seq - self._seq, seq
        for _ in range(steps_due(seq - indexed, came)):
            if self.stopping.is_set():
                return
            self._store.index_audit()
