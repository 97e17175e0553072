"""Forgets in the background what is kept no longer. No answer waits for it, and one process of all hosts does it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from math import inf
from typing import Final

from jit_service.background import BackgroundThread
from jit_service.domain.audit.event import SERVICE
from jit_service.domain.caller import Caller, Origin
from jit_service.domain.errors import LostRace, TokensOff
from jit_service.notifications import forgetting
from jit_service.runtime.lease import Lease
from jit_service.settings import Settings
from jit_service.storage import Store
from jit_service.use_cases import audit_pruning, grant_forgetting
from jit_service.use_cases.audit_pruning import Pruning, Range
from jit_service.use_cases.signing_keys import Issuing

ITSELF: Final = Caller(principal=SERVICE, origin=Origin(method="retention"))
_INTERVAL: Final = timedelta(seconds=10)
# What is kept for days needs no more, and each batch is a record.
_SELDOM: Final = timedelta(minutes=10)
_LEASE: Final = timedelta(minutes=1)
_TASK: Final = "retention"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Bound:
    """What is forgotten after a span. `forget` forgets a batch, and returns it in words; empty text: there was none.

    `every` is how often it is looked for.
    """

    span: timedelta
    is_due: Callable[[], bool]
    forget: Callable[[], str]
    every: timedelta = timedelta()


def pruning_by(settings: Settings, issuing: Issuing | None) -> Pruning | None:
    """Returns how the settings prune the log; None if they do not. Raises TokensOff if nobody signs where it begins."""
    if settings.audit_retention is None:
        return None
    if issuing is None:
        raise TokensOff("JIT_AUDIT_RETENTION needs JIT_TOKEN_ISSUER, whose keys sign the place where the log begins")
    return Pruning(retention=settings.audit_retention, archive=settings.audit_archive, issuing=issuing)


def bounds_of(store: Store, settings: Settings, issuing: Issuing | None) -> list[Bound]:
    """Returns what the settings have forgotten. Raises TokensOff as `pruning_by` does."""
    pruning = pruning_by(settings, issuing)
    # Notifications first: those that wait keep their records from being pruned.
    bounds = [_of_notifications(store, settings)]
    if settings.grant_retention is not None:
        bounds.append(_of_grants(store, settings.grant_retention))
    if settings.change_retention is not None:
        bounds.append(_of_changes(store, settings.change_retention))
    return bounds if pruning is None else [*bounds, _of_audit_log(store, pruning)]


class Retention(BackgroundThread):
    """Forgets what is due at every interval, a batch at a time, as long as this process has the lease of the task."""

    def __init__(self, store: Store, bounds: Sequence[Bound]) -> None:
        # Often enough for a short retention too.
        interval = min(_INTERVAL, *(bound.span / 10 for bound in bounds))
        super().__init__(name="retention", interval=interval, undone="what is too old is not forgotten")
        self._store = store
        self._bounds = bounds
        self._looked_at: dict[int, float] = {}
        self._lease = Lease(store, _TASK)

    def work(self) -> None:
        """Forgets all that is due, if no other process does."""
        for number, bound in enumerate(self._bounds):
            if time.monotonic() < self._looked_at.get(number, -inf) + bound.every.total_seconds():
                continue
            self._looked_at[number] = time.monotonic()
            while not self.stopping.is_set() and bound.is_due() and self._lease.is_held(span=_LEASE):
                if not self._forget(bound):
                    break
        drop_partitions(self._store)

    def _forget(self, bound: Bound) -> bool:
        try:
            forgotten = bound.forget()
        except LostRace:
            return False
        if forgotten:
            _log.info("%s", forgotten)
        return bool(forgotten)


def _of_notifications(store: Store, settings: Settings) -> Bound:
    span, receivers = settings.notification_retention, [receiver.name for receiver in settings.notifications]
    return Bound(
        span=span,
        is_due=partial(forgetting.is_due, store, span, receivers),
        forget=lambda: forgetting.said(forgetting.forget(store, span, receivers), receivers),
    )


def _of_grants(store: Store, span: timedelta) -> Bound:
    def forget() -> str:
        forgotten = grant_forgetting.forget_grants(store, span, ITSELF)
        return "" if forgotten is None else f"forgot {forgotten.count} grants that were over by {forgotten.until}"

    return Bound(span=span, is_due=partial(grant_forgetting.grants_due, store, span), forget=forget, every=_SELDOM)


def _of_changes(store: Store, span: timedelta) -> Bound:
    def forget() -> str:
        forgotten = grant_forgetting.forget_changes(store, span, ITSELF)
        return "" if forgotten is None else f"forgot {forgotten.count} changes of grants until {forgotten.until}"

    return Bound(span=span, is_due=partial(grant_forgetting.changes_due, store, span), forget=forget, every=_SELDOM)


def _of_audit_log(store: Store, pruning: Pruning) -> Bound:
    def forget() -> str:
        pruned = audit_pruning.prune_next(store, pruning, ITSELF, rest=_give_way)
        return "" if pruned is None else said(pruned)

    return Bound(
        span=pruning.retention,
        is_due=lambda: audit_pruning.due(store, pruning.retention) is not None,
        forget=forget,
    )


def drop_partitions(store: Store) -> None:
    """Drops the partitions of PostgreSQL in which all is pruned. Several processes may: one of them finds it done."""
    with store.snapshot() as snapshot:
        pruned = snapshot.pruned_partitions()
    for partition in store.audit_partitions.drop(pruned):
        _log.info("dropped the audit log's partition of the records %d to %d", partition.first, partition.end - 1)


def said(pruned: Range) -> str:
    """Returns what the log says of records that were pruned."""
    where = f"archived in {pruned.archive}" if pruned.archive else "not archived"
    return f"pruned the audit records {pruned.first_seq} to {pruned.last_seq} ({where})"


def _give_way() -> None:
    """Lets a thread that waits to run do so."""
    time.sleep(0)
