"""The cache of live grants: loaded at start, brought forward by revision, and as fresh as each reader demands."""

from __future__ import annotations

import gc
import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from math import inf
from typing import Final

from jit_service.check.barrier import Barrier
from jit_service.check.index import Index, View
from jit_service.domain.checks.cached_grant import CachedGrant
from jit_service.domain.checks.ended_grant import EndedGrant, shorten
from jit_service.domain.checks.evidence import Candidate
from jit_service.fault_log import FaultLog
from jit_service.storage import Store
from jit_service.storage.engine import WAIT_SECONDS
from jit_service.storage.grant_loader import AnotherHistory
from jit_service.storage.head import BEGINNING

POLL_SECONDS: Final = 0.02
"""How often the cache polls the store while somebody rests on what it has, and no check reads the store."""
IDLE_POLL_SECONDS: Final = 0.1
"""How often it does once nobody has rested on it for IDLE_AFTER_SECONDS."""
IDLE_AFTER_SECONDS: Final = 1.0
_PROGRESS_SECONDS: Final = 1.0
MAX_PAST: Final = 100
"""How many of a subject's ended grants are read to explain a no; the answer itself needs none of them."""
_log = logging.getLogger(__name__)


class GrantCache:
    """Keeps the live grants, policies, signals and locks in memory, and follows the store.

    Methods raise StoreUnavailable if the cache may be older than they allow. `bound` is the greatest age of a view that
    `bounded` returns without a read of the store.
    """

    def __init__(self, store: Store, *, clock: Callable[[], datetime], bound: timedelta) -> None:
        self._store = store
        self._bound = bound.total_seconds()
        self._reader = store.grant_loader()
        self._index = Index(clock)
        # The place in the store's history at which the index was read.
        self._place = BEGINNING
        door = store.door
        self._barrier = Barrier(self._catch_up, wait_seconds=WAIT_SECONDS, hangs=lambda: door.is_closed)
        self._fresh_at = 0.0
        # When somebody last rested on the cache without a read of the store.
        self._rested_at = -inf
        self._stopping = threading.Event()
        self._poller = threading.Thread(target=self._poll, name="live", daemon=True)
        self._load()

    def start(self) -> None:
        """Starts the thread that polls the store, so that bounded views stay fresh."""
        self._poller.start()

    def stop(self) -> None:
        """Ends the thread, and gives the connection back."""
        self._stopping.set()
        if self._poller.is_alive():
            self._poller.join()
        self._reader.close()

    def strong(self, subjects: Iterable[str]) -> View:
        """Returns a view of the subjects that includes every commit acknowledged before this call."""
        self._barrier.pass_()
        return self._index.look(subjects)

    def reaching(
        self, resource: str, wants: Callable[[str], bool], most: int
    ) -> tuple[View, list[tuple[CachedGrant, ...]]]:
        """Returns what `Index.reaching` does, including every commit acknowledged before this call."""
        self._barrier.pass_()
        return self._index.reaching(resource, wants, most)

    def bounded(self, subjects: Iterable[str]) -> View:
        """Returns a view of the subjects that is at most `bound` old; reads the store only if the cache is older."""
        self._rested_at = time.monotonic()
        if (age := self._rested_at - self._fresh_at) > self._bound:
            self._barrier.pass_()
            age = time.monotonic() - self._fresh_at
        return self._index.look(subjects, timedelta(seconds=age))

    @property
    def size(self) -> int:
        """How many grants it has: those that are scheduled or active."""
        return len(self._index)

    @property
    def poll_seconds(self) -> float:
        """How long its thread waits until it next polls the store."""
        is_idle = time.monotonic() - self._rested_at > IDLE_AFTER_SECONDS
        return IDLE_POLL_SECONDS if is_idle else POLL_SECONDS

    @property
    def age(self) -> float:
        """How many seconds ago the cache was last seen to have all commits."""
        return time.monotonic() - self._fresh_at

    def known_past(self, subject: str) -> Sequence[Candidate] | None:
        """Returns the same as `past`, or None if only the store has it."""
        return self._index.known_past(subject)

    def held(self, subjects: Iterable[str]) -> View:
        """Returns the cached view of the subjects, however old it is; never reads the store."""
        self._rested_at = time.monotonic()
        return self._index.look(subjects, timedelta(seconds=self._rested_at - self._fresh_at))

    def past(self, subject: str) -> Sequence[Candidate]:
        """Returns the subject's latest ended grants, which explain a no."""

        def read() -> Sequence[EndedGrant]:
            with self._store.snapshot() as snapshot:
                return [shorten(grant) for grant in snapshot.past_grants(subject, limit=MAX_PAST)]

        return self._index.past(subject, read)

    def _load(self) -> None:
        logged_at = time.monotonic()

        def log_progress(read: int, total: int) -> None:
            nonlocal logged_at
            if time.monotonic() - logged_at >= _PROGRESS_SECONDS:
                logged_at = time.monotonic()
                _log.info("loading live grants: %d of %d", read, total)

        gc.disable()
        try:
            # The index stays empty until the load is complete, so a check allows nothing that no longer is.
            self._index.clear()
            self._place = BEGINNING
            with self._reader.load(log_progress) as everything:
                self._index.fill(everything)
                self._place = everything.head.place
            # The grants live long, so the garbage collector need not visit them in every collection.
            gc.freeze()
        finally:
            gc.enable()
        _log.info("loaded %d live grants at revision %d", len(self._index), self._index.revision)

    def _catch_up(self) -> None:
        begun_at = time.monotonic()
        try:
            self._follow()
        except AnotherHistory as fault:
            _log.warning("the grants are loaded again: %s", fault)
            self._load()
        self._fresh_at = begun_at

    def _follow(self) -> None:
        """Applies what the store has committed since. Raises AnotherHistory."""
        head = self._reader.moved(self._place)
        if head is None:
            return
        self._index.advance(head.time)
        if head.revision > self._index.revision == 0:
            # The index is empty: the store was, or an earlier load failed.
            self._load()
        elif head.revision > self._index.revision:
            delta = self._reader.since(self._place, self._index.held)
            self._index.apply(delta)
            self._place = delta.head.place
        else:
            self._place = head.place

    def _poll(self) -> None:
        faults = FaultLog(_log, "the store is not followed")
        while not self._stopping.wait(self.poll_seconds):
            if time.monotonic() - self._fresh_at < POLL_SECONDS:
                continue
            try:
                self._barrier.pass_()
                faults.succeeded()
            except Exception as fault:
                # The thread goes on after any fault: without it, bounded views would raise for good.
                faults.failed(fault)
