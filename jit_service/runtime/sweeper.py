"""Records expiries and rotates signing keys in the background. No answer waits for it (invariant I12)."""

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
from jit_service.storage import Store, Transaction
from jit_service.use_cases import signing_keys
from jit_service.use_cases.signing_keys import Issuing

BATCH = 500
KEPT: Final = timedelta(hours=24)
"""How long a repeated request_id gets the same answer (AIP-155), unless JIT_REPLAY_RETENTION says otherwise."""
_ITSELF: Final = Caller(principal=SERVICE)
# Checkpoint the WAL every 5 s, or after 5,000 records. It stalls writers, so no more often.
_CHECKPOINT_SECONDS: Final = 5
_CHECKPOINT_RECORDS: Final = 5_000


def record_run_out(store: Store) -> int:
    """Records once each grant, extension, proposal, review and lock that has run out, what ends soon or has escalated,
    and ends live children of ended grants.

    Returns how many of one kind, up to BATCH.
    """
    with store.snapshot() as snapshot:
        finders: Sequence[Callable[..., Sequence[object]]] = (
            snapshot.run_out,
            snapshot.lapsed_extensions,
            snapshot.lapsed_proposals,
            snapshot.overdue_reviews,
            snapshot.expired_locks,
            snapshot.live_orphans,
            snapshot.ending_soon,
            snapshot.escalated_requests,
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
            # The call that ended the parent did not end all its children.
            tx.save_grant(*rules.revoke_with_parent(child, parent=parent, by=_ITSELF, now=tx.now))
        counts = _record_coming(tx)
        found: Sequence[Sequence[object]] = (grants, extensions, proposals, unreviewed, locks, orphans)
        return max(*map(len, found), *counts)


def _record_coming(tx: Transaction) -> tuple[int, int]:
    """Records, once for each end and each step, what ends soon and what has escalated. Returns how many there were."""
    ending = tx.ending_soon(limit=BATCH)
    for grant in ending:
        tx.record_ending_soon(grant)
    escalated = tx.escalated_requests(limit=BATCH)
    for grant in escalated:
        tx.record_escalated(grant)
    return len(ending), len(escalated)


def forget_replays(store: Store, kept: timedelta = KEPT) -> bool:
    """Deletes stored answers to request_ids that are older than `kept`, up to BATCH. Returns whether there were any."""
    with store.snapshot() as snapshot:
        before = snapshot.now - kept
        if not snapshot.has_old_replays(before=before):
            return False
    with store.transaction() as tx:
        tx.forget_old_replays(before=before, limit=BATCH)
    return True


def tend_tokens(store: Store, issuing: Issuing) -> None:
    """Rotates the signing keys, and deletes denials of tokens that have expired."""
    signing_keys.maintain(store, issuing)
    with store.snapshot() as snapshot:
        if not snapshot.has_old_denials():
            return
    with store.transaction() as tx:
        tx.forget_old_denials()


class Sweeper(BackgroundThread):
    """Calls `record_run_out`, and `tend_tokens` if the service issues tokens; checkpoints the database's WAL."""

    def __init__(
        self, store: Store, *, interval: timedelta, issuing: Issuing | None = None, replays: timedelta = KEPT
    ) -> None:
        """`replays` is how long a repeated request_id gets the same answer."""
        super().__init__(name="sweeper", interval=interval, undone="expiries are not recorded")
        self._store = store
        self._issuing = issuing
        self._replays = replays
        self._seq = 0
        self._checkpoint_at = -float("inf")

    def work(self) -> None:
        """Does all work that is due."""
        while record_run_out(self._store) == BATCH and not self.stopping.is_set():
            pass
        while forget_replays(self._store, self._replays) and not self.stopping.is_set():
            pass
        if self._issuing is not None:
            tend_tokens(self._store, self._issuing)
        self._checkpoint()

    def _checkpoint(self) -> None:
        with self._store.snapshot() as snapshot:
            came, self._seq = snapshot.seq - self._seq, snapshot.seq
        if came > _CHECKPOINT_RECORDS or time.monotonic() >= self._checkpoint_at + _CHECKPOINT_SECONDS:
            self._store.checkpoint_wal()
            self._checkpoint_at = time.monotonic()
