"""Records checks in groups: records that wait at the same time share one transaction.

A record is committed before its answer is given, unless the mode says otherwise.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Final, NamedTuple

from jit_service.check.batcher import Batcher
from jit_service.domain.errors import StoreUnavailable, Unavailable
from jit_service.fault_log import FaultLog
from jit_service.storage import Outline, Store

MAX_GROUP: Final = 1_000
"""The most records in one transaction; only a single call may have more."""
MAX_BUFFERED: Final = 10_000
"""The most calls whose records may be buffered; while the buffer is full, answers wait for their records again."""
_RETRY_SECONDS: Final = 0.2
_LINGER_SECONDS: Final = 0.01
_log = logging.getLogger(__name__)


class AuditMode(StrEnum):
    """Which checks are recorded, and what their answers wait for."""

    COMMITTED = "committed"
    BUFFERED = "buffered"
    DENIED = "denied"
    OFF = "off"


class _Records(NamedTuple):
    """The records of one call; `at` is the instant of each. `digests` are those of as many, or of fewer."""

    payloads: Sequence[bytes]
    at: datetime
    digests: Sequence[bytes]


class Recorder:
    """Commits the records of checks. Any thread may call `record`; buffered records have a thread that writes them."""

    def __init__(self, store: Store, mode: AuditMode) -> None:
        self.mode = mode
        self._store = store
        self._committing: Batcher[_Records, None] = Batcher(
            self._write, most=MAX_GROUP, weight=lambda records: len(records.payloads)
        )
        self._buffer: deque[_Records] = deque()
        self._faults = FaultLog(_log, "records of checks are not written")
        # Held during a write: the thread of buffered records and the batcher both write.
        self._writing = threading.Lock()
        self._come = threading.Event()
        self._stopped = False
        self._writer = threading.Thread(target=self._write_buffered, name="recorder", daemon=True)

    def start(self) -> None:
        """Starts to write buffered records, if the mode buffers any."""
        if self.mode is AuditMode.BUFFERED:
            self._writer.start()

    @property
    def waiting(self) -> int:
        """The number of calls whose records wait for their commit."""
        return len(self._buffer) + len(self._committing)

    def wants(self, *, allowed: bool) -> bool:
        """Returns whether the mode records such an answer."""
        if self.mode is AuditMode.DENIED:
            return not allowed
        return self.mode is not AuditMode.OFF

    def record(self, payloads: Sequence[bytes], *, at: datetime, digests: Sequence[bytes] = ()) -> None:
        """Returns once the answers may be given. Raises StoreUnavailable; the records may still have been written.

        `at` is the instant of each record. `digests` has those of each record, as in Outline, where all are known.
        """
        if self._stopped:
            raise StoreUnavailable("the service stops")
        records = _Records(payloads, at, digests)
        if self.mode is AuditMode.BUFFERED and len(self._buffer) < MAX_BUFFERED:
            self._buffer.append(records)
            self._come.set()
        else:
            self._committing.submit(records)

    def stop(self) -> None:
        """Writes the buffered records, and ends the thread."""
        self._stopped = True
        self._come.set()
        if self._writer.is_alive():
            self._writer.join()

    def _write_buffered(self) -> None:
        ending = False
        while not ending:
            self._come.wait()
            self._come.clear()
            # Records that were accepted before `stop` are written after it.
            ending = self._stopped
            is_written = True
            while self._buffer and not (ending and not is_written):
                is_written = self._write_some()
                # No answer waits for these, so let a larger group gather.
                time.sleep(_LINGER_SECONDS if is_written else _RETRY_SECONDS)
        if self._buffer:
            _log.error("the buffered records of %d checks are lost: the store does not answer", len(self._buffer))

    def _write_some(self) -> bool:
        """Writes up to a group of buffered records, in order. Returns False, and keeps them, if the store fails."""
        group: list[_Records] = []
        count = 0
        while self._buffer and count < MAX_GROUP:
            group.append(self._buffer.popleft())
            count += len(group[-1].payloads)
        try:
            self._write(group)
        except Unavailable:
            self._buffer.extendleft(reversed(group))
            return False
        return True

    def _write(self, group: Sequence[_Records]) -> list[None]:
        """Commits the records of a group in one transaction. Raises StoreUnavailable."""
        try:
            payloads = [payload for records in group for payload in records.payloads]
            with self._writing:
                self._store.append(payloads, at=max(records.at for records in group), outline=_outlined(group))
        except Exception as fault:
            self._faults.failed(fault)
            message = str(fault) if isinstance(fault, Unavailable) else "the check could not be recorded"
            raise StoreUnavailable(message) from fault
        self._faults.succeeded()
        return [None] * len(group)


def _outlined(group: Sequence[_Records]) -> Outline | None:
    """Returns the outline of all the records, if the digests of each are known."""
    if any(len(records.digests) != len(records.payloads) for records in group):
        return None
    instants = [records.at for records in group]
    return Outline(min(instants), max(instants), [digests for records in group for digests in records.digests])
