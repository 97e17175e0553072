"""Forgets in the background what is kept no longer. No answer waits for it, and one process of all hosts does it."""

from __future__ import annotations

import logging
import time
from datetime import timedelta
from typing import Final

from jit_service.background import BackgroundThread
from jit_service.domain.audit.event import SERVICE
from jit_service.domain.caller import Caller, Origin
from jit_service.domain.errors import LostRace, TokensOff
from jit_service.runtime.lease import Lease
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


def pruning_by(settings: Settings, issuing: Issuing | None) -> Pruning | None:
    """Returns how the settings prune the log; None if they do not. Raises TokensOff if nobody signs where it begins."""
    if settings.audit_retention is None:
        return None
    if issuing is None:
        raise TokensOff("JIT_AUDIT_RETENTION needs JIT_TOKEN_ISSUER, whose keys sign the place where the log begins")
    return Pruning(retention=settings.audit_retention, archive=settings.audit_archive, issuing=issuing)


class Retention(BackgroundThread):
    """Forgets what is due at every interval, a batch at a time, as long as this process has the lease of the task."""

    def __init__(self, store: Store, pruning: Pruning) -> None:
        # Often enough for a short retention too.
        interval = min(_INTERVAL, pruning.retention / 10)
        super().__init__(name="retention", interval=interval, undone="what is too old is not forgotten")
        self._store = store
        self._pruning = pruning
        self._lease = Lease(store, _TASK)

    def work(self) -> None:
        """Forgets all that is due, if no other process does."""
        while not self.stopping.is_set() and self._is_due() and self._lease.is_held(span=_LEASE) and self._prune():
            pass

    def _is_due(self) -> bool:
        return audit_pruning.due(self._store, self._pruning.retention) is not None

    def _prune(self) -> bool:
        try:
            pruned = audit_pruning.prune_next(self._store, self._pruning, ITSELF, rest=_give_way)
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
