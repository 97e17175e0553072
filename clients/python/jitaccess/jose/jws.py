"""Signed tokens (RFC 7515, RFC 8725), read so strictly that a token has one spelling only.

The service reads the tokens of its callers by this, and `jitaccess.jose.tokens` those of grants.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from typing import Any, Final

from jitaccess.extras import needed_for

with needed_for("verifying a token", "jitaccess[tokens]"):
    import jwt

MAX_TOKEN: Final = 8192
_MAX_INSTANT: Final = 253_402_300_799
_CLAIMS: Final = ("exp", "nbf", "iat", "aud", "iss", "sub", "jti")


class BadToken(ValueError):
    """A token that is malformed or forged; no message holds any part of it."""


class BadSignature(BadToken):
    """A token whose signature does not verify with the key."""


def decoded(token: str, *, limit: int = MAX_TOKEN) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns header and payload, not yet verified. Raises BadToken, also for a second spelling of the same token."""
    if not token or len(token) > limit:
        raise BadToken(f"the token is empty or longer than {limit} characters")
    parts = token.split(".")
    if len(parts) != 3 or not all(parts):
        raise BadToken("the token is not three parts; it must be a signed JWT")
    contents = [_canonical(part) for part in parts]
    return _object(contents[0]), _object(contents[1])


def check_signature(token: str, key: jwt.PyJWK, algorithm: str) -> None:
    """Raises BadSignature unless the key made the signature. It looks at no claim and no time."""
    # The callers judge claims and times, by their own clock and more strictly than PyJWT.
    options = {"verify_signature": True, "require": []} | {f"verify_{claim}": False for claim in _CLAIMS}
    try:
        jwt.decode(token, key.key, algorithms=[algorithm], options=options)  # type: ignore[arg-type]
    except (jwt.PyJWTError, ValueError, TypeError):
        raise BadSignature("the token's signature does not verify") from None


def instant(payload: dict[str, Any], claim: str) -> float:
    """Returns the claim as seconds since 1970. Raises BadToken."""
    value = payload.get(claim)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise BadToken(f"the token's {claim} is missing or not a number")
    if not 0 <= value <= _MAX_INSTANT:
        raise BadToken(f"the token's {claim} is out of range")
    return float(value)


def plain_type(typ: object) -> str:
    """Returns the header's typ in the one form to compare: `at+jwt`. Empty where it is no text."""
    return typ.lower().removeprefix("application/") if isinstance(typ, str) else ""


def _canonical(part: str) -> bytes:
    try:
        content = base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        content = b""
    if base64.urlsafe_b64encode(content).rstrip(b"=") != part.encode(errors="replace"):
        raise BadToken("the token is not canonical, unpadded base64url")
    return content


def _object(content: bytes) -> dict[str, Any]:
    try:
        value = json.loads(content.decode(), object_pairs_hook=_unique)
        # No store could keep lone surrogates and NUL as they are.
        storable = "\0" not in (text := json.dumps(value, ensure_ascii=False)) and "\\u0000" not in text
        text.encode()
    except (ValueError, RecursionError):
        value, storable = None, False
    if not storable:
        value = None
    if not isinstance(value, dict):
        raise BadToken("the token's header or payload is not a JSON object with each key once")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) < len(pairs):
        raise ValueError("a key stands twice")
    return dict(pairs)
