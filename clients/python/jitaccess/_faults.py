"""From what gRPC raises to the exceptions of `jitaccess.errors`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar, cast

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc import code_pb2, error_details_pb2
from google.rpc.status_pb2 import Status

from jitaccess.errors import (
    Aborted,
    AlreadyExists,
    DeadlineExceeded,
    FailedPrecondition,
    FieldViolation,
    Internal,
    InvalidArgument,
    JitError,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)

M = TypeVar("M", bound=Message)

_DOMAIN = "jitaccess"
_DETAILS_TRAILER = "grpc-status-details-bin"  # As grpc_status.rpc_status names it.
_CLASSES: dict[str, type[JitError]] = {
    "ABORTED": Aborted,
    "ALREADY_EXISTS": AlreadyExists,
    "CANCELLED": Unavailable,
    "DEADLINE_EXCEEDED": DeadlineExceeded,
    "FAILED_PRECONDITION": FailedPrecondition,
    "INVALID_ARGUMENT": InvalidArgument,
    "NOT_FOUND": NotFound,
    "OUT_OF_RANGE": InvalidArgument,
    "PERMISSION_DENIED": PermissionDenied,
    "RESOURCE_EXHAUSTED": ResourceExhausted,
    "UNAUTHENTICATED": Unauthenticated,
    "UNAVAILABLE": Unavailable,
}


class _EndedCall(Protocol):
    """What both grpc and grpc.aio put on the error they raise."""

    def code(self) -> grpc.StatusCode: ...
    def details(self) -> str | None: ...
    def trailing_metadata(self) -> Iterable[tuple[str, str | bytes]] | None: ...


def from_call(error: grpc.RpcError, *, address: str) -> JitError:
    """Returns the exception for a failed call to `address`. Any status that the table lacks is Internal."""
    call = cast(_EndedCall, error)
    code = call.code().name
    status = _status_of(call)
    if status is not None:
        return _fault(code, status)
    return _fault(code, Status(message=_message_without_details(code, call.details() or "", address)), received=False)


def from_status(status: Status) -> JitError:
    """Returns the exception for a google.rpc.Status that came inside an answer."""
    known = status.code in code_pb2.Code.values()
    return _fault(code_pb2.Code.Name(code_pb2.Code.ValueType(status.code)) if known else "UNKNOWN", status)


def _fault(code: str, status: Status, *, received: bool = True) -> JitError:
    info = _first(error_details_pb2.ErrorInfo, status)
    ours = info is not None and info.domain == _DOMAIN
    bad_request = _first(error_details_pb2.BadRequest, status)
    violations = bad_request.field_violations if bad_request else ()
    return _CLASSES.get(code, Internal)(
        status.message or "the service gave no message",
        code=code,
        reason=info.reason if info and ours else "",
        metadata=dict(info.metadata) if info and ours else None,
        field_violations=tuple(FieldViolation(item.field, item.description) for item in violations),
        status=status if received else None,
    )


def _status_of(call: _EndedCall) -> Status | None:
    """Returns the status in the trailers, or None where there is none that agrees with the call's own code."""
    for key, value in call.trailing_metadata() or ():
        if key == _DETAILS_TRAILER and isinstance(value, bytes):
            status = _parsed(Status(), value)
            if status is not None and status.code == call.code().value[0]:
                return status
    return None


def _first(kind: type[M], status: Status) -> M | None:
    for detail in status.details:
        if detail.Is(kind.DESCRIPTOR):
            return _parsed(kind(), detail.value)
    return None


def _parsed(message: M, data: bytes) -> M | None:
    """Returns the message, or None where the bytes are not one: a detail that cannot be read is left out."""
    try:
        message.ParseFromString(data)
    except DecodeError:
        return None
    return message


def _message_without_details(code: str, details: str, address: str) -> str:
    if code == "UNAVAILABLE":
        return f"no answer from {address}: {details}"
    if code == "DEADLINE_EXCEEDED":
        return f"no answer from {address} in time"
    return details
