"""The same for an ASGI application of any framework: middleware names each route, and refuses the others."""

from __future__ import annotations

import json
from typing import Any

from jitaccess.guards import Guard
from jitaccess.guards.asgi import PASSAGE, GuardMiddleware, Route


def create_app(guard: Guard) -> GuardMiddleware:
    """Returns the application behind the guard."""
    return GuardMiddleware(
        application,
        guard=guard,
        routes=[
            Route("GET", "/orders/{region}/rows", "database/orders/{region}", "rows.read"),
            Route("POST", "/orders/{region}/rows", "database/orders/{region}", "rows.create"),
        ],
        unguarded=["GET /healthz"],
    )


async def application(scope: Any, _receive: Any, send: Any) -> None:
    """Answers who was let through."""
    passage = scope[PASSAGE]
    body = json.dumps({"by": passage.subject, "grant": passage.grant} if passage else {"status": "ok"}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
