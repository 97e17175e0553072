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
# With so many more on their way, a commit waits for them, so long at a time and so often at most.
_SIBLINGS: Final = 3
_DELAY_SECONDS: Final = 0.001
_DELAYS: Final = 6
_log = logging.getLogger(__name__)


class AuditMode(StrEnum):
    """Which checks are recorded, and what their answers wait for."""

    COMMITTED = "committed"
    BUFFERED = "buffered"
    DENIED = "denied"
    OFF = "off"


class _Entry:
    """Records of one call. `waits`: its answer is not given yet; `turn` is released when it is to go on.

    `written` once they are committed; `fault` where the one who waits is told that they are not. `leads`: it writes
    what waits, and calls the next to lead.
    """

    __slots__ = ("at", "fault", "is_called", "leads", "payloads", "turn", "waits", "written")

    def __init__(self, payloads: Sequence[bytes], at: datetime, *, waits: bool) -> None:
        self.payloads = payloads
        self.at = at
        self.waits = waits
        self.turn = threading.Lock()
        self.turn.acquire()
        self.is_called = False
        self.leads = False
        self.written = False
        self.fault: StoreUnavailable | None = None

    @property
    def is_settled(self) -> bool:
        return self.written or self.fault is not None


class Recorder:
    """See the module. `record` is for any thread; only buffered records need one of their own."""

    def __init__(self, store: Store, mode: AuditMode) -> None:
        self.mode = mode
        self._store = store
        self._entries: deque[_Entry] = deque()
        # Of the entries, who leads, and who comes.
        self._mutex = threading.Lock()
        self._is_led = False
        self._coming = 0
        self._writing = threading.Lock()
        self._come = threading.Event()
        self._stopped = False
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
        with self._mutex:
            self._coming += 1
        try:
            yield
        finally:
            with self._mutex:
                self._coming -= 1

    def record(self, payloads: Sequence[bytes], *, at: datetime) -> None:
        """Returns when the answers may be given. Raises StoreUnavailable; then the records may yet be written."""
        if self._stopped:
            raise StoreUnavailable("the service stops")
        waits = self.mode is not AuditMode.BUFFERED or self.waiting >= MAX_BUFFERED
        entry = _Entry(payloads, at, waits=waits)
        with self._mutex:
            self._entries.append(entry)
            if waits and not self._is_led:
                self._is_led = entry.leads = True
        if not waits:
            self._come.set()
            return
        if not entry.leads and not entry.turn.acquire(timeout=2 * WAIT_SECONDS) and not self._is_called(entry):
            raise StoreUnavailable("the record of the check was not written in time")
        if entry.leads:
            self._lead(entry)
        if not entry.written:
            raise StoreUnavailable(str(entry.fault or "no record")) from entry.fault

    def _is_called(self, entry: _Entry) -> bool:
        """Says whether its turn has come just now; if not, nobody waits for it any more."""
        with self._mutex:
            entry.waits = entry.is_called
            return entry.is_called

    def _lead(self, entry: _Entry) -> None:
        """Writes what waits until the entry is written, and calls the next to lead."""
        try:
            if not entry.is_settled:
                self._wait_for_siblings()
            while not entry.is_settled:
                with self._writing:
                    self._write_group()
        finally:
            with self._mutex:
                following = next((other for other in self._entries if other.waits), None)
                self._is_led = following is not None
                if following is not None:
                    following.leads = True
                    _call(following)

    def _wait_for_siblings(self) -> None:
        """As PostgreSQL's commit_delay and commit_siblings: under load a little later is sooner for all."""
        for _ in range(_DELAYS):
            if self._coming - self.waiting < _SIBLINGS:
                return
            time.sleep(_DELAY_SECONDS)

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
                with self._writing:
                    is_written = self._write_group()
                # Nobody waits, so that more can go together.
                time.sleep(_LINGER_SECONDS if is_written else _RETRY_SECONDS)
        if self._entries:
            _log.error("the buffered records of %d checks are lost: the store does not answer", len(self._entries))

    def _write_group(self) -> bool:
        """Writes what waits, in order, up to a group; one thread at a time. Returns whether it is written."""
        group: list[_Entry] = []
        with self._mutex:
            count = 0
            while self._entries and count < MAX_GROUP:
                group.append(self._entries.popleft())
                count += len(group[-1].payloads)
        if not group:
            return True
        fault = self._fault_of_writing(group)
        with self._mutex:
            for entry in group:
                entry.written = fault is None
                if entry.waits:
                    entry.fault = fault
                    _call(entry)
            if fault is not None:
                # Where nobody waits any more they are tried again.
                self._entries.extendleft(entry for entry in reversed(group) if not entry.waits)
        return fault is None

    def _fault_of_writing(self, group: Sequence[_Entry]) -> StoreUnavailable | None:
        try:
            payloads = [payload for entry in group for payload in entry.payloads]
            self._store.append(payloads, at=max(entry.at for entry in group))
        except Exception as fault:
            _log.warning("records of checks are not written: %s (%s)", fault, fault.__cause__)
            return fault if isinstance(fault, StoreUnavailable) else StoreUnavailable("no record")
        return None


def _call(entry: _Entry) -> None:
    """Lets the one who waits go on, once."""
    if not entry.is_called:
        entry.is_called = True
        entry.turn.release()
