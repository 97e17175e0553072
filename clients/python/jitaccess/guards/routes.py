"""What FastAPI's routes ask of the guard, looked at when the app starts: a typo or a forgotten guard fails there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from jitaccess.errors import Misconfigured
from jitaccess.extras import needed_for
from jitaccess.guards.asgi import WEBSOCKET, GuardMiddleware
from jitaccess.guards.guard import Guard
from jitaccess.guards.need import Template

with needed_for("the guard for FastAPI", "jitaccess[fastapi]"):
    import fastapi.routing
    from starlette.routing import Host, Mount

ASKED = "jit_asked"
"""The attribute of a dependency that holds what it asks."""


class Asked(NamedTuple):
    """What one `require` asks, and the guard that it was given, if any."""

    template: Template
    guard: Guard | None


class _Found(NamedTuple):
    """A route, its path from the root app, what is asked before it, and the app whose guard is asked."""

    names: tuple[str, ...]
    path: str
    parameters: frozenset[str]
    asked: tuple[Asked, ...]
    is_safe: bool
    app: Any


def demand_guarded(app: Any, unguarded: Iterable[str] | None) -> None:
    """Raises Misconfigured, naming each, for routes that cannot be guarded as they say, mounted apps included.

    A parameter that the path has not, and an app that nobody protects, are faults. With `unguarded`, so are a route
    that asks no guard and is not listed as `METHOD /path` or `/path`, and an entry of it that is no route.
    """
    listed = None if unguarded is None else frozenset(unguarded)
    faults, met = [], set[str]()
    for found in _routes(app, "", frozenset(), app):
        faults += [fault for one in found.asked for fault in _faults(found, one)]
        met |= {found.path, *found.names}
        if listed is None or found.asked or found.is_safe or found.path in listed:
            continue
        faults += [f"{name} asks no guard and is not in unguarded" for name in found.names if name not in listed]
    faults += [f"unguarded: {entry} is no route of the app" for entry in sorted((listed or frozenset()) - met)]
    if faults:
        raise Misconfigured("; ".join(faults), reason="ROUTES_MISCONFIGURED")


def _faults(found: _Found, asked: Asked) -> Iterator[str]:
    for name in asked.template.parameters:
        if name not in found.parameters:
            yield f"{found.names[0]} has no parameter {name} for {asked.template.resource}"
    if asked.guard is None and not isinstance(getattr(found.app.state, "jit_guard", None), Guard):
        yield f"{found.names[0]}: the app that has it has no guard; call jitaccess.guards.fastapi.protect on it"


def _routes(holder: Any, prefix: str, outer: frozenset[str], app: Any) -> Iterator[_Found]:
    for route in _flat(holder.routes):
        path = prefix + (getattr(route, "path", None) or "")
        parameters = outer | frozenset(getattr(route, "param_convertors", None) or ())
        if isinstance(getattr(route, "original_route", route), Mount | Host):
            mounted: Any = route.app
            if getattr(mounted, "routes", None):
                yield from _routes(mounted, path, parameters, mounted if hasattr(mounted, "state") else app)
            else:
                yield _Found((path,), path, parameters, (), isinstance(mounted, GuardMiddleware), app)
            continue
        asked = tuple(_asked(getattr(route, "dependant", None)))
        # FastAPI's own pages of documentation, which `openapi_url=None` takes away.
        module = getattr(getattr(route, "endpoint", None), "__module__", "")
        names = tuple(f"{method} {path}" for method in _methods(route))
        yield _Found(names, path, parameters, asked, module == "fastapi.applications", app)


def _flat(routes: Any) -> Any:
    """Returns the routes, with those of included routers, which newer versions of FastAPI keep apart."""
    flatten = getattr(fastapi.routing, "iter_route_contexts", None)
    return routes if flatten is None else flatten(routes)


def _methods(route: Any) -> list[str]:
    methods = getattr(route, "methods", None)
    if not methods:
        return [WEBSOCKET]
    # Starlette adds HEAD wherever there is GET.
    return sorted(methods - {"HEAD"} if "GET" in methods else methods)


def _asked(dependant: Any) -> Iterator[Asked]:
    waiting = [dependant] if dependant is not None else []
    while waiting:
        found = waiting.pop()
        waiting += found.dependencies
        asked = getattr(found.call, ASKED, None)
        if isinstance(asked, Asked):
            yield asked
