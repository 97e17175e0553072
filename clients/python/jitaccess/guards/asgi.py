"""ASGI middleware, for any framework: each route is guarded by name, or left open by name; any other is refused.

app = GuardMiddleware(
    app,
    guard=Guard.by_check(AsyncJitClient(), subject=who),
    routes=[Route("POST", "/orders/{region}/rows", "database/orders/{region}", "rows.create")],
    unguarded=["GET /healthz"],
)
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from jitaccess.errors import JitError, Misconfigured, PermissionDenied
from jitaccess.guards.address import peer_of_scope
from jitaccess.guards.guard import Guard, Passage
from jitaccess.guards.incoming import Incoming
from jitaccess.guards.need import Parameter, Template
from jitaccess.guards.refusal import body_of, http_headers, http_status
from jitaccess.guards.spelling import PARSERS, is_read_as

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

WEBSOCKET = "WEBSOCKET"
"""The method of a route that is a websocket."""
PASSAGE = "jitaccess.passage"
"""The key of the scope under which the app finds the call's Passage."""
_POLICY_VIOLATION = 1008  # RFC 6455, section 7.4.1.


class Route:
    """A route and what it needs. `{name}` in the path is one segment, which the resource may take up.

    Where the app makes a value of the segment, say which, as in `{number:int}`: then only the one spelling of each
    value is let through (`Template` has the kinds). Raises Misconfigured for a resource that takes up what the path
    does not have.
    """

    def __init__(self, method: str, path: str, resource: str, action: str) -> None:
        self.method = method.upper()
        self._segments = [Parameter.of(part) or part for part in _segments(path)]
        parameters = [part for part in self._segments if isinstance(part, Parameter)]
        self.template = Template(resource, action, kinds={part.name: part.kind for part in parameters})
        if missing := set(self.template.parameters) - {part.name for part in parameters}:
            raise Misconfigured(f"{path} has no {{{missing.pop()}}} for {resource}", reason="TEMPLATE_INVALID")
        if odd := [part for part in self._segments if isinstance(part, str) and set("{}") & set(part)]:
            kinds = ", ".join(PARSERS)
            raise Misconfigured(
                f"{path}: {odd[0]} is no {{name}} or {{name:kind}} of {kinds}", reason="TEMPLATE_INVALID"
            )

    def match(self, method: str, segments: list[str]) -> dict[str, str] | None:
        """Returns the path's parameters where the route is this one, else None."""
        if method != self.method or len(segments) != len(self._segments):
            return None
        found = {}
        for wanted, given in zip(self._segments, segments, strict=True):
            if isinstance(wanted, Parameter):
                if wanted.kind and not is_read_as(wanted.kind, given):
                    return None
                found[wanted.name] = given
            elif wanted != given:
                return None
        return found


class GuardMiddleware:
    """Asks the guard before the app hears of a call. `unguarded` are `METHOD /path`, word for word.

    A path that could be read in two ways (an encoded slash, `..`, `//`, a backslash) is no route at all.
    """

    def __init__(self, app: App, *, guard: Guard, routes: Iterable[Route], unguarded: Iterable[str] = ()) -> None:
        self._app = app
        self._guard = guard
        self._routes = tuple(routes)
        self._unguarded = frozenset(unguarded)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the call on, or answers it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        try:
            passage = await self._passage(scope)
        except JitError as refusal:
            await refuse(refusal, scope, send)
            return
        await self._app({**scope, PASSAGE: passage}, receive, send)

    async def _passage(self, scope: Scope) -> Passage | None:
        """Returns the passage; None where the route is left open by name."""
        method = WEBSOCKET if scope["type"] == "websocket" else scope["method"]
        path = _path(scope)
        if f"{method} {path}" in self._unguarded:
            return None
        segments = _segments(path)
        matching = [(route, found) for route in self._routes if (found := route.match(method, segments)) is not None]
        if not matching:
            raise PermissionDenied("no guarded route is this one", reason="ROUTE_UNKNOWN")
        incoming = Incoming.with_headers(scope["headers"], scope, peer_of_scope(scope))
        # Of several that match, the app may take any: each must let the call through.
        passages = [await self._guard.admit_async(incoming, route.template, values) for route, values in matching]
        return passages[0]


def _path(scope: Scope) -> str:
    """Returns the path within the app. Raises PermissionDenied for one that could be read in two ways."""
    path: str = scope["path"]
    raw = scope.get("raw_path")
    sent = raw.partition(b"?")[0].decode("latin-1").lower() if raw else ""
    odd = any(part in sent for part in ("%2f", "%5c", "%25", "%00", "%2e"))
    if odd or "\\" in path or "//" in path or {".", ".."} & set(path.split("/")):
        raise PermissionDenied("the path can be read in two ways", reason="PATH_REFUSED")
    mount = scope.get("root_path", "")
    return path.removeprefix(mount) if mount and path.startswith(f"{mount}/") else path


def _segments(path: str) -> list[str]:
    return path.split("/")


async def refuse(refusal: JitError, scope: Scope, send: Send) -> None:
    """Answers a call with the refusal; a websocket is closed before it opens."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": _POLICY_VIOLATION, "reason": refusal.reason})
        return
    body = json.dumps(body_of(refusal)).encode()
    headers = http_headers(refusal) | {"content-length": str(len(body))}
    sent = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": http_status(refusal), "headers": sent})
    await send({"type": "http.response.body", "body": body})
