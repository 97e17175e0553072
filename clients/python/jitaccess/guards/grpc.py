"""Interceptors of gRPC servers, sync and aio: each method is guarded by name, or left open by name; others are refused.

    server = grpc.server(
        ThreadPoolExecutor(),
        interceptors=[
            GuardInterceptor(
                Guard.by_check(JitClient(), subject=who),
                {"/orders.v1.Orders/CreateRow": ("database/orders/{region}", "rows.create")},
            )
        ],
    )

`{region}` is the field of that name in the request, `{order.region}` one within; a method whose requests are a stream
has none. `current_passage()` tells a handler who it is. A stream is asked about once, when it begins.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any, NoReturn

import grpc
import grpc.aio
from google.protobuf import descriptor_pool

from jitaccess.errors import JitError, Misconfigured, PermissionDenied
from jitaccess.guards.address import peer_of_context
from jitaccess.guards.guard import Guard, Passage
from jitaccess.guards.incoming import Incoming
from jitaccess.guards.need import Template
from jitaccess.guards.refusal import grpc_code, status_of

Needs = Mapping[str, tuple[str, str]]
"""By full method, `/package.Service/Method`: the resource, and the action."""

_DETAILS_TRAILER = "grpc-status-details-bin"
_PASSAGE: ContextVar[Passage | None] = ContextVar("jitaccess_passage", default=None)


def current_passage() -> Passage | None:
    """Returns the passage of the call that is being handled; None outside of one, or where the method is open."""
    return _PASSAGE.get()


class _Methods:
    """What each method needs."""

    def __init__(self, needs: Needs, unguarded: Iterable[str]) -> None:
        self._templates = {method: Template(resource, action) for method, (resource, action) in needs.items()}
        self._unguarded = frozenset(unguarded) - frozenset(self._templates)
        for method, template in self._templates.items():
            _demand_method(method, template)

    def is_open(self, method: str) -> bool:
        """Returns whether the method is left open by name."""
        return method in self._unguarded

    def template(self, method: str) -> Template:
        """Returns what it needs. Raises PermissionDenied for a method that nobody named."""
        found = self._templates.get(method)
        if found is None:
            raise PermissionDenied("no guarded method is this one", reason="METHOD_UNKNOWN")
        return found


def _demand_method(full_method: str, template: Template) -> None:
    """Raises Misconfigured for a method that its service has not, or a parameter that its requests have not.

    A service whose descriptors are not imported yet is not known here; its calls are judged as they come.
    """
    service, _, name = full_method.removeprefix("/").rpartition("/")
    try:
        known = descriptor_pool.Default().FindServiceByName(service)
    except KeyError:
        return
    method = known.methods_by_name.get(name)
    if method is None:
        raise Misconfigured(f"{full_method}: the service has no such method", reason="TEMPLATE_INVALID")
    for parameter in template.parameters:
        if method.client_streaming or not _has_field(method.input_type, parameter.split(".")):
            raise Misconfigured(
                f"{full_method}: its request, {method.input_type.full_name}"
                f"{', is a stream, which' if method.client_streaming else ''} has no field {parameter} "
                f"for {template.resource}",
                reason="TEMPLATE_INVALID",
            )


def _has_field(message: Any, path: list[str]) -> bool:
    field = message.fields_by_name.get(path[0]) if message is not None else None
    return field is not None and (len(path) == 1 or _has_field(field.message_type, path[1:]))


class GuardInterceptor(grpc.ServerInterceptor):
    """For `grpc.server`. `unguarded` are full methods.

    Raises Misconfigured for a resource or action that is none, and for a method or field that the service has not.
    """

    def __init__(self, guard: Guard, needs: Needs, *, unguarded: Iterable[str] = ()) -> None:
        self._guard = guard
        self._methods = _Methods(needs, unguarded)

    def intercept_service(self, continuation: Callable[..., Any], handler_call_details: Any) -> Any:
        """Wraps the method's handler, unless it is open."""
        handler = continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or self._methods.is_open(method):
            return handler
        return _rebuilt(handler, self._streamed if handler.response_streaming else self._once, method)

    def _once(self, behavior: Callable[..., Any], method: str, *, reads: bool) -> Callable[..., Any]:
        def guarded(request: Any, context: grpc.ServicerContext) -> Any:
            with self._let_through(request if reads else None, context, method):
                return behavior(request, context)

        return guarded

    def _streamed(self, behavior: Callable[..., Any], method: str, *, reads: bool) -> Callable[..., Any]:
        def guarded(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            with self._let_through(request if reads else None, context, method):
                yield from behavior(request, context)

        return guarded

    @contextlib.contextmanager
    def _let_through(self, request: Any, context: grpc.ServicerContext, method: str) -> Iterator[None]:
        incoming = Incoming.with_headers(context.invocation_metadata() or (), context, peer_of_context(context))
        try:
            passage = self._guard.admit(incoming, self._methods.template(method), _Fields(request))
        except JitError as refusal:
            _abort(context, refusal)
        _PASSAGE.set(passage)
        try:
            yield
        finally:
            # A thread of the server's pool handles other calls too.
            _PASSAGE.set(None)


class AsyncGuardInterceptor(grpc.aio.ServerInterceptor):
    """For `grpc.aio.server`, as GuardInterceptor; the methods must be coroutines or asynchronous generators."""

    def __init__(self, guard: Guard, needs: Needs, *, unguarded: Iterable[str] = ()) -> None:
        self._guard = guard
        self._methods = _Methods(needs, unguarded)

    async def intercept_service(self, continuation: Callable[..., Any], handler_call_details: Any) -> Any:
        """Wraps the method's handler, unless it is open."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or self._methods.is_open(method):
            return handler
        return _rebuilt(handler, self._streamed if handler.response_streaming else self._once, method)

    def _once(self, behavior: Callable[..., Any], method: str, *, reads: bool) -> Callable[..., Any]:
        async def guarded(request: Any, context: Any) -> Any:
            await self._let_through(request if reads else None, context, method)
            return await behavior(request, context)

        return guarded

    def _streamed(self, behavior: Callable[..., Any], method: str, *, reads: bool) -> Callable[..., Any]:
        async def guarded(request: Any, context: Any) -> AsyncIterator[Any]:
            await self._let_through(request if reads else None, context, method)
            async for answer in behavior(request, context):
                yield answer

        return guarded

    async def _let_through(self, request: Any, context: Any, method: str) -> None:
        incoming = Incoming.with_headers(context.invocation_metadata() or (), context, peer_of_context(context))
        try:
            passage = await self._guard.admit_async(incoming, self._methods.template(method), _Fields(request))
        except JitError as refusal:
            status = status_of(refusal)
            trailers = ((_DETAILS_TRAILER, status.SerializeToString()),)
            await context.abort(grpc_code(refusal), status.message, trailers)
            raise AssertionError("an aborted call goes on") from refusal
        # Each call is handled in a task of its own.
        _PASSAGE.set(passage)


class _Fields(Mapping[str, object]):
    """The fields of a request by their path: `order.region`. A request that there is not yet has none."""

    def __init__(self, request: Any) -> None:
        self._request = request

    def __getitem__(self, path: str) -> object:
        value = self._request
        for name in path.split("."):
            descriptor = getattr(value, "DESCRIPTOR", None)
            if descriptor is None or name not in descriptor.fields_by_name:
                raise KeyError(path)
            value = getattr(value, name)
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def _rebuilt(handler: Any, wrap: Callable[..., Any], method: str) -> Any:
    """Returns the handler with its behaviour wrapped, of the same kind and with the same serialisers."""
    kinds = {
        (False, False): (grpc.unary_unary_rpc_method_handler, handler.unary_unary),
        (False, True): (grpc.unary_stream_rpc_method_handler, handler.unary_stream),
        (True, False): (grpc.stream_unary_rpc_method_handler, handler.stream_unary),
        (True, True): (grpc.stream_stream_rpc_method_handler, handler.stream_stream),
    }
    make, behavior = kinds[handler.request_streaming, handler.response_streaming]
    return make(
        wrap(behavior, method, reads=not handler.request_streaming),
        request_deserializer=handler.request_deserializer,
        response_serializer=handler.response_serializer,
    )


def _abort(context: grpc.ServicerContext, refusal: JitError) -> NoReturn:
    status = status_of(refusal)
    context.set_trailing_metadata(((_DETAILS_TRAILER, status.SerializeToString()),))
    context.abort(grpc_code(refusal), status.message)
    raise AssertionError("an aborted call goes on")
