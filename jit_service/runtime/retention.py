"""Forgets in the background what is kept no longer. No answer waits for it, and one process of all hosts does it."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from jit_service.background import BackgroundThread
from jit_service.domain.audit.event import SERVICE
from jit_service.domain.caller import Caller, Origin
from jit_service.domain.errors import LostRace, TokensOff
from jit_service.settings import Settings
from jit_service.storage import Store
from jit_service.use_cases import audit_pruning
from jit_service.use_cases.audit_pruning import Pruning, Range
from jit_service.use_cases.signing_keys import Issuing

ITSELF: Final = Caller(principal=SERVICE, origin=Origin(method="retention"))
_INTERVAL: Final = timedelta(seconds=10)
_LEASE: Final = timedelta(minutes=1)
_TASK: Final = "retention"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What is kept for how long; None is kept for ever."""

    audit: Pruning | None = None

    @property
    def interval(self) -> timedelta:
        """How often to look for what is due: often enough for the shortest retention."""
        spans = [self.audit.retention] if self.audit is not None else []
        return min(_INTERVAL, *(span / 10 for span in spans)) if spans else _INTERVAL


def kept_by(settings: Settings, issuing: Issuing | None) -> Kept:
    """Returns what the settings keep. Raises TokensOff if the log is to be pruned and nobody signs where it begins."""
    if settings.audit_retention is None:
        return Kept()
    if issuing is None:
        raise TokensOff("JIT_AUDIT_RETENTION needs JIT_TOKEN_ISSUER, whose keys sign the place where the log begins")
    return Kept(audit=Pruning(retention=settings.audit_retention, archive=settings.audit_archive, issuing=issuing))


class Retention(BackgroundThread):
    """Forgets what is due at every interval, a batch at a time, as long as this process has the lease of the task."""

    def __init__(self, store: Store, kept: Kept, *, interval: timedelta | None = None) -> None:
        undone = "what is too old is not forgotten"
        super().__init__(name="retention", interval=interval or kept.interval, undone=undone)
        self._store = store
        self._kept = kept
        self._holder = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"

    def work(self) -> None:
        """Forgets all that is due, if no other process does."""
        while not self.stopping.is_set() and self._is_due() and self._has_lease() and self._prune():
            pass

    def _is_due(self) -> bool:
        audit = self._kept.audit
        return audit is not None and audit_pruning.due(self._store, audit.retention) is not None

    def _has_lease(self) -> bool:
        return self._store.take_lease(_TASK, self._holder, span=_LEASE)

    def _prune(self) -> bool:
        if self._kept.audit is None:
            return False
        try:
            pruned = audit_pruning.prune_next(self._store, self._kept.audit, ITSELF, rest=_give_way)
        except LostRace:
            return False
        if pruned is not None:
            _log.info("%s", said(pruned))
        return pruned is not None


def said(pruned: Range) -> str:
    """Returns what the log says of records that were pruned."""
    where = f"archived in {pruned.archive}" if pruned.archive else "not archived"
    return f"pruned the audit records {pruned.first_seq} to {pruned.last_seq} ({where})"


def _give_way() -> None:
    """Lets a thread that waits to run do so."""
    time.sleep(0)
