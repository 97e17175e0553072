"""Follows the head row: how far the store has come, by the revision and by the last audit record.

One thread looks for all that wait: the feeds of grants for the next revision, the feed of the audit log for the next
record. On PostgreSQL a look at a server that is not the primary raises
StoreUnavailable, so nobody continues from the state of a standby.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from datetime import timedelta
from typing import Final

from jit_service.background import BackgroundThread
from jit_service.domain.errors import ServiceStopping
from jit_service.storage.head import BEGINNING, Head
from jit_service.storage.shared_reads import Found, Read, SharedReads
from jit_service.storage.snapshot import Snapshot
from jit_service.storage.store import Store

_POLL_INTERVAL: Final = timedelta(seconds=0.05)


class HeadFollower(BackgroundThread):
    """Reads the head row at every interval while somebody waits, and wakes those whose place the store has passed.

    The head goes back only if a backup is restored or a failover loses commits. A feed that continues from a place asks
    `Snapshot.has_been_at` in the snapshot that it reads.
    """

    def __init__(self, store: Store) -> None:
        super().__init__(name="head-follower", interval=_POLL_INTERVAL, undone="changes are not noticed")
        self._store = store
        self._changed = threading.Condition()
        self._waiting = 0
        self._head = BEGINNING
        self._shared = SharedReads(store)
        # A commit of this process is noticed without waiting for the next look.
        store.on_commit(self._note)

    def look(self) -> Head:
        """Reads how far the store is, wakes those who waited for it, and returns it. Raises StoreUnavailable."""
        head = self._store.head()
        with self._changed:
            self._head = head
            self._changed.notify_all()
        return head

    def wait_for_revision(self, *, after: int, seconds: float, gone: Callable[[], bool]) -> None:
        """Returns when the store is past the revision, after so many seconds at the latest, or when `gone` is true.

        Raises ServiceStopping. `gone` is called whenever a commit is noticed, and after `wake`.
        """
        self._wait(lambda head: head.revision > after, after=after, seconds=seconds, gone=gone)

    def wait_for_record(self, *, after: int, seconds: float, gone: Callable[[], bool]) -> None:
        """As `wait_for_revision`, for the audit record after the seq: checks add records and move no revision."""
        self._wait(lambda head: head.seq > after, after=after, seconds=seconds, gone=gone)

    def read(self, key: Hashable, read: Callable[[Snapshot], Found], *, not_before: float = 0.0) -> Read[Found]:
        """Reads a state that has all that was noticed until now, once for all streams with the key that need it now.

        Raises StoreUnavailable, and what `read` raises. See `SharedReads.read`.
        """
        return self._shared.read(key, read, revision=self._head.revision, not_before=not_before)

    def wake(self) -> None:
        """Has everybody who waits ask `gone` again."""
        with self._changed:
            self._changed.notify_all()

    def wait_for_work(self) -> None:
        """Returns an interval after the last look, once somebody waits."""
        super().wait_for_work()
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self.stopping.is_set())

    def work(self) -> None:
        """Looks once."""
        self.look()

    def interrupt(self) -> None:
        """Ends every wait."""
        self.wake()

    def _wait(self, is_past: Callable[[Head], bool], *, after: int, seconds: float, gone: Callable[[], bool]) -> None:
        with self._changed:
            self._waiting += 1
            self._changed.notify_all()
            try:
                self._changed.wait_for(lambda: is_past(self._head) or self.stopping.is_set() or gone(), timeout=seconds)
            finally:
                self._waiting -= 1
            if self.stopping.is_set():
                raise ServiceStopping(f"the service stops; go on from {after}")

    def _note(self, head: Head) -> None:
        with self._changed:
            # Threads report their commits in any order.
            if head.seq > self._head.seq:
                self._head = head
                self._changed.notify_all()
