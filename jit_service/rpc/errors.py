"""Maps each class of error to a gRPC status, in one table. Envoy maps that to HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import NoReturn

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, PreconditionFailure, QuotaFailure, RetryInfo
from google.rpc.status_pb2 import Status

from jit_service.domain.errors import (
    AlreadyExists,
    Conflict,
    Invalid,
    InvalidField,
    JitError,
    NotFound,
    NotPermitted,
    Precondition,
    RateExceeded,
    RecordsPruned,
    TooMany,
    TooManyCalls,
    TooManyWatchers,
    Unauthenticated,
    Unavailable,
)
from jit_service.domain.language.name import harmless

DOMAIN = "jitaccess"
INTERNAL_MESSAGE = "internal error; the cause is in the service's log"
STATUS: dict[type[JitError], grpc.StatusCode] = {
    Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    NotPermitted: grpc.StatusCode.PERMISSION_DENIED,
    Invalid: grpc.StatusCode.INVALID_ARGUMENT,
    NotFound: grpc.StatusCode.NOT_FOUND,
    AlreadyExists: grpc.StatusCode.ALREADY_EXISTS,
    Precondition: grpc.StatusCode.FAILED_PRECONDITION,
    Conflict: grpc.StatusCode.ABORTED,
    TooMany: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Unavailable: grpc.StatusCode.UNAVAILABLE,
}
# Clients bound trailers, by default at 8 KiB, so the texts in them are bounded too.
_MAX_MESSAGE = 1000
_MAX_METADATA = 256
_MAX_VIOLATIONS = 4096
_RETRY_SECONDS = 1


def status_code(error: JitError) -> grpc.StatusCode:
    """Returns the status of the error's class, or of the nearest ancestor in the table."""
    return next(STATUS[ancestor] for ancestor in type(error).__mro__ if ancestor in STATUS)


# The HTTP status that Envoy answers with (grpc_json_transcoder, convert_grpc_status).
_HTTP = {
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.UNAVAILABLE: 503,
}


def http_status(error: JitError) -> int:
    """Returns the HTTP status that the error has over REST."""
    return _HTTP.get(status_code(error), 400)


def status(error: JitError) -> Status:
    """Returns the error as google.rpc.Status: always with ErrorInfo, and the details its class calls for (AIP-193)."""
    message = harmless(error.message, _MAX_MESSAGE)
    metadata = {key: harmless(value, _MAX_METADATA) for key, value in error.metadata.items()}
    details: list[Message] = [ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=metadata)]
    if isinstance(error, InvalidField | RecordsPruned):
        details.append(BadRequest(field_violations=_violations(error)))
    if isinstance(error, Precondition):
        subject = metadata.get("grant", metadata.get("policy", ""))
        unmet = PreconditionFailure.Violation(type=error.reason, subject=subject, description=message)
        details.append(PreconditionFailure(violations=[unmet]))
    if isinstance(error, TooMany):
        subject = metadata.get("policy", "")
        details.append(QuotaFailure(violations=[QuotaFailure.Violation(subject=subject, description=message)]))
    if isinstance(error, Unavailable | TooManyCalls | TooManyWatchers):
        details.append(RetryInfo(retry_delay=Duration(seconds=_RETRY_SECONDS)))
    if isinstance(error, RateExceeded):
        delay = Duration()
        delay.FromTimedelta(timedelta(seconds=error.retry_after))
        details.append(RetryInfo(retry_delay=delay))
    code: int = status_code(error).value[0]
    return Status(code=code, message=message, details=[_pack(detail) for detail in details])


def describe(context: grpc.ServicerContext, error: JitError) -> None:
    """Gives the call the error's status, with which it is to end."""
    answer = status(error)
    _add_details(context, answer)
    context.set_code(status_code(error))
    context.set_details(answer.message)


def abort(context: grpc.ServicerContext, error: JitError, *more: tuple[str, str]) -> NoReturn:
    """Ends the call with the error, and with `more` trailing metadata, which Envoy makes headers of."""
    answer = status(error)
    _add_details(context, answer, *more)
    context.abort(status_code(error), answer.message)


def abort_internal(context: grpc.ServicerContext) -> NoReturn:
    """Ends the call with a fixed text, since the fault's own text may contain what the caller must not see."""
    info = ErrorInfo(reason="INTERNAL", domain=DOMAIN)
    answer = Status(code=grpc.StatusCode.INTERNAL.value[0], message=INTERNAL_MESSAGE, details=[_pack(info)])
    _add_details(context, answer)
    context.abort(grpc.StatusCode.INTERNAL, INTERNAL_MESSAGE)


def _add_details(context: grpc.ServicerContext, answer: Status, *more: tuple[str, str]) -> None:
    context.set_trailing_metadata((("grpc-status-details-bin", answer.SerializeToString()), *more))


def _violations(error: InvalidField | RecordsPruned) -> list[BadRequest.FieldViolation]:
    """Returns the fault of each field. Of very many, the first that fit, and how many there are beside them."""
    violations: list[BadRequest.FieldViolation] = []
    size = 0
    each: Sequence[InvalidField | RecordsPruned] = error.each
    for count, fault in enumerate(each):
        field, description = harmless(fault.field, _MAX_METADATA), harmless(fault.fault, _MAX_MESSAGE)
        size += len(field.encode()) + len(description.encode())
        if violations and size > _MAX_VIOLATIONS:
            left = len(each) - count
            violations.append(BadRequest.FieldViolation(field=error.field, description=f"and {left} faults more"))
            break
        violations.append(BadRequest.FieldViolation(field=field, description=description))
    return violations


def _pack(detail: Message) -> Any:
    packed = Any()
    packed.Pack(detail)
    return packed
