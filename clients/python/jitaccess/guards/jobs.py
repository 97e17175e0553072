"""Jobs: a decorator for functions of either kind, which raise where they may not run.

@guarded(guard, "database/orders/{region}", "rows.purge")
def purge(region: str) -> None: ...
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar, cast

from jitaccess.errors import Misconfigured, Unauthenticated
from jitaccess.guards.guard import Guard
from jitaccess.guards.incoming import Incoming
from jitaccess.guards.need import Template

P = ParamSpec("P")
T = TypeVar("T")


def guarded(guard: Guard, resource: str, action: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Returns a decorator: the function is called only while the guard lets it, else it raises as the guard does.

    `{name}` in the resource stands for the argument of that name. What the guard reads of a call, to tell who calls, is
    `Incoming.source`: the function's arguments (inspect.BoundArguments). Raises Misconfigured for a resource or action
    that is none or that takes up what is no parameter, and for a generator, which would run later.
    """
    template = Template(resource, action)

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        signature = inspect.signature(function)
        _demand_guardable(function, template, signature)

        @functools.wraps(function)
        def once(*args: P.args, **kwargs: P.kwargs) -> T:
            bound = _bound(signature, args, kwargs)
            with _explained(function):
                guard.admit(Incoming(source=bound), template, bound.arguments)
            return function(*args, **kwargs)

        @functools.wraps(function)
        async def later(*args: P.args, **kwargs: P.kwargs) -> Any:
            bound = _bound(signature, args, kwargs)
            with _explained(function):
                await guard.admit_async(Incoming(source=bound), template, bound.arguments)
            return await cast(Callable[P, Any], function)(*args, **kwargs)

        return cast(Callable[P, T], later) if inspect.iscoroutinefunction(function) else once

    return decorate


@contextmanager
def _explained(function: Callable[..., Any]) -> Iterator[None]:
    """Says of a job without an identity what its guard must read: it is often given the guard of an HTTP app."""
    try:
        yield
    except Unauthenticated as refusal:
        if refusal.reason not in ("IDENTITY_MISSING", "TOKEN_MISSING"):
            raise
        raise Unauthenticated(
            f"{function.__qualname__}: {refusal.message}; a job has no headers, so its guard must tell who calls by "
            'fixed_subject("service:..."), or by an argument: subject=lambda i: i.source.arguments["by"]',
            reason=refusal.reason,
        ) from None


def _demand_guardable(function: Callable[..., Any], template: Template, signature: inspect.Signature) -> None:
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise Misconfigured(f"{function.__qualname__} is a generator, which would run after it was let through")
    if missing := set(template.parameters) - set(signature.parameters):
        raise Misconfigured(
            f"{function.__qualname__} has no parameter {missing.pop()} for {template.resource}",
            reason="TEMPLATE_INVALID",
        )


def _bound(signature: inspect.Signature, args: Any, kwargs: Mapping[str, Any]) -> inspect.BoundArguments:
    bound = signature.bind(*args, **kwargs)
    bound.apply_defaults()
    return bound
