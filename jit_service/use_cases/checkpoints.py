"""Use cases of checkpoints: sign what the audit log is, and hold the log against what it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from jit_service.domain.audit.checkpoint import Checkpoint
from jit_service.domain.errors import InvalidField
from jit_service.domain.tokens.signing_key import SigningKey
from jit_service.storage import Snapshot, Store
from jit_service.use_cases import audit
from jit_service.use_cases.audit import LogVerification, Progress, Verifying
from jit_service.use_cases.long_work import followed
from jit_service.use_cases.signing_keys import Issuing, demand_issuing, signing_key
from jitaccess.jose.checkpoints import TYPE, SignedCheckpoint, read_checkpoint
from jitaccess.jose.keys import GivenKeys
from jitaccess.jose.refusal import TokenRefused


class SignatureState(StrEnum):
    """What is known of a checkpoint's signature."""

    VERIFIED = "VERIFIED"
    KEY_UNKNOWN = "KEY_UNKNOWN"


@dataclass(frozen=True, kw_only=True)
class IssuedCheckpoint:
    """A checkpoint, signed: its text, and the public key that verifies it as a JWK. `at` is in whole seconds."""

    checkpoint: Checkpoint
    at: datetime
    text: str
    public_key: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class VerifyResult:
    """What the chain says. `signature` is None where there was no checkpoint to hold it against."""

    verified: LogVerification
    signature: SignatureState | None = None


@dataclass(frozen=True, kw_only=True)
class VerifyProgress:
    """How far a verification is. Only the last one has the result."""

    at: Progress
    result: VerifyResult | None = None


def make(store: Store, maybe_issuing: Issuing | None) -> IssuedCheckpoint:
    """Signs what the log is now. Raises TokensOff, KeysUnavailable."""
    issuing = demand_issuing(maybe_issuing)
    with store.snapshot() as snapshot:
        key, at = signing_key(snapshot), snapshot.now
        checkpoint = Checkpoint(event_count=snapshot.seq, head_hash=snapshot.head_hash)
    return sign(issuing, key, checkpoint, at=at)


def sign(issuing: Issuing, key: SigningKey, checkpoint: Checkpoint, *, at: datetime, **more: Any) -> IssuedCheckpoint:
    """Signs a checkpoint, with `more` claims in it. Raises KeysUnavailable."""
    at = at.replace(microsecond=0)
    claims = {
        "iss": issuing.issuer,
        "iat": int(at.timestamp()),
        "event_count": checkpoint.event_count,
        "head_hash": checkpoint.head_hash.hex(),
        **more,
    }
    text = issuing.ring.sign(key, claims, typ=TYPE)
    return IssuedCheckpoint(checkpoint=checkpoint, at=at, text=text, public_key=issuing.ring.public(key))


def verify(store: Store, maybe_issuing: Issuing | None, text: str) -> VerifyResult:
    """Recomputes the whole chain, and holds it against the checkpoint, unless the text is empty.

    Raises InvalidField for what is no checkpoint of this service; RecordsPruned for one of before the log begins;
    TokensOff, KeysUnavailable where it cannot tell.
    """
    if not text:
        return VerifyResult(verified=audit.verify(store))
    since, signature = _checkpoint(store, maybe_issuing, text)
    return VerifyResult(verified=audit.verify(store, since=since), signature=signature)


def stream_verification(
    store: Store, maybe_issuing: Issuing | None, text: str, *, only_new: bool, gone: Callable[[], bool]
) -> Iterator[VerifyProgress]:
    """Returns how far it is, as it verifies as `verify` does, until `gone`; the last one has the result.

    The first one comes at once, then one each half second. With `only_new` it recomputes only what came after the
    checkpoint. Raises what `verify` raises, before anything is recomputed.
    """
    if only_new and not text:
        raise InvalidField("only_new", "needs a checkpoint: new is what came after it")
    if not text:
        return _told(audit.verification(store), None, gone)
    since, signature = _checkpoint(store, maybe_issuing, text)
    steps = audit.verification_of_new(store, since=since) if only_new else audit.verification(store, since=since)
    return _told(steps, signature, gone)


def _told(steps: Verifying, signature: SignatureState | None, gone: Callable[[], bool]) -> Iterator[VerifyProgress]:
    for at, verified in followed(steps, gone=gone):
        result = VerifyResult(verified=verified, signature=signature) if verified is not None else None
        yield VerifyProgress(at=at, result=result)


def _checkpoint(store: Store, maybe_issuing: Issuing | None, text: str) -> tuple[Checkpoint, SignatureState]:
    with store.snapshot() as snapshot:
        read = _read(snapshot, demand_issuing(maybe_issuing), text)
        since = Checkpoint(event_count=read.event_count, head_hash=bytes.fromhex(read.head_hash))
        audit.demand_kept(snapshot, since)
        # The key of a beginning may be gone; the beginning itself is sealed.
        is_known = read.is_verified or any(text == beginning.checkpoint for beginning in snapshot.log_beginnings())
    return since, SignatureState.VERIFIED if is_known else SignatureState.KEY_UNKNOWN


def _read(snapshot: Snapshot, issuing: Issuing, text: str) -> SignedCheckpoint:
    keys = GivenKeys({"keys": [issuing.ring.public(key) for key in snapshot.signing_keys()]})
    try:
        return read_checkpoint(text, keys, issuer=issuing.issuer)
    except TokenRefused as fault:
        raise InvalidField("checkpoint", str(fault)) from None
