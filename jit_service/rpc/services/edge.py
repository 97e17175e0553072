"""What Envoy alone calls: it asks what is wrong with a REST request that its transcoder refuses.

The method is no part of the contract, and Envoy routes nobody to it. It needs no token, since it reads the contract and
the request and nothing else. Both messages are bytes: the request line without its version, a line break and the body;
and the error as JSON, empty where the service has nothing to say.
"""

from __future__ import annotations

import json
from typing import Final

import grpc

from jit_service.domain.language.name import harmless
from jit_service.rpc.errors import DOMAIN
from jit_service.rpc.json_faults import find_faults

SERVICE: Final = "jitaccess.edge"
METHOD: Final = "ExplainRequest"
_REASON: Final = "MALFORMED_REQUEST"
_MAX_PATH: Final = 256


def add_edge_method(server: grpc.Server) -> None:
    """Adds the method to a server."""
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {METHOD: grpc.unary_unary_rpc_method_handler(_answer)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    server.add_registered_method_handlers(SERVICE, handlers)


def explain(request: bytes) -> bytes:
    """Returns the error for the request, with a field violation for each fault that has a field."""
    line, _, body = request.partition(b"\n")
    verb, _, target = line.decode("latin-1").partition(" ")
    faults = find_faults(verb, target, body)
    if not faults:
        return b""
    first = faults[0]
    info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": _REASON, "domain": DOMAIN}
    violations = [
        {"field": harmless(fault.path, _MAX_PATH), "description": fault.text} for fault in faults if fault.path
    ]
    details: list[dict[str, object]] = [info | ({"metadata": {"field": violations[0]["field"]}} if first.path else {})]
    if violations:
        details.append({"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": violations})
    message = f"{violations[0]['field']}: {first.text}" if first.path else first.text
    return json.dumps(
        {"code": grpc.StatusCode.INVALID_ARGUMENT.value[0], "message": message, "details": details}
    ).encode()


def _answer(request: bytes, _: grpc.ServicerContext) -> bytes:
    return explain(request)
