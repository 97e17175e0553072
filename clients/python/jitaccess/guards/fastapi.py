"""FastAPI: a dependency that lets through or refuses. Needs `jitaccess[fastapi]`.

app = FastAPI()
protect(app, Guard.by_check(AsyncJitClient(), subject=who))

@app.post("/orders/{region}/rows")
async def create(region: str, passage: Annotated[Passage, Depends(require("database/orders/{region}", "rows.create"))]):
    ...
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import Any

from jitaccess.errors import JitError, Misconfigured
from jitaccess.extras import needed_for
from jitaccess.guards.address import peer_of_scope
from jitaccess.guards.asgi import App, Receive, Scope, Send, refuse
from jitaccess.guards.guard import Guard, Passage
from jitaccess.guards.incoming import Incoming
from jitaccess.guards.need import Template
from jitaccess.guards.refusal import body_of, http_headers, http_status, refusal_of
from jitaccess.guards.routes import ASKED, Asked, demand_guarded
from jitaccess.guards.spelling import canonical, demand_canonical

with needed_for("the guard for FastAPI", "jitaccess[fastapi]"):
    from fastapi import FastAPI
    from starlette.exceptions import HTTPException
    from starlette.requests import HTTPConnection
    from starlette.responses import JSONResponse


class Refused(HTTPException):
    """A call that was not let through. `refusal` says why; `detail` is the same as google.rpc.Status in JSON."""

    def __init__(self, refusal: JitError) -> None:
        self.refusal = refusal
        super().__init__(http_status(refusal), detail=body_of(refusal), headers=http_headers(refusal))  # type: ignore[arg-type]  # FastAPI takes any JSON.


def protect(app: FastAPI, guard: Guard, *, unguarded: Iterable[str] | None = None) -> None:
    """Makes the guard that of the app's `require`, and refusals google.rpc.Status in JSON, as the service's are.

    The app does not start while a route, also of a mounted app, takes up a parameter that its path has not, or belongs
    to an app that nobody protects. With `unguarded` it does not start either while a route neither asks a guard nor is
    listed there, as `METHOD /path` or `/path` (`WEBSOCKET /path`; a mounted app of another kind by its path); FastAPI's
    own pages of documentation need not be. Raises Misconfigured then; where no start is told, each call is refused.
    """
    if isinstance(unguarded, str):
        raise Misconfigured("unguarded: must be a list of routes, not one text")
    listed = None if unguarded is None else tuple(unguarded)
    app.state.jit_guard = guard
    app.add_exception_handler(Refused, _answer)
    started = app.router.lifespan_context

    @asynccontextmanager
    async def checked(starting: Any) -> AsyncIterator[Any]:
        demand_guarded(app, listed)
        async with started(starting) as state:
            yield state

    app.router.lifespan_context = checked
    app.add_middleware(_Checked, of=app, unguarded=listed)


class _Checked:
    """Refuses each call while the app's routes are misconfigured: a server may leave out the lifespan's start."""

    def __init__(self, app: App, *, of: FastAPI, unguarded: Iterable[str] | None) -> None:
        self._app = app
        self._of = of
        self._unguarded = unguarded
        self._is_sound = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the call on, or answers it."""
        if not self._is_sound and scope["type"] != "lifespan":
            try:
                demand_guarded(self._of, self._unguarded)
            except Misconfigured as fault:
                await refuse(refusal_of(fault), scope, send)
                return
            self._is_sound = True
        await self._app(scope, receive, send)


def require(
    resource: str, action: str, *, guard: Guard | None = None
) -> Callable[[HTTPConnection], Awaitable[Passage]]:
    """Returns a dependency for `Depends`: the call goes on only while its caller may do the action on the resource.

    `{name}` in the resource stands for the path parameter of that name, as one segment. `guard` is the app's unless
    one is given; an app without any refuses. A parameter that a handler or dependency takes as another type than text
    must be spelt as that value is, `7` and not `07`, or the call is refused. Raises Misconfigured for a resource or
    action that is none.
    """
    template = Template(resource, action)

    async def passage(connection: HTTPConnection) -> Passage:
        incoming = Incoming.with_headers(connection.headers.raw, connection, peer_of_scope(connection.scope))
        try:
            asked = _guard_of(connection, guard)
            _demand_one_spelling(connection, template)
            return await asked.admit_async(incoming, template, connection.path_params)
        except JitError as refusal:
            raise Refused(refusal) from refusal

    setattr(passage, ASKED, Asked(template, guard))
    # FastAPI looks annotations up by name.
    passage.__annotations__ = {"connection": HTTPConnection, "return": Passage}
    return passage


def _demand_one_spelling(connection: HTTPConnection, template: Template) -> None:
    """Refuses a parameter of the template whose text is not the one spelling of what a handler makes of it.

    A text that cannot be read as the type is none of the guard's business: FastAPI runs no handler for it.
    """
    try:
        for name in template.parameters:
            given = connection.path_params.get(name)
            for value in _values_of(connection, name, given):
                # A converter of the path's own, as in {number:int}, has made a value of the text already.
                demand_canonical(given if isinstance(given, str) else canonical(given) or "", value, name)
    except Exception as error:
        raise refusal_of(error) from error


def _values_of(connection: HTTPConnection, name: str, given: Any) -> Iterator[object]:
    """Yields what each function of the route that takes the path parameter gets."""
    waiting = [connection.scope["route"].dependant]
    while waiting:
        dependant = waiting.pop()
        waiting += dependant.dependencies
        for field in dependant.path_params:
            if field.alias == name:
                value, errors = field.validate(given, {}, loc=("path", name))
                if not errors:
                    yield value


def _guard_of(connection: HTTPConnection, given: Guard | None) -> Guard:
    guard = given or getattr(connection.app.state, "jit_guard", None)
    if not isinstance(guard, Guard):
        raise refusal_of(Misconfigured("the app has no guard; call jitaccess.guards.fastapi.protect"))
    return guard


async def _answer(_: Any, refused: Any) -> JSONResponse:
    return JSONResponse(refused.detail, refused.status_code, headers=refused.headers)
