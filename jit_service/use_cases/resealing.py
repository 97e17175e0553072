"""Seals the whole store with the newest sealing key, once everything in it is verified."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import NamedTuple

from jit_service.domain.audit.checkpoint import Fault
from jit_service.domain.audit.event import Event, EventType
from jit_service.domain.caller import Caller
from jit_service.domain.errors import StoreUnavailable
from jit_service.storage import Snapshot, Store
from jit_service.storage.readers.audit import Recomputed
from jit_service.storage.readers.resealing import SealSums
from jit_service.use_cases import audit
from jit_service.use_cases.audit import Progress
from jit_service.use_cases.keyring import KeyRing

Report = Callable[[str, int, int], None]
"""Called with what is done, and how much of how much is done."""


class Resealed(NamedTuple):
    """The ids of the key that sealed the store until now and of the one that does now, and how many rows there are.

    The ids are the same where nothing was to do.
    """

    before: str
    now: str
    rows: int


def reseal(store: Store, *, by: Caller, report: Report) -> Resealed:
    """Seals all rows, their sums, the head, the pieces of the audit log and the signing keys with the newest key.

    In one transaction: whoever reads sees all of it sealed with the one key or with the other. Raises StoreUnavailable,
    and changes nothing, for the first record or row that is not as the service left it.
    """
    new = store.keys.first
    examined, so_far = _examined(store, report)
    if examined.before == new.key_id:
        return examined
    with store.resealing() as tx, tx.kept_open():
        if tx.sealing_key != examined.before:
            raise StoreUnavailable(f"somebody else has sealed the store anew meanwhile, with key {tx.sealing_key}")
        tx.lock_pieces()
        _demand_none(audit.fault_in_rest(tx, so_far), report)
        ring = KeyRing(store.keys)
        signing_keys = [ring.sealed_anew(key, under=new.key_id) for key in tx.signing_keys()]
        count = tx.seal_anew(new, so_far, signing_keys, report=lambda done: report("sealing rows", done, examined.rows))
        done = Resealed(examined.before, new.key_id, count)
        tx.record_resealed(_event(done, by=by, at=tx))
    # Whoever looks sees the new key in effect, and accepts the old one no more: so this host notes it at once.
    store.head()
    return done


def examine(store: Store, *, report: Report) -> Resealed:
    """Verifies all that `reseal` would, and says what it would do; writes nothing. Raises StoreUnavailable."""
    return _examined(store, report)[0]


def _examined(store: Store, report: Report) -> tuple[Resealed, Recomputed]:
    """Finds what is wrong before anybody has to wait for it. The recomputed log is that of the examined state."""
    new, so_far = store.keys.first, Recomputed()
    with store.snapshot() as snapshot:
        if snapshot.sealing_key == new.key_id:
            return Resealed(new.key_id, new.key_id, 0), so_far
    _demand_none(audit.fault_before_rest(store, so_far), report)
    with store.long_snapshot() as snapshot:
        _demand_none(audit.fault_in_rest(snapshot, so_far), report)
        if new.key_id in so_far.sealing_keys:
            raise StoreUnavailable(
                f"key {new.key_id} has sealed this store before, so that whoever kept rows of that time could put them "
                "back; make another key"
            )
        ring = KeyRing(store.keys)
        for key in snapshot.signing_keys():
            ring.public(key)
        count, total = 0, snapshot.count_sealed()
        for seals in snapshot.sealed_anew(new, so_far, SealSums()):
            count += len(seals.found)
            report("holding rows against their seals", count, total)
        return Resealed(snapshot.sealing_key, new.key_id, count), so_far


def _demand_none(recomputing: Generator[Progress, None, Fault | None], report: Report) -> None:
    """Raises StoreUnavailable for what is wrong with the log."""
    while True:
        try:
            at = next(recomputing)
        except StopIteration as done:
            if done.value is not None:
                raise StoreUnavailable(
                    f"the audit log is not valid at record {done.value.seq}: {done.value.problem}"
                ) from None
            return
        report("verifying the audit log", at.checked_count, at.event_count)


def _event(done: Resealed, *, by: Caller, at: Snapshot) -> Event:
    return Event(
        type=EventType.STORE_RESEALED,
        at=at.now,
        principal=by.principal,
        origin=by.origin,
        message=f"{done.rows} rows are sealed with key {done.now} instead of {done.before}",
        sealing_key=done.now,
        replaced_key=done.before,
    )
