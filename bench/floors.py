"""The floor: a Check whose handler only returns an empty message, on each transport.

`python -m bench.floors grpcio|native` prints one line of JSON with its address, and runs until it is ended.
"""

from __future__ import annotations

import json
import sys
from typing import Any, Final

import grpc
import uvloop

SERVICE: Final = "jitaccess.v1.AccessService"
_SERVING: Final = b"\x08\x01"


async def _empty(_request: bytes, _context: Any) -> bytes:
    return b""


async def _serving(_request: bytes, _context: Any) -> bytes:
    """grpc.health.v1 for Envoy: status 1 is SERVING."""
    return _SERVING


async def serve(transport: str) -> None:
    """Serves on a free port of loopback until cancelled."""
    server = _server(transport)
    for service, method, handler in ((SERVICE, "CheckAccess", _empty), ("grpc.health.v1.Health", "Check", _serving)):
        methods: dict[str, Any] = {method: grpc.unary_unary_rpc_method_handler(handler)}
        # Both ways, as generated code does: pygrpc-native serves only those registered by name itself.
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, methods),))
        server.add_registered_method_handlers(service, methods)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(json.dumps({"grpc": f"127.0.0.1:{port}"}), flush=True)
    await server.wait_for_termination()


def _server(transport: str) -> Any:
    if transport == "grpcio":
        return grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    import pygrpc_native.aio

    return pygrpc_native.aio.server()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1]))
