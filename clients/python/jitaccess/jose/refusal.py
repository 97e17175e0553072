"""Why a token does not count. Needs nothing of the extra `tokens`."""

from __future__ import annotations

from enum import StrEnum

from jitaccess._error import JitError


class TokenReason(StrEnum):
    """Why a token of a grant does not count."""

    MALFORMED = "MALFORMED"
    WRONG_ALGORITHM = "WRONG_ALGORITHM"
    WRONG_TYPE = "WRONG_TYPE"
    UNKNOWN_KEY = "UNKNOWN_KEY"
    BAD_SIGNATURE = "BAD_SIGNATURE"
    WRONG_ISSUER = "WRONG_ISSUER"
    WRONG_AUDIENCE = "WRONG_AUDIENCE"
    LIFETIME_TOO_LONG = "LIFETIME_TOO_LONG"
    NOT_YET_VALID = "NOT_YET_VALID"
    EXPIRED = "EXPIRED"
    NO_GRANT = "NO_GRANT"
    NOT_COVERED = "NOT_COVERED"
    GRANT_OVER = "GRANT_OVER"


class TokenRefused(JitError):
    """A token of a grant that does not count here, now, or for this. `reason` is one of `TokenReason`."""

    default_code = "PERMISSION_DENIED"


TokenRefused.__module__ = "jitaccess.errors"
