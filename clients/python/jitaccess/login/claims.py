"""What a token says, read without verifying it: to show it, or to know how long it lasts.

Whether a token counts is for the service to say, which verifies it at every call.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any


def read_claims(token: str) -> dict[str, Any]:
    """Returns the claims of a JWT (RFC 7519) without verifying it; none where the text is not a JWT."""
    parts = token.strip().split(".")
    payload = parts[1] if len(parts) == 3 else ""
    try:
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (binascii.Error, ValueError, RecursionError):
        return {}
    return claims if isinstance(claims, dict) else {}


def number(claims: Mapping[str, Any], name: str) -> float | None:
    """Returns the claim as a number, such as `exp` in seconds since 1970; None where it is none."""
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e11:
        return None
    return float(value)


def lifetime(token: str) -> float | None:
    """Returns for how many seconds the token says that it lasts in all, None where it does not say."""
    claims = read_claims(token)
    issued, ends = number(claims, "iat"), number(claims, "exp")
    return None if issued is None or ends is None else ends - issued
