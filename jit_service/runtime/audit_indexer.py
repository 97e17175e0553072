"""Makes audit records findable soon after their commit; while there are many checks, those go first.

Searching makes the rest findable first: this saves it the wait.
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
"""How many records may wait while the service is busy; then whoever searches waits some seconds for them."""
# So many new records in an interval mean that it is.
_MANY: Final = 200


def steps_due(waiting: int, came: int) -> int:
    """Returns how many chunks of records shall be made findable now.

    `waiting` records wait for it, of which `came` have come since last asked. A busy service is left alone until many
    wait, and then goes on at the pace of what comes.
    """
    if came <= _MANY:
        return math.ceil(waiting / INDEX_CHUNK)
    return max(0, waiting - MAX_WAITING) // INDEX_CHUNK


class AuditIndexer(BackgroundThread):
    """Makes findable what is due."""

    def __init__(self, store: Store, follower: HeadFollower, *, interval: timedelta) -> None:
        super().__init__(name="audit-indexer", interval=interval, undone="audit records are not made findable")
        self._store = store
        self._follower = follower
        self._seq = 0

    def work(self) -> None:
        """Does what is due."""
        # In this order: the log never ends before what is indexed of it.
        indexed, seq = self._store.indexed_seq(), self._follower.look().seq
        came, self._seq = seq - self._seq, seq
        for _ in range(steps_due(seq - indexed, came)):
            if self.stopping.is_set():
                return
            self._store.index_audit()
