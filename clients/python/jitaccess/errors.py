"""What a call may raise.

JitError
├── Misconfigured          no address, or a way to connect that would be unsafe
├── Unauthenticated        no token, or one that does not count
├── PermissionDenied       known, and may not
├── InvalidArgument        the call itself is wrong; see field_violations
├── NotFound               there is no such thing
├── AlreadyExists          the name is taken
├── FailedPrecondition     the thing is not in the state that the call needs
├── Aborted                something else came first: read again, decide again
├── ResourceExhausted      too many calls; try later
├── Unavailable            no answer could be had
│   └── DeadlineExceeded   no answer in time; a write may have happened
├── TokenRefused           a token of a grant does not count, or not for this; see TokenReason
└── Internal               the service failed, or answered what this client cannot read

A refusal by the service carries a stable `reason` (google.rpc.ErrorInfo, AIP-193). Without
one there is the status code.
"""

from __future__ import annotations

from jitaccess._error import FieldViolation, InvalidArgument, JitError, Misconfigured
from jitaccess.jose.refusal import TokenRefused


class Unauthenticated(JitError):
    """No token, or one that does not count."""

    default_code = "UNAUTHENTICATED"


class PermissionDenied(JitError):
    """The caller is known and may not."""

    default_code = "PERMISSION_DENIED"


class NotFound(JitError):
    """There is no such thing."""

    default_code = "NOT_FOUND"


class AlreadyExists(JitError):
    """The name is taken."""

    default_code = "ALREADY_EXISTS"


class FailedPrecondition(JitError):
    """The thing is not in the state that the call needs."""

    default_code = "FAILED_PRECONDITION"


class Aborted(JitError):
    """Something else came first: a stale etag, a lost race, a request_id used for another request. Never retried."""

    default_code = "ABORTED"


class ResourceExhausted(JitError):
    """Too many calls; try later."""

    default_code = "RESOURCE_EXHAUSTED"


class Unavailable(JitError):
    """The service is away or cannot be sure, also after the retries."""

    default_code = "UNAVAILABLE"


class DeadlineExceeded(Unavailable):
    """No answer in time. A write may have happened; the same request_id asks again without doing it twice."""

    default_code = "DEADLINE_EXCEEDED"


class Internal(JitError):
    """The service failed, or its answer cannot be read."""

    default_code = "INTERNAL"


__all__ = [
    "Aborted",
    "AlreadyExists",
    "DeadlineExceeded",
    "FailedPrecondition",
    "FieldViolation",
    "Internal",
    "InvalidArgument",
    "JitError",
    "Misconfigured",
    "NotFound",
    "PermissionDenied",
    "ResourceExhausted",
    "TokenRefused",
    "Unauthenticated",
    "Unavailable",
]
