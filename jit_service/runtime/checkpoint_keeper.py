"""Makes signed checkpoints of the audit log by itself, and keeps them elsewhere, so that a rewrite is found later."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from jit_service.background import BackgroundThread
from jit_service.configuration import durable_file
from jit_service.domain.audit.checkpoint import Checkpoint, fault_in
from jit_service.domain.errors import StoreUnavailable, TokensOff
from jit_service.notifications.checkpoint_post import CheckpointPost
from jit_service.runtime.lease import Lease
from jit_service.settings import Settings
from jit_service.storage import Snapshot, Store
from jit_service.use_cases import checkpoints
from jit_service.use_cases.checkpoints import IssuedCheckpoint
from jit_service.use_cases.signing_keys import Issuing
from jitaccess.jose.jws import BadToken, decoded
from jitaccess.naming import rfc3339

TO_LOG: Final = "log"
_TASK: Final = "checkpoints"
_INTERVAL: Final = timedelta(seconds=10)
_LEASE: Final = (timedelta(minutes=1), timedelta(minutes=50))
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Checkpointing:
    """When checkpoints are made, where they go, and who signs them."""

    to: str
    records: int | None
    interval: timedelta | None
    allow_private: bool
    issuing: Issuing


@dataclass(frozen=True)
class _Made:
    checkpoint: Checkpoint
    at: datetime


def checkpointing_by(settings: Settings, issuing: Issuing | None) -> Checkpointing | None:
    """Returns how the settings have checkpoints made; None if they do not. Raises TokensOff if nobody signs them."""
    if not settings.checkpoint_to:
        return None
    if issuing is None:
        raise TokensOff("JIT_CHECKPOINT_TO needs JIT_TOKEN_ISSUER, whose keys sign the checkpoints")
    return Checkpointing(
        to=settings.checkpoint_to,
        records=settings.checkpoint_records,
        interval=settings.checkpoint_interval,
        allow_private=settings.checkpoint_allow_private,
        issuing=issuing,
    )


class CheckpointKeeper(BackgroundThread):
    """Makes a checkpoint when one is due, if this process has the lease; before it holds the log against the last."""

    def __init__(self, store: Store, how: Checkpointing) -> None:
        spans = [_INTERVAL, how.interval or _INTERVAL]
        super().__init__(name="checkpoints", interval=min(spans), undone="no checkpoint of the audit log is made")
        self._store = store
        self._how = how
        self._lease = Lease(store, _TASK)
        self._post = CheckpointPost(how.to, allow_private=how.allow_private) if "://" in how.to else None
        self._directory = Path(how.to) if self._post is None and how.to != TO_LOG else None
        self._made: _Made | None = None

    def work(self) -> None:
        """Makes what is due. Raises StoreUnavailable for a log that was cut or rewritten, OSError."""
        last = self._made if self._directory is None else newest_in(self._directory)
        with self._store.snapshot() as snapshot:
            if last is not None:
                _demand_continued(snapshot, last.checkpoint)
            if not self._is_due(snapshot, last):
                return
        span = max(_LEASE[0], min(2 * (self._how.interval or _LEASE[0]), _LEASE[1]))
        if self._lease.is_held(span=span):
            made = checkpoints.make(self._store, self._how.issuing)
            self._keep(made)
            self._made = _Made(made.checkpoint, made.at)

    def interrupt(self) -> None:
        """Breaks off what is being posted."""
        if self._post is not None:
            self._post.interrupt()

    def _is_due(self, snapshot: Snapshot, last: _Made | None) -> bool:
        if last is None or snapshot.seq == last.checkpoint.event_count:
            return last is None and snapshot.seq > 0
        how, came = self._how, snapshot.seq - last.checkpoint.event_count
        by_count = how.records is not None and came >= how.records
        return by_count or (how.interval is not None and snapshot.now - last.at >= how.interval)

    def _keep(self, made: IssuedCheckpoint) -> None:
        content = json.dumps(_facts(made)).encode() + b"\n"
        if self._directory is not None:
            name = f"checkpoint-{made.checkpoint.event_count:012}-{made.at:%Y%m%dT%H%M%SZ}.json"
            durable_file.write(self._directory / name, content)
        elif self._post is None:
            _log.info("checkpoint of the audit log: %s", content.decode().strip())
        elif fault := self._post.send(content, at=made.at):
            raise OSError(f"the checkpoint was not posted: {fault}")


def newest_in(directory: Path) -> _Made | None:
    """Returns the newest checkpoint in the directory. Raises OSError, StoreUnavailable for a file that is none."""
    names = sorted(name for name in os.listdir(directory) if name.startswith("checkpoint-") and name.endswith(".json"))
    if not names:
        return None
    try:
        claims = decoded(json.loads((directory / names[-1]).read_bytes())["checkpoint"])[1]
        checkpoint = Checkpoint(event_count=int(claims["event_count"]), head_hash=bytes.fromhex(claims["head_hash"]))
        return _Made(checkpoint, datetime.fromtimestamp(int(claims["iat"]), UTC))
    except (BadToken, ValueError, KeyError, TypeError) as fault:
        raise StoreUnavailable(f"{directory / names[-1]} is no checkpoint; find out why, and move it away") from fault


def _demand_continued(snapshot: Snapshot, last: Checkpoint) -> None:
    """Raises StoreUnavailable unless the log goes on from the checkpoint, or was pruned beyond it."""
    there = snapshot.record_hash(last.event_count)
    if there is None and snapshot.log_beginning.seq > last.event_count:
        return
    if fault := fault_in(snapshot.seq, there, since=last):
        raise StoreUnavailable(
            f"THE AUDIT LOG WAS CUT OR REWRITTEN: {fault.problem}; run `jit audit verify --checkpoint`, and after a "
            "restore move the checkpoints of the lost history away"
        )


def _facts(made: IssuedCheckpoint) -> dict[str, Any]:
    """Returns what `jit audit checkpoint -o json` prints."""
    return {
        "eventCount": str(made.checkpoint.event_count),
        "headHash": made.checkpoint.head_hash.hex(),
        "checkpointTime": rfc3339.exact(made.at),
        "checkpoint": made.text,
        "publicKey": made.public_key,
    }
