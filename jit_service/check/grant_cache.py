"""The view of what is live: filled at start, moved forward by revision, and as fresh as whoever looks demands."""

from __future__ import annotations

import gc
import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final

from jit_service.check.barrier import Barrier
from jit_service.check.index import Index, View
from jit_service.domain.checks.cached_grant import LiveGrant
from jit_service.domain.checks.evidence import Candidate
from jit_service.fault_log import FaultLog
from jit_service.storage import Store
from jit_service.storage.engine import WAIT_SECONDS
from jit_service.storage.grant_loader import AnotherHistory
from jit_service.storage.head import BEGINNING

POLL_SECONDS: Final = 0.02
"""How often the store is looked at while nobody asks."""
_TELL_SECONDS: Final = 1.0
MAX_PAST: Final = 100
"""How many of a subject's ended grants are looked at to explain a no; the answer itself needs none of them."""
_log = logging.getLogger(__name__)


class GrantCache:
    """See the module. Raises StoreUnavailable where what is held may be older than it may be.

    `bound` is how old a view may be that was not brought up to date for the one who looks.
    """

    def __init__(self, store: Store, *, clock: Callable[[], datetime], bound: timedelta) -> None:
        self._store = store
        self._bound = bound.total_seconds()
        self._reader = store.grant_loader()
        self._index = Index(clock)
        # Where the store was, in its history, when what is held was read.
        self._place = BEGINNING
        self._barrier = Barrier(self._catch_up, wait_seconds=WAIT_SECONDS)
        self._fresh_at = 0.0
        self._stopping = threading.Event()
        self._poller = threading.Thread(target=self._poll, name="live", daemon=True)
        self._load()

    def start(self) -> None:
        """Begins to follow the store by itself, for bounded looks."""
        self._poller.start()

    def stop(self) -> None:
        """Ends that, and gives the connection back."""
        self._stopping.set()
        if self._poller.is_alive():
            self._poller.join()
        self._reader.close()

    def strong(self, subjects: Iterable[str]) -> View:
        """Returns what is known of the subjects, with every commit acknowledged before this call."""
        self._barrier.pass_()
        return self._index.look(subjects)

    def survey(self) -> tuple[View, list[tuple[LiveGrant, ...]]]:
        """Returns what is known of every subject (`Index.survey`), with every commit acknowledged before this call."""
        self._barrier.pass_()
        return self._index.survey()

    def bounded(self, subjects: Iterable[str]) -> View:
        """Returns what is known of the subjects; only past the bound is the store asked."""
        if (age := time.monotonic() - self._fresh_at) > self._bound:
            self._barrier.pass_()
            age = time.monotonic() - self._fresh_at
        return self._index.look(subjects, timedelta(seconds=age))

    def known_past(self, subject: str) -> Sequence[Candidate] | None:
        """As `past`; None where the store would have to be read."""
        return self._index.known_past(subject)

    def held(self, subjects: Iterable[str]) -> View:
        """Returns what is held of the subjects, however old it is; the store is never asked."""
        age = time.monotonic() - self._fresh_at
        return self._index.look(subjects, timedelta(seconds=age))

    def past(self, subject: str) -> Sequence[Candidate]:
        """Returns the subject's latest ended grants; they explain a no."""

        def read() -> Sequence[Candidate]:
            with self._store.snapshot() as snapshot:
                return snapshot.past_grants(subject, limit=MAX_PAST)

        return self._index.past(subject, read)  # type: ignore[arg-type]

    def _load(self) -> None:
        told_at = time.monotonic()

        def told(read: int, total: int) -> None:
            nonlocal told_at
            if time.monotonic() - told_at >= _TELL_SECONDS:
                told_at = time.monotonic()
                _log.info("loading live grants: %d of %d", read, total)

        gc.disable()
        try:
            # Until all is there nothing is: nobody is allowed what is not.
            self._index.clear()
            self._place = BEGINNING
            with self._reader.load(told) as everything:
                self._index.fill(everything)
                self._place = everything.head.place
            # What is live for long need not be looked through by every collection.
            gc.freeze()
        finally:
            gc.enable()
        _log.info("%d live grants at revision %d", len(self._index), self._index.revision)

    def _catch_up(self) -> None:
        begun_at = time.monotonic()
        try:
            self._follow()
        except AnotherHistory as fault:
            _log.warning("everything is loaded anew: %s", fault)
            self._load()
        self._fresh_at = begun_at

    def _follow(self) -> None:
        """Raises AnotherHistory."""
        head = self._reader.moved(self._place)
        if head is None:
            return
        self._index.advance(head.time)
        if head.revision > self._index.revision == 0:
            # Nothing was there, or an earlier load was broken off.
            self._load()
        elif head.revision > self._index.revision:
            delta = self._reader.since(self._place, self._index.held)
            self._index.apply(delta)
            self._place = delta.head.place
        else:
            self._place = head.place

    def _poll(self) -> None:
        faults = FaultLog(_log, "the store is not followed")
        while not self._stopping.wait(POLL_SECONDS):
            if time.monotonic() - self._fresh_at < POLL_SECONDS:
                continue
            try:
                self._barrier.pass_()
                faults.succeeded()
            except Exception as fault:
                # Whatever it is: without this thread, bounded looks would refuse for good.
                faults.failed(fault)
