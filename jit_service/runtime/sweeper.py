"""Records that grants have run out, and rotates signing keys. No answer waits for it (invariant I12)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Final

from jit_service.background import BackgroundThread
from jit_service.domain.audit.event import SERVICE
from jit_service.domain.caller import Caller
from jit_service.domain.grants import approval, break_glass, lock
from jit_service.domain.grants import grant as rules
from jit_service.domain.policies.proposal import lapse_event
from jit_service.storage import Store
from jit_service.use_cases import signing_keys
from jit_service.use_cases.signing_keys import Issuing

BATCH = 500
KEPT: Final = timedelta(hours=24)
"""How long the same request_id has the same answer (AIP-155)."""
_ITSELF: Final = Caller(principal=SERVICE)
# The log is copied so often at least, since each time holds up those who commit meanwhile, and whenever so many came.
_COPY_SECONDS: Final = 5
_VERY_MANY: Final = 5_000


def record_run_out(store: Store) -> int:
    """Records what ran out, once each: grants, requests for more time, proposals, reviews, locks; and ends what came
    from grants that have ended, where nobody has yet.

    Returns how many, up to a batch.
    """
    with store.snapshot() as snapshot:
        finders: Sequence[Callable[..., Sequence[object]]] = (
            snapshot.run_out,
            snapshot.lapsed_extensions,
            snapshot.lapsed_proposals,
            snapshot.overdue_reviews,
            snapshot.expired_locks,
            snapshot.live_orphans,
        )
        if not any(find(limit=1) for find in finders):
            return 0
    with store.transaction() as tx:
        extensions = tx.lapsed_extensions(limit=BATCH)
        for grant in extensions:
            tx.save_grant(*approval.lapse_extension(grant, now=tx.now))
        grants = tx.run_out(limit=BATCH)
        for grant in grants:
            tx.record_run_out(grant, rules.run_out_event(grant, now=tx.now))
        proposals = tx.lapsed_proposals(limit=BATCH)
        for proposal in proposals:
            tx.record_lapse(proposal, lapse_event(proposal, now=tx.now))
        unreviewed = tx.overdue_reviews(limit=BATCH)
        for grant in unreviewed:
            tx.record_overdue(grant, break_glass.review_overdue_event(grant, now=tx.now))
        locks = tx.expired_locks(limit=BATCH)
        for over in locks:
            tx.record_lock_over(over, lock.expiry_event(over, now=tx.now))
        orphans = tx.live_orphans(limit=BATCH)
        for child, parent in orphans:
            # Whoever ended the parent was cut short.
            tx.save_grant(*rules.revoke_with_parent(child, parent=parent, by=_ITSELF, now=tx.now))
        return max(len(grants), len(extensions), len(proposals), len(unreviewed), len(locks), len(orphans))


def forget_replays(store: Store) -> bool:
    """Forgets answers to request_ids that are older than KEPT, up to a batch. Returns whether there were any."""
    with store.snapshot() as snapshot:
        before = snapshot.now - KEPT
        if not snapshot.has_old_replays(before=before):
            return False
    with store.transaction() as tx:
        tx.forget_old_replays(before=before, limit=BATCH)
    return True


def tend_tokens(store: Store, issuing: Issuing) -> None:
    """Rotates the signing keys, and forgets denials of tokens that are over."""
    signing_keys.maintain(store, issuing)
    with store.snapshot() as snapshot:
        if not snapshot.has_old_denials():
            return
    with store.transaction() as tx:
        tx.forget_old_denials()


class Sweeper(BackgroundThread):
    """Calls `record_run_out`, and `tend_tokens` where tokens are issued; copies the database's log."""

    def __init__(self, store: Store, *, interval: timedelta, issuing: Issuing | None = None) -> None:
        super().__init__(name="sweeper", interval=interval, undone="expiries are not recorded")
        self._store = store
        self._issuing = issuing
        self._seq = 0
        self._copied_at = -float("inf")

    def work(self) -> None:
        """Does what is due."""
        while record_run_out(self._store) == BATCH and not self.stopping.is_set():
            pass
        while forget_replays(self._store) and not self.stopping.is_set():
            pass
        if self._issuing is not None:
            tend_tokens(self._store, self._issuing)
        self._copy_log()

    def _copy_log(self) -> None:
        with self._store.snapshot() as snapshot:
            came, self._seq = snapshot.seq - self._seq, snapshot.seq
        if came > _VERY_MANY or time.monotonic() >= self._copied_at + _COPY_SECONDS:
            self._store.checkpoint_wal()
            self._copied_at = time.monotonic()
