"""A guard's refusal as its callers get it: the errors of this client, and their form over HTTP and gRPC."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import grpc
from google.protobuf import json_format
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import code_pb2, error_details_pb2
from google.rpc.status_pb2 import Status

from jitaccess.errors import (
    Internal,
    InvalidArgument,
    JitError,
    Misconfigured,
    PermissionDenied,
    TokenRefused,
    Unauthenticated,
    Unavailable,
)
from jitaccess.guards.need import Need
from jitaccess.jose.refusal import TokenReason

_log = logging.getLogger("jitaccess.guards")
_DOMAIN = "jitaccess"
_HTTP = {"PERMISSION_DENIED": 403, "UNAUTHENTICATED": 401, "INTERNAL": 500}
_UNSURE = 503
# What is wrong with the access rather than with the token.
_NOT_ALLOWED = (TokenReason.NOT_COVERED, TokenReason.GRANT_OVER)


def no(
    message: str, *, reason: str, need: Need, subject: str, grant: str = "", requestable: Sequence[str] = ()
) -> PermissionDenied:
    """Returns the refusal of a caller who is known, with the policies it could ask under."""
    told = {
        "subject": subject,
        "action": need.action,
        "resource": need.resource,
        "grant": grant,
        "requestable_policies": ",".join(requestable),
    }
    return PermissionDenied(message, reason=reason, metadata={key: value for key, value in told.items() if value})


def refusal_of(error: BaseException) -> JitError:
    """Returns the refusal for an error in the guard: the caller's, Unavailable, or Internal.

    Trying again may help against Unavailable. Against Internal it does not: the guard is misconfigured, or a function
    that the program gave it fails; the log has the traceback. A malformed name is the caller's error: the program's own
    names are verified when it starts.
    """
    match error:
        case PermissionDenied() | Unauthenticated():
            return error
        case TokenRefused(reason=reason) if reason in _NOT_ALLOWED:
            return PermissionDenied(error.message, reason=reason)
        case TokenRefused():
            return Unauthenticated(error.message, reason=error.reason)
        case InvalidArgument():
            fields = ",".join(violation.field for violation in error.field_violations)
            return PermissionDenied(error.message, reason=error.reason, metadata={"field": fields} if fields else None)
        case Unavailable():
            reason = error.reason
        case TimeoutError():
            reason = "DEADLINE_EXCEEDED"
        case JitError() | OSError() if not isinstance(error, Misconfigured | Internal):
            reason = "GUARD_FAULT"
        case _:
            return _misconfigured(error)
    _log.error("a guard cannot be sure, and lets nobody through: %s: %s", type(error).__name__, error)
    return Unavailable("whether this is allowed cannot be told now; try again", reason=reason)


def _misconfigured(error: BaseException) -> JitError:
    _log.error("a guard is misconfigured, and lets nobody through: %s: %s", type(error).__name__, error, exc_info=error)
    reason = error.reason if isinstance(error, Misconfigured) and error.reason != error.code else "GUARD_FAULT"
    return Internal("this guard is misconfigured, or a function given to it fails; the log says how", reason=reason)


def unsure(error: JitError) -> JitError:
    """Returns what an error of the check says: its PERMISSION_DENIED, say, is about the guard's own token.

    Only a name that it refuses is the caller's, and a misconfigured client stays that.
    """
    if isinstance(error, InvalidArgument | Misconfigured):
        return error
    return Unavailable(f"the check failed: {error}", reason="CHECK_FAILED")


def http_status(refusal: JitError) -> int:
    """Returns the HTTP status: 401, 403, 500 where trying again does not help, else 503."""
    return _HTTP.get(refusal.code, _UNSURE)


def http_headers(refusal: JitError) -> dict[str, str]:
    """Returns the headers of the answer: with 401 how to prove oneself, RFC 6750."""
    headers = {"content-type": "application/json", "cache-control": "no-store"}
    return headers | ({"www-authenticate": "Bearer"} if http_status(refusal) == 401 else {})


def status_of(refusal: JitError) -> Status:
    """Returns the refusal as google.rpc.Status, with ErrorInfo (AIP-193)."""
    info = error_details_pb2.ErrorInfo(reason=refusal.reason, domain=_DOMAIN, metadata=refusal.metadata)
    detail = AnyMessage()
    detail.Pack(info)
    return Status(code=code_pb2.Code.Value(grpc_code(refusal).name), message=refusal.message, details=[detail])


def body_of(refusal: JitError) -> dict[str, object]:
    """Returns the refusal as the JSON of google.rpc.Status."""
    body: dict[str, object] = json_format.MessageToDict(status_of(refusal))
    return body


def grpc_code(refusal: JitError) -> grpc.StatusCode:
    """Returns PERMISSION_DENIED, UNAUTHENTICATED, INTERNAL, or UNAVAILABLE for whatever else."""
    return grpc.StatusCode[refusal.code] if refusal.code in _HTTP else grpc.StatusCode.UNAVAILABLE
