"""Judges all parts of something before it is refused, so that whoever wrote it sees every fault at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from jit_service.domain.errors import InvalidField

P = ParamSpec("P")
T = TypeVar("T")


class Faults:
    """The faults that were found so far, in their order."""

    def __init__(self) -> None:
        self._found: list[InvalidField] = []

    def __bool__(self) -> bool:
        return bool(self._found)

    def keep(self, otherwise: T, judge: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Returns what `judge` returns. Where it raises InvalidField, keeps that and returns `otherwise`."""
        try:
            return judge(*args, **kwargs)
        except InvalidField as fault:
            self._found.append(fault)
            return otherwise

    def add(self, fault: InvalidField) -> None:
        """Keeps a fault."""
        self._found.append(fault)

    def demand_none(self) -> None:
        """Raises InvalidField with all faults, the first as its own, if there are any."""
        if not self._found:
            return
        first, *more = [single for fault in self._found for single in fault.each]
        raise InvalidField(first.field, first.fault, more=more) from None
