"""Use case of pruning the audit log: forget its oldest pieces, behind a signed checkpoint, once they are archived.

The order is: recompute the records, archive them, prune them with one commit. Whatever breaks it off, the next try goes
on: a file that was archived and not pruned is found again, and held against the log.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple

from jit_service.domain.audit.beginning import MAX_PIECES, Beginning, Leaving, PieceSpan, leaving, prunable
from jit_service.domain.audit.chain import link
from jit_service.domain.audit.checkpoint import Checkpoint
from jit_service.domain.audit.event import Event, EventType
from jit_service.domain.caller import Caller
from jit_service.domain.errors import StoreUnavailable
from jit_service.domain.policies.policy import seconds
from jit_service.domain.tokens.signing_key import SigningKey
from jit_service.storage import Snapshot, Store
from jit_service.storage.rows import event_of
from jit_service.use_cases import audit_archive, checkpoints
from jit_service.use_cases.checkpoints import IssuedCheckpoint
from jit_service.use_cases.signing_keys import Issuing, signing_key
from jitaccess.jose.archives import Manifest
from jitaccess.naming import rfc3339

ARCHIVE_FROM: Final = "archived_from"
"""The claim of a checkpoint that says from which record on the records up to it are archived without a gap."""


@dataclass(frozen=True, kw_only=True)
class Pruning:
    """How long records are kept, where they are archived before they are pruned (None: nowhere), and who signs."""

    retention: timedelta
    archive: Path | None
    issuing: Issuing


class Range(NamedTuple):
    """Records that were pruned, or would be: so many, from the first to the last. `archive` is their file, or empty."""

    first_seq: int
    last_seq: int
    last_at: datetime
    archive: str = ""


@dataclass(frozen=True, kw_only=True)
class _Due:
    """What may be pruned: the records after `since`, with the ends of their pieces (seq, hash in hex).

    Those up to `until` are pruned, unless an archive goes further. Pieces up to `left_until` stay until their partition
    is dropped.
    """

    since: Beginning
    ends: tuple[tuple[int, str], ...]
    last_at: tuple[datetime, ...]
    until: int
    left_until: int
    key: SigningKey
    now: datetime

    def last_at_until(self, seq: int) -> datetime:
        """Returns the latest instant of the pieces up to the seq."""
        return max(at for (end, _), at in zip(self.ends, self.last_at, strict=True) if end <= seq)


def due(store: Store, retention: timedelta) -> Range | None:
    """Returns what would be pruned next; None if nothing is due."""
    with store.snapshot() as snapshot:
        spans, until, _ = _spans_due(snapshot, retention)
        spans = [span for span in spans if span.seq <= until]
        if not spans:
            return None
        return Range(snapshot.log_beginning.seq + 1, spans[-1].seq, max(span.last_at for span in spans))


def prune_next(store: Store, pruning: Pruning, by: Caller, *, rest: Callable[[], None] = lambda: None) -> Range | None:
    """Prunes the next records that are due, some 65,000 at most. Returns which; None if nothing is due.

    Nothing is pruned if it raises: StoreUnavailable for records that are not as they were recorded, KeysUnavailable,
    OSError for an archive that cannot be written. `rest` is called between steps.
    """
    found = _due(store, pruning.retention)
    if found is None:
        return None
    manifest = None
    if pruning.archive is not None:
        since = found.since
        manifest = audit_archive.archived_after(pruning.archive, since.seq, since.hash, dict(found.ends))
        if manifest is not None and manifest.last_seq not in dict(found.ends):
            # What was archived once is pruned as a whole, so that no record is in two files.
            return None
    last = manifest.last_seq if manifest is not None else found.until
    records = _recomputed(store, found, until=last, rest=rest)
    signed = _signed(pruning, found, last, archives=pruning.archive is not None)
    if pruning.archive is not None and manifest is None:
        manifest = _archive(pruning.archive, found, records, signed, pruning.issuing.issuer)
    return _prune(store, pruning, found, signed, manifest, by)


def _spans_due(snapshot: Snapshot, retention: timedelta) -> tuple[list[PieceSpan], int, int]:
    """Returns the pieces that are due, up to which seq they are pruned next, and up to which they are left for a drop.

    Pieces of a partition that is dropped as a whole are not pruned together with others, which are deleted.
    """
    oldest = snapshot.oldest_pieces(MAX_PIECES)
    waiting = snapshot.first_notification_seq()
    due = prunable(oldest, now=snapshot.now, retention=retention, waiting=waiting)
    until, left_until = (due[-1] if due else 0), 0
    for seq in due:
        if seq <= left_until:
            continue
        last = snapshot.last_piece_beside(seq)
        how = leaving(last, now=snapshot.now, retention=retention, waiting=waiting)
        if last is not None and how is Leaving.WHOLE:
            left_until = last.seq
            continue
        if left_until or how is Leaving.SOON:
            until = left_until
        break
    return oldest[: len(due)] if until else [], until, left_until


def _due(store: Store, retention: timedelta) -> _Due | None:
    with store.snapshot() as snapshot:
        spans, until, left_until = _spans_due(snapshot, retention)
        if not spans:
            return None
        ends = [(span.seq, (snapshot.record_hash(span.seq) or b"").hex()) for span in spans]
        return _Due(
            since=snapshot.log_beginning,
            ends=tuple(ends),
            last_at=tuple(span.last_at for span in spans),
            until=until,
            left_until=left_until,
            key=signing_key(snapshot),
            now=snapshot.now,
        )


def _recomputed(store: Store, found: _Due, *, until: int, rest: Callable[[], None]) -> list[bytes]:
    """Returns the records up to the seq. Raises StoreUnavailable unless they are what was hashed."""
    seq, hash_ = found.since.seq, bytes.fromhex(found.since.hash)
    records: list[bytes] = []
    while seq < until:
        with store.snapshot() as snapshot:
            block = next(iter(snapshot.blocks(after=seq, until=until)), None)
        fault = (seq + 1, f"record {seq + 1} is missing") if block is None or block.first != seq + 1 else None
        fault = fault or (block.first_fault(hash_) if block is not None else None)
        if fault is not None or block is None:
            raise StoreUnavailable(f"{fault[1] if fault else ''}; nothing is pruned before `jit audit verify` is valid")
        records += block.payloads
        seq, hash_ = block.last, block.hash
        rest()
    return records


def _signed(pruning: Pruning, found: _Due, last: int, *, archives: bool) -> IssuedCheckpoint:
    hash_ = dict(found.ends)[last]
    checkpoint = Checkpoint(event_count=last, head_hash=bytes.fromhex(hash_))
    begin = found.since.archived_from or found.since.seq + 1
    claims = {ARCHIVE_FROM: begin if archives else 0}
    return checkpoints.sign(pruning.issuing, found.key, checkpoint, at=found.now, **claims)


def _archive(directory: Path, found: _Due, records: list[bytes], signed: IssuedCheckpoint, signer: str) -> Manifest:
    first = found.since.seq + 1
    name, sha256 = audit_archive.write_records(directory, first, records)
    manifest = Manifest(
        file=name,
        sha256=sha256,
        first_seq=first,
        last_seq=signed.checkpoint.event_count,
        count=len(records),
        previous_hash=found.since.hash,
        first_hash=link(bytes.fromhex(found.since.hash), first, records[0]).hex(),
        last_hash=signed.checkpoint.head_hash.hex(),
        first_time=rfc3339.exact(event_of(records[0]).at),
        last_time=rfc3339.exact(found.last_at_until(signed.checkpoint.event_count)),
        signer=signer,
        checkpoint=signed.text,
        public_key=signed.public_key,
    )
    audit_archive.write_manifest(directory, manifest)
    return manifest


def _prune(
    store: Store,
    pruning: Pruning,
    found: _Due,
    signed: IssuedCheckpoint,
    manifest: Manifest | None,
    by: Caller,
) -> Range:
    last = signed.checkpoint.event_count
    last_at = found.last_at_until(last)
    with store.transaction() as tx:
        beginning = Beginning(
            seq=last,
            hash=signed.checkpoint.head_hash.hex(),
            first_seq=found.since.seq + 1,
            last_at=max(last_at, found.since.last_at),
            pruned_at=tx.now,
            checkpoint=signed.text if manifest is None else manifest.checkpoint,
            public_key=signed.public_key if manifest is None else manifest.public_key,
            archive="" if manifest is None else manifest.file,
            sha256="" if manifest is None else manifest.sha256,
            archived_from=(found.since.archived_from or found.since.seq + 1) if manifest is not None else 0,
        )
        event = _event(beginning, pruning, by, at=tx.now)
        tx.prune_audit(beginning, event, since=found.since, left_until=found.left_until)
    return Range(beginning.first_seq, beginning.seq, beginning.last_at, beginning.archive)


def _event(beginning: Beginning, pruning: Pruning, by: Caller, *, at: datetime) -> Event:
    kept = f"archived in {beginning.archive}, SHA-256 {beginning.sha256}" if beginning.archive else "not archived"
    message = (
        f"records {beginning.first_seq} to {beginning.seq}, hash {beginning.hash}, {kept}; "
        f"JIT_AUDIT_RETENTION is {seconds(pruning.retention)}"
    )
    return Event(type=EventType.AUDIT_PRUNED, at=at, principal=by.principal, origin=by.origin, message=message)
