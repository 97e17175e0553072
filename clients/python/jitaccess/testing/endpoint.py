"""The in-memory service over gRPC, for a program that makes its own client."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2
from google.rpc.status_pb2 import Status

from jitaccess.errors import JitError, Misconfigured
from jitaccess.v1 import access_pb2

if TYPE_CHECKING:
    from jitaccess.testing.memory import MemoryService

_SERVICE = "jitaccess.v1.AccessService"
_RPCS: dict[str, type[Message]] = {
    "CheckAccess": access_pb2.CheckAccessRequest,
    "BatchCheckAccess": access_pb2.BatchCheckAccessRequest,
}


@contextmanager
def serving(service: MemoryService) -> Iterator[str]:
    """Serves on a port of this machine, and yields HOST:PORT."""
    # A second server must not share the port in silence.
    server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
    handlers: dict[str, Any] = {
        rpc: grpc.unary_unary_rpc_method_handler(
            _handler(service, f"AccessService/{rpc}"),
            request_deserializer=request.FromString,
            response_serializer=lambda answer: answer.SerializeToString(),
        )
        for rpc, request in _RPCS.items()
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


def _handler(service: MemoryService, rpc: str) -> Callable[[Message, grpc.ServicerContext], Message]:
    def handle(request: Message, context: grpc.ServicerContext) -> Message:
        try:
            return service.answer(rpc, request)
        except JitError as fault:
            code = "UNIMPLEMENTED" if isinstance(fault, Misconfigured) else fault.code
            context.set_trailing_metadata((("grpc-status-details-bin", status_of(fault).SerializeToString()),))
            context.abort(grpc.StatusCode[code], fault.message)
            raise AssertionError("an aborted call goes on") from fault

    return handle


def status_of(fault: JitError) -> Status:
    """Returns the error as the service sends it."""
    details: list[Any] = [error_details_pb2.ErrorInfo(reason=fault.reason, domain="jitaccess", metadata=fault.metadata)]
    if fault.field_violations:
        violations = [
            error_details_pb2.BadRequest.FieldViolation(field=field, description=description)
            for field, description in fault.field_violations
        ]
        details.append(error_details_pb2.BadRequest(field_violations=violations))
    status = Status(code=code_pb2.Code.Value(fault.code), message=fault.message)
    for detail in details:
        packed = AnyMessage()
        packed.Pack(detail)
        status.details.append(packed)
    return status
