"""Figures of the store as metrics: read by a thread of their own, so that no scrape waits for a store that is away."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Final

from jit_service.fault_log import FaultLog
from jit_service.metrics import catalogue
from jit_service.metrics.families import Sample, Values, grouped
from jit_service.storage import Store
from jit_service.storage.readers.figures import Figures

FRESH_SECONDS: Final = 5.0
"""How old figures may be before a scrape has them read again."""
_SHARE: Final = 20
"""They are read for no more than a twentieth of the time, however much there is to count."""
_PATIENCE_SECONDS: Final = 1.0


class StoreFigures:
    """Reads the figures of the store when they are asked for. Any thread may ask."""

    def __init__(self, store: Store, log: FaultLog) -> None:
        self._store = store
        self._faults = log
        self._wanted = threading.Event()
        self._read = threading.Event()
        self._stopping = False
        self._due_at = 0.0
        self._known: Figures | None = None
        self._read_at = 0.0
        self._is_up = False
        self._thread = threading.Thread(target=self._run, name="figures", daemon=True)

    def start(self) -> None:
        """Starts the thread, which waits until figures are asked for."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread; a read that the store does not answer ends by itself."""
        self._stopping = True
        self._wanted.set()

    def values(self) -> Values:
        """Returns the figures, at most five seconds old while the store answers; else the latest, with their age."""
        if time.monotonic() >= self._due_at:
            self._read.clear()
            self._wanted.set()
            self._read.wait(_PATIENCE_SECONDS)
        up = catalogue.STORE_UP.sample(self._is_up)
        if self._known is None:
            return grouped([up])
        age = catalogue.FIGURES_AGE.sample(time.monotonic() - self._read_at)
        return grouped([up, age, *_samples(self._known)])

    def _run(self) -> None:
        while not self._stopping:
            self._wanted.wait()
            self._wanted.clear()
            if not self._stopping:
                self._read_once()

    def _read_once(self) -> None:
        begun_at = time.monotonic()
        try:
            with self._store.snapshot() as snapshot:
                self._known = snapshot.figures()
            self._read_at, self._is_up = begun_at, True
            self._faults.succeeded()
        except Exception as fault:
            self._is_up = False
            self._faults.failed(fault)
        took = time.monotonic() - begun_at
        self._due_at = begun_at + max(FRESH_SECONDS, _SHARE * took)
        self._read.set()


def _samples(figures: Figures) -> Iterator[tuple[str, Sample]]:
    now = figures.now
    for queue in figures.pending:
        yield catalogue.PENDING.sample(queue.waiting, queue.name)
        yield catalogue.OLDEST_PENDING.sample(_since(queue.oldest_at, now), queue.name)
    yield catalogue.PENDING_EXTENSIONS.sample(figures.pending_extensions)
    yield catalogue.REVIEWS_OWED.sample(figures.reviews_owed - figures.reviews_overdue, "no")
    yield catalogue.REVIEWS_OWED.sample(figures.reviews_overdue, "yes")
    yield catalogue.LOCKS.sample(figures.locks)
    yield catalogue.EXPIRY_LAG.sample(_since(figures.unrecorded_end_at, now))
    for backlog in figures.outbox:
        yield catalogue.OUTBOX.sample(backlog.waiting, backlog.receiver, "waiting")
        yield catalogue.OUTBOX.sample(backlog.given_up, backlog.receiver, "given_up")
        yield catalogue.OUTBOX_LAG.sample(_since(backlog.oldest_at, now), backlog.receiver)
    yield catalogue.AUDIT_RECORDS.sample(figures.audit_records)
    yield catalogue.UNMERGED.sample(figures.unmerged_records)
    yield catalogue.STORE_BYTES.sample(figures.store_bytes)
    if figures.key_signs_since is not None:
        yield catalogue.KEY_AGE.sample(_since(figures.key_signs_since, now))


def _since(at: datetime | None, now: datetime) -> float:
    return 0.0 if at is None else max(0.0, (now - at).total_seconds())
