"""The options that RequestGrant and EnsureGrant share."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import wraps
from types import NoneType
from typing import ParamSpec, TypedDict, TypeVar, get_args, get_type_hints

from jitaccess.contract.model import Grant

P = ParamSpec("P")
T = TypeVar("T")


class AccessOptions(TypedDict, total=False):
    """What a request and an ensure may be given; `grants.request` says what each is for.

    An option that is left out has its type's empty value: None where that is allowed, else "", 0 or False.
    """

    duration: timedelta | None
    policy: str
    subject: str
    start_time: datetime | None
    justification: str
    ticket: str
    labels: Mapping[str, str] | None
    context: Mapping[str, object] | None
    max_uses: int
    break_glass: bool
    parent: Grant | str
    request_id: str | None


def with_options(build: Callable[P, T]) -> Callable[P, T]:
    """Spells the options out in the builder's signature, for help() and editors, and refuses other keywords."""
    signature = inspect.signature(build)
    parameters = [one for one in signature.parameters.values() if one.kind is not inspect.Parameter.VAR_KEYWORD]
    # By kind, since a keyword may not stand before a position.
    parameters = sorted([*parameters, *_parameters()], key=lambda one: one.kind)
    signature = signature.replace(parameters=parameters)

    @wraps(build)
    def checking(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{build.__name__}() {error}") from None
        return build(*args, **kwargs)

    checking.__signature__ = signature  # type: ignore[attr-defined]
    return checking


def _parameters() -> list[inspect.Parameter]:
    hints = get_type_hints(AccessOptions)
    return [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=_empty(hints[name]), annotation=written.__forward_arg__
        )
        for name, written in AccessOptions.__annotations__.items()
    ]


def _empty(hint: type) -> object:
    """Returns None where the hint allows it, else the empty value of its last type."""
    kinds = get_args(hint) or (hint,)
    return None if NoneType in kinds else kinds[-1]()
