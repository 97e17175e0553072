"""Records of checks, committed in groups: those that wait at the same time share one transaction.

A record is committed before its answer is given, unless the mode says otherwise. Whoever comes first writes what all
have brought meanwhile, so that nobody waits for another thread's turn to begin.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from enum import StrEnum
from typing import Final

from jit_service.domain.errors import StoreUnavailable
from jit_service.storage import Store
from jit_service.storage.engine import WAIT_SECONDS

MAX_GROUP: Final = 1_000
"""The most records in one transaction, but for those of one call."""
MAX_BUFFERED: Final = 10_000
"""The most calls whose records wait to be written with their answers given; past it answers wait again."""
_RETRY_SECONDS: Final = 0.2
_LINGER_SECONDS: Final = 0.01
# With so many more on their way, a commit waits so long for them.
_SIBLINGS: Final = 3
_DELAY_SECONDS: Final = 0.001
_log = logging.getLogger(__name__)


class AuditMode(StrEnum):
    """Which checks are recorded, and what their answers wait for."""

    COMMITTED = "committed"
    BUFFERED = "buffered"
    DENIED = "denied"
    OFF = "off"


class _Entry:
    """Records of one call. `waits`: its answer is not given yet.

    `written` once they are committed; `fault` where the one who waits is told that they are not.
    """

    __slots__ = ("at", "fault", "payloads", "waits", "written")

    def __init__(self, payloads: Sequence[bytes], at: datetime, *, waits: bool) -> None:
        self.payloads = payloads
        self.at = at
        self.waits = waits
        self.written = False
        self.fault: StoreUnavailable | None = None


class Recorder:
    """See the module. `record` is for any thread; only buffered records need one of their own."""

    def __init__(self, store: Store, mode: AuditMode) -> None:
        self.mode = mode
        self._store = store
        self._entries: deque[_Entry] = deque()
        self._turn = threading.Lock()
        self._come = threading.Event()
        self._stopped = False
        self._coming = 0
        self._count = threading.Lock()
        self._writer = threading.Thread(target=self._write_buffered, name="recorder", daemon=True)
        if mode is AuditMode.BUFFERED:
            self._writer.start()

    @property
    def waiting(self) -> int:
        """How many calls' records wait to be taken up."""
        return len(self._entries)

    def wants(self, *, allowed: bool) -> bool:
        """Says whether an answer is recorded at all."""
        if self.mode is AuditMode.DENIED:
            return not allowed
        return self.mode is not AuditMode.OFF

    @contextmanager
    def expecting(self) -> Iterator[None]:
        """Tells that a record comes within the block, so that those before it may wait for it."""
        with self._count:
            self._coming += 1
        try:
            yield
        finally:
            with self._count:
                self._coming -= 1

    def record(self, payloads: Sequence[bytes], *, at: datetime) -> None:
        """Returns when the answers may be given. Raises StoreUnavailable; then the records may yet be written."""
        if self._stopped:
            raise StoreUnavailable("the service stops")
        waits = self.mode is not AuditMode.BUFFERED or self.waiting >= MAX_BUFFERED
        entry = _Entry(payloads, at, waits=waits)
        self._entries.append(entry)
        if not waits:
            self._come.set()
            return
        if not self._turn.acquire(timeout=2 * WAIT_SECONDS):
            raise StoreUnavailable("the record of the check was not written in time")
        try:
            if not entry.written and self._coming - self.waiting >= _SIBLINGS:
                # As PostgreSQL's commit_delay: under load a little later is sooner for all.
                time.sleep(_DELAY_SECONDS)
            while not entry.written and entry.fault is None:
                self._write_group()
        finally:
            self._turn.release()
        if entry.fault is not None:
            raise StoreUnavailable(str(entry.fault)) from entry.fault

    def stop(self) -> None:
        """Writes what waits, and ends."""
        self._stopped = True
        self._come.set()
        if self._writer.is_alive():
            self._writer.join()

    def _write_buffered(self) -> None:
        ending = False
        while not ending:
            self._come.wait()
            self._come.clear()
            # What is taken before a stop is written after it.
            ending = self._stopped
            is_written = True
            while self._entries and not (ending and not is_written):
                with self._turn:
                    is_written = self._write_group()
                # Nobody waits, so that more can go together.
                time.sleep(_LINGER_SECONDS if is_written else _RETRY_SECONDS)
        if self._entries:
            _log.error("the buffered records of %d checks are lost: the store does not answer", len(self._entries))

    def _write_group(self) -> bool:
        """Writes what waits, in order, up to a group; only in one's turn. Returns whether it is written."""
        group, count = [], 0
        while self._entries and count < MAX_GROUP:
            group.append(self._entries.popleft())
            count += len(group[-1].payloads)
        if not group:
            return True
        try:
            payloads = [payload for entry in group for payload in entry.payloads]
            self._store.append(payloads, at=max(entry.at for entry in group))
        except Exception as fault:
            _log.warning("records of checks are not written: %s (%s)", fault, fault.__cause__)
            told = fault if isinstance(fault, StoreUnavailable) else StoreUnavailable("no record")
            for entry in group:
                entry.fault = told if entry.waits else None
            # Where nobody waits any more they are tried again.
            self._entries.extendleft(entry for entry in reversed(group) if not entry.waits)
            return False
        for entry in group:
            entry.written = True
        return True
