"""A real gRPC server of the contract that records what it got and answers what a test told it to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event
from typing import Any, NoReturn

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from google.rpc.status_pb2 import Status

from tests.contract import MODULES

SERVICES = [
    service
    for name, module in MODULES.items()
    # The pages are for a browser, not for a client.
    if name not in ("docs_pb2", "console_pb2")
    for service in module.DESCRIPTOR.services_by_name.values()
]
METHODS = {method.name: method for service in SERVICES for method in service.methods}


@dataclass(frozen=True, kw_only=True)
class Received:
    """One call as it reached the server. `time_remaining` is in seconds."""

    rpc: str
    message: Any
    metadata: dict[str, str]
    time_remaining: float


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """An answer that is an error, with details as the contract has them; without a reason it has none."""

    code: grpc.StatusCode
    message: str = "refused"
    reason: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    violations: dict[str, str] = field(default_factory=dict)
    trailer: bytes | None = None

    def trailers(self) -> tuple[tuple[str, bytes], ...]:
        if self.trailer is not None:
            return (("grpc-status-details-bin", self.trailer),)
        if not self.reason:
            return ()
        status = Status(code=self.code.value[0], message=self.message)
        info = error_details_pb2.ErrorInfo(reason=self.reason, domain="jitaccess", metadata=self.metadata)
        status.details.append(packed(info))
        if self.violations:
            violation = error_details_pb2.BadRequest.FieldViolation
            items = [violation(field=name, description=fault) for name, fault in self.violations.items()]
            status.details.append(packed(error_details_pb2.BadRequest(field_violations=items)))
        return (("grpc-status-details-bin", status.SerializeToString()),)

    def abort(self, context: grpc.ServicerContext) -> NoReturn:
        context.set_trailing_metadata(self.trailers())
        context.abort(self.code, self.message)


class Held:
    """The end of a stream that does not end: nothing more comes until the client leaves, or `released` is set."""

    def __init__(self) -> None:
        self.left = Event()
        self.released = Event()

    def leave(self) -> None:
        self.left.set()
        self.released.set()


Streamed = Sequence["Message | Refusal | Held"]


@dataclass
class Service:
    """The server's memory: what was asked, and the answers still to give, by RPC; the last one stays."""

    address: str = ""
    received: list[Received] = field(default_factory=list)
    answers: dict[str, list[Message | Refusal]] = field(default_factory=dict)
    streams: dict[str, list[Streamed]] = field(default_factory=dict)
    is_silent: bool = False
    was_asked: Event = field(default_factory=Event)

    def will_answer(self, rpc: str, *answers: Message | Refusal) -> None:
        self.answers[rpc] = list(answers)

    def will_stream(self, rpc: str, *streams: Streamed) -> None:
        """Tells what each stream of the RPC holds, one after another; the last one stays."""
        self.streams[rpc] = list(streams)

    def sent(self, rpc: str) -> list[Any]:
        return [call.message for call in self.received if call.rpc == rpc]

    def answer(self, rpc: str, message: Message, context: grpc.ServicerContext) -> Message:
        self._record(rpc, message, context)
        if self.is_silent:
            ended = Event()
            context.add_callback(ended.set)
            ended.wait()
        waiting = self.answers.get(rpc, [])
        answer = waiting.pop(0) if len(waiting) > 1 else next(iter(waiting), None)
        if isinstance(answer, Refusal):
            answer.abort(context)
        return answer if answer is not None else METHODS[rpc].output_type._concrete_class()

    def stream(self, rpc: str, message: Message, context: grpc.ServicerContext) -> Iterator[Message]:
        self._record(rpc, message, context)
        waiting = self.streams.get(rpc, [[METHODS[rpc].output_type._concrete_class()]])
        items = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        for held in (item for item in items if isinstance(item, Held)):
            # At once: a client may leave before the stream comes so far.
            if not context.add_callback(held.leave):
                held.leave()
        for item in items:
            if isinstance(item, Refusal):
                item.abort(context)
            elif isinstance(item, Held):
                item.released.wait()
            else:
                yield item

    def _record(self, rpc: str, message: Message, context: grpc.ServicerContext) -> None:
        metadata = {item.key: str(item.value) for item in context.invocation_metadata()}
        # A call without a deadline has all the time there is, which gRPC says as None or as a very long one.
        remaining = context.time_remaining()
        self.received.append(
            Received(
                rpc=rpc,
                message=message,
                metadata=metadata,
                time_remaining=float("inf") if remaining is None else remaining,
            )
        )
        self.was_asked.set()


def packed(message: Message) -> AnyMessage:
    box = AnyMessage()
    box.Pack(message)
    return box


@contextmanager
def serving(service: Service, credentials: grpc.ServerCredentials | None = None) -> Iterator[Service]:
    """Runs the service on a free port of loopback."""
    server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers([_handlers(service, descriptor) for descriptor in SERVICES])
    if credentials is None:
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        port = server.add_secure_port("127.0.0.1:0", credentials)
    service.address = f"127.0.0.1:{port}"
    server.start()
    try:
        yield service
    finally:
        server.stop(None).wait()


def _handlers(service: Service, descriptor: Any) -> grpc.GenericRpcHandler:
    return grpc.method_handlers_generic_handler(
        descriptor.full_name, {method.name: _handler(service, method) for method in descriptor.methods}
    )


def _handler(service: Service, method: Any) -> grpc.RpcMethodHandler:
    handler, respond = (
        (grpc.unary_stream_rpc_method_handler, service.stream)
        if method.server_streaming
        else (grpc.unary_unary_rpc_method_handler, service.answer)
    )
    return handler(
        lambda message, context: respond(method.name, message, context),
        request_deserializer=method.input_type._concrete_class.FromString,
        response_serializer=lambda message: message.SerializeToString(),
    )
