"""gRPC servers, sync and aio: a method is called only while its caller holds a live grant for the request's region.

The request is a StringValue, so that the example needs no proto of its own; `{value}` is its field.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import grpc.aio
from google.protobuf.wrappers_pb2 import StringValue

from jitaccess.guards import Guard
from jitaccess.guards.grpc import AsyncGuardInterceptor, GuardInterceptor, current_passage

SERVICE = "orders.v1.Orders"
NEEDS = {
    f"/{SERVICE}/CreateRow": ("database/orders/{value}", "rows.create"),
    f"/{SERVICE}/ReadRows": ("database/orders/{value}", "rows.read"),
}


def create_row(_request: Any, _context: Any) -> StringValue:
    """Answers by which grant."""
    passage = current_passage()
    return StringValue(value=passage.grant if passage else "")


def read_rows(request: Any, _context: Any) -> Iterator[StringValue]:
    """Streams two rows."""
    yield StringValue(value=f"{request.value}-1")
    yield StringValue(value=f"{request.value}-2")


async def create_row_async(request: Any, context: Any) -> StringValue:
    """As `create_row`."""
    return create_row(request, context)


async def read_rows_async(request: Any, context: Any) -> AsyncIterator[StringValue]:
    """As `read_rows`."""
    for row in read_rows(request, context):
        yield row


def create_server(guard: Guard) -> tuple[grpc.Server, int]:
    """Returns a server behind the guard, and its port on this machine."""
    server = grpc.server(
        ThreadPoolExecutor(4), interceptors=[GuardInterceptor(guard, NEEDS)], options=[("grpc.so_reuseport", 0)]
    )
    server.add_generic_rpc_handlers((_handlers(create_row, read_rows),))
    return server, server.add_insecure_port("127.0.0.1:0")


def create_async_server(guard: Guard) -> tuple[grpc.aio.Server, int]:
    """The same for asyncio."""
    server = grpc.aio.server(interceptors=[AsyncGuardInterceptor(guard, NEEDS)], options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((_handlers(create_row_async, read_rows_async),))
    return server, server.add_insecure_port("127.0.0.1:0")


def _handlers(create: Any, read: Any) -> grpc.GenericRpcHandler:
    codec: dict[str, Any] = {
        "request_deserializer": StringValue.FromString,
        "response_serializer": StringValue.SerializeToString,
    }
    methods = {
        "CreateRow": grpc.unary_unary_rpc_method_handler(create, **codec),
        "ReadRows": grpc.unary_stream_rpc_method_handler(read, **codec),
        "DropAll": grpc.unary_unary_rpc_method_handler(create, **codec),  # Nobody named it, so that nobody calls it.
    }
    return grpc.method_handlers_generic_handler(SERVICE, methods)
