"""The floor: a Check whose handler only returns what it was given, an empty message by default, on each transport.

`python -m bench.floors native|grpcio|sync-THREADS [HEX…]` prints one line of JSON with its address, and runs until it
is ended. Of several answers, in hexadecimal, each is given in turn.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from typing import Any, Final

import grpc
import uvloop

SERVICE: Final = "jitaccess.v1.AccessService"
_HEALTH: Final = "grpc.health.v1.Health"
_SERVING: Final = b"\x08\x01"
"""grpc.health.v1 for Envoy: status 1 is SERVING."""
SYNC: Final = "sync-"


async def serve(transport: str, answers: Iterator[bytes]) -> None:
    """Serves on a free port of loopback until cancelled, by coroutines."""

    async def answer(_request: bytes, _context: Any) -> bytes:
        return next(answers)

    async def serving(_request: bytes, _context: Any) -> bytes:
        return _SERVING

    server = _server(transport)
    _register(server, answer, serving)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    _say(port)
    await server.wait_for_termination()


def serve_sync(threads: int, answers: Iterator[bytes]) -> None:
    """Serves as `serve`, by grpcio's synchronous server with that many threads."""
    server = grpc.server(ThreadPoolExecutor(threads), options=[("grpc.so_reuseport", 0)])
    _register(server, lambda _request, _context: next(answers), lambda _request, _context: _SERVING)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    _say(port)
    server.wait_for_termination()


def _register(server: Any, answer: Callable[..., Any], serving: Callable[..., Any]) -> None:
    for service, method, handler in ((SERVICE, "CheckAccess", answer), (_HEALTH, "Check", serving)):
        methods: dict[str, Any] = {method: grpc.unary_unary_rpc_method_handler(handler)}
        # Both ways, as generated code does: pygrpc-native serves only those registered by name itself.
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, methods),))
        server.add_registered_method_handlers(service, methods)


def _say(port: int) -> None:
    print(json.dumps({"grpc": f"127.0.0.1:{port}"}), flush=True)


def _server(transport: str) -> Any:
    if transport == "grpcio":
        return grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    import pygrpc_native.aio

    return pygrpc_native.aio.server()


def main() -> None:
    """Runs the command line."""
    transport, *given = sys.argv[1:]
    answers = cycle([bytes.fromhex(one) for one in given] or [b""])
    if transport.startswith(SYNC):
        serve_sync(int(transport.removeprefix(SYNC)), answers)
    else:
        uvloop.run(serve(transport, answers))


if __name__ == "__main__":
    main()
