"""Records of checks, committed in groups: those that wait at the same time share one transaction.

A record is committed before its answer is given, unless the mode says otherwise.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Final

from jit_service.domain.errors import StoreUnavailable
from jit_service.storage import Store
from jit_service.storage.engine import WAIT_SECONDS

MAX_GROUP: Final = 1_000
"""The most records in one transaction."""
MAX_BUFFERED: Final = 10_000
"""The most records that wait to be written with their answers given; past it answers wait again."""
_RETRY_SECONDS: Final = 0.2
_LINGER_SECONDS: Final = 0.01
_log = logging.getLogger(__name__)


class AuditMode(StrEnum):
    """Which checks are recorded, and what their answers wait for."""

    COMMITTED = "committed"
    BUFFERED = "buffered"
    DENIED = "denied"
    OFF = "off"


class _Entry:
    """Records of one call. `done` is released when they are committed, or `fault` says why they are not."""

    __slots__ = ("at", "done", "fault", "payloads")

    def __init__(self, payloads: Sequence[bytes], at: datetime, done: threading.Lock | None) -> None:
        self.payloads = payloads
        self.at = at
        self.done = done
        self.fault: StoreUnavailable | None = None


class Recorder:
    """See the module. `record` is for any thread; one thread writes."""

    def __init__(self, store: Store, mode: AuditMode) -> None:
        self.mode = mode
        self._store = store
        self._entries: queue.SimpleQueue[_Entry | None] = queue.SimpleQueue()
        self._writer = threading.Thread(target=self._write, name="recorder", daemon=True)
        self._stopped = False
        self._writer.start()

    @property
    def waiting(self) -> int:
        """How many calls' records wait to be taken up."""
        return self._entries.qsize()

    def wants(self, *, allowed: bool) -> bool:
        """Says whether an answer is recorded at all."""
        if self.mode is AuditMode.DENIED:
            return not allowed
        return self.mode is not AuditMode.OFF

    def record(self, payloads: Sequence[bytes], *, at: datetime) -> None:
        """Returns when the answers may be given. Raises StoreUnavailable; then the records may yet be written."""
        if self._stopped:
            raise StoreUnavailable("the service stops")
        if self.mode is AuditMode.BUFFERED and self.waiting < MAX_BUFFERED:
            self._entries.put(_Entry(payloads, at, None))
            return
        done = threading.Lock()
        done.acquire()
        entry = _Entry(payloads, at, done)
        self._entries.put(entry)
        if not done.acquire(timeout=2 * WAIT_SECONDS):
            raise StoreUnavailable("the record of the check was not written in time")
        if entry.fault is not None:
            raise StoreUnavailable(str(entry.fault)) from entry.fault

    def write(self, payloads: Sequence[bytes], *, at: datetime) -> None:
        """As `record`, for many calls at once: where they must be committed, this thread does it."""
        if self._stopped:
            raise StoreUnavailable("the service stops")
        if self.mode is AuditMode.BUFFERED and self.waiting < MAX_BUFFERED:
            self._entries.put(_Entry(payloads, at, None))
        else:
            self._store.append(payloads, at=at)

    def stop(self) -> None:
        """Writes what waits, and ends."""
        self._stopped = True
        self._entries.put(None)
        self._writer.join()

    def _write(self) -> None:
        kept: list[_Entry] = []
        ending = False
        while not ending:
            if kept:
                time.sleep(_RETRY_SECONDS)
            ending = self._gather(kept)
            kept = self._written(kept)
            if self.mode is AuditMode.BUFFERED and not ending:
                # Nobody waits, so that more can go together.
                time.sleep(_LINGER_SECONDS)
        if kept:
            _log.error("%d buffered records of checks are lost: the store does not answer", len(kept))

    def _gather(self, group: list[_Entry]) -> bool:
        """Adds what is to be written next to the group, waiting for something. Returns whether that was the last."""
        count = sum(len(entry.payloads) for entry in group)
        while count < MAX_GROUP:
            try:
                entry = self._entries.get(block=not group)
            except queue.Empty:
                break
            if entry is None:
                return True
            group.append(entry)
            count += len(entry.payloads)
        return False

    def _written(self, group: list[_Entry]) -> list[_Entry]:
        """Writes the group and lets its answers go. Returns what must be tried again: nobody waits for it any more."""
        if not group:
            return []
        try:
            payloads = [payload for entry in group for payload in entry.payloads]
            self._store.append(payloads, at=max(entry.at for entry in group))
        except Exception as fault:
            _log.warning("records of checks are not written: %s (%s)", fault, fault.__cause__)
            for entry in group:
                entry.fault = fault if isinstance(fault, StoreUnavailable) else StoreUnavailable("no record")
                _release(entry)
            return [entry for entry in group if entry.done is None]
        for entry in group:
            _release(entry)
        return []


def _release(entry: _Entry) -> None:
    if entry.done is not None:
        entry.done.release()
