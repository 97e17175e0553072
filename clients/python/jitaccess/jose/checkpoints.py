"""Checkpoints of the audit log, verified without asking the service. Needs `jitaccess[tokens]`.

    from jitaccess import verify_checkpoint

    was = verify_checkpoint(kept["checkpoint"], kept["publicKey"], issuer="https://jit.example.com")

A checkpoint says what the log held when it was made. VerifyAuditLog says whether the log still holds it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from jitaccess._error import Misconfigured
from jitaccess.jose import jws
from jitaccess.jose.jws import BadSignature, BadToken
from jitaccess.jose.keys import GivenKeys, KeySource
from jitaccess.jose.refusal import TokenReason, TokenRefused
from jitaccess.jose.tokens import ALGORITHM, key_of

TYPE: Final = "audit-checkpoint+jwt"
_HASH: Final = re.compile(r"[0-9a-f]{64}")
_MAX_COUNT: Final = 2**63 - 1


@dataclass(frozen=True, kw_only=True)
class SignedCheckpoint:
    """The content of a checkpoint: the number of events, and the hash of the last one, in hex.

    `is_verified` is False if the signing key was not among the known keys; then anybody may have made the checkpoint.
    """

    issuer: str
    issue_time: datetime
    event_count: int
    head_hash: str
    is_verified: bool


def verify_checkpoint(checkpoint: str, public_key: Mapping[str, object], *, issuer: str) -> SignedCheckpoint:
    """Returns the content of a checkpoint that the issuer signed with this key, a JWK.

    Raises TokenRefused with a `reason` of `TokenReason`, and Misconfigured if the key is not a JWK.
    """
    keys = GivenKeys({"keys": [dict(public_key)]})
    kid = public_key.get("kid")
    if not isinstance(kid, str) or keys.key(kid) is None:
        raise Misconfigured("the public key is not a JWK with a kid, for signatures")
    read = read_checkpoint(checkpoint, keys, issuer=issuer)
    if not read.is_verified:
        raise TokenRefused("the checkpoint's kid is not that of the key", reason=TokenReason.UNKNOWN_KEY)
    return read


def read_checkpoint(checkpoint: str, keys: KeySource, *, issuer: str) -> SignedCheckpoint:
    """Returns the content of a checkpoint of the issuer, verified if one of the keys signed it.

    Raises TokenRefused for text that is no checkpoint, for one of another issuer, and for a wrong signature.
    """
    try:
        header, payload = jws.decoded(checkpoint)
        key = _known_key(header, keys)
        if key is not None:
            jws.check_signature(checkpoint, key, ALGORITHM)
        return _signed(payload, issuer, is_verified=key is not None)
    except BadSignature as fault:
        raise TokenRefused(_of_checkpoint(fault), reason=TokenReason.BAD_SIGNATURE) from None
    except BadToken as fault:
        raise TokenRefused(_of_checkpoint(fault), reason=TokenReason.MALFORMED) from None


def _known_key(header: dict[str, Any], keys: KeySource) -> Any:
    try:
        return key_of(header, keys, typ=TYPE)
    except TokenRefused as fault:
        if fault.reason == TokenReason.UNKNOWN_KEY:
            return None
        raise TokenRefused(_of_checkpoint(fault), reason=fault.reason) from None


def _signed(payload: dict[str, Any], issuer: str, *, is_verified: bool) -> SignedCheckpoint:
    if not issuer or payload.get("iss") != issuer:
        raise TokenRefused("the checkpoint's iss is not the issuer", reason=TokenReason.WRONG_ISSUER)
    count, head = payload.get("event_count"), payload.get("head_hash")
    if isinstance(count, bool) or not isinstance(count, int) or not 0 < count <= _MAX_COUNT:
        raise BadToken("the token's event_count is missing or not a number of events")
    if not isinstance(head, str) or not _HASH.fullmatch(head):
        raise BadToken("the token's head_hash is missing or not 64 hexadecimal digits")
    return SignedCheckpoint(
        issuer=issuer,
        issue_time=datetime.fromtimestamp(jws.instant(payload, "iat"), UTC),
        event_count=count,
        head_hash=head,
        is_verified=is_verified,
    )


def _of_checkpoint(fault: Exception) -> str:
    return str(fault).replace("the token", "the checkpoint")
