"""What a call needs: an action on a resource, whose name may come from the call's own parameters."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple
from uuid import UUID

from jitaccess._error import named
from jitaccess.errors import InvalidArgument, Misconfigured
from jitaccess.guards.spelling import PARSERS, demand_spelt_as
from jitaccess.naming import names

_PARAMETER = re.compile(rf"\{{([A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*)(?::({'|'.join(PARSERS)}))?\}}")


class Need(NamedTuple):
    """One action on one resource, concrete names both."""

    action: str
    resource: str


class Parameter(NamedTuple):
    """A parameter of a path or resource, `{region}` or `{number:int}`; its kind is a key of PARSERS, or empty."""

    name: str
    kind: str

    @classmethod
    def of(cls, part: str) -> Parameter | None:
        """Returns the parameter that the segment is, or None."""
        found = _PARAMETER.fullmatch(part)
        return cls(found[1], found[2] or "") if found else None


class Template:
    """A resource with parameters, `database/orders/{region}`. A parameter is one whole segment, and not the first.

    `{number:int}` says what the handler makes of the text, so that only the one spelling of each value is taken: str,
    int, float, decimal, bool, uuid, date or datetime; or `kinds` says so by name. Without it the handler must take the
    text as it is.

    Raises Misconfigured for a resource or action that is none.
    """

    def __init__(self, resource: str, action: str, *, kinds: Mapping[str, str] = MappingProxyType({})) -> None:
        self.resource = resource
        self.action = action
        self._kinds = kinds
        self._segments = resource.split("/")
        parameters = [Parameter.of(part) for part in self._segments]
        self.parameters = tuple(found.name for found in parameters if found)
        try:
            named(names.resource, _PARAMETER.sub("x", resource), "resource")
            named(names.action, action, "action")
        except InvalidArgument as fault:
            raise Misconfigured(f"{resource!r}, {action!r}: {fault.message}", reason="TEMPLATE_INVALID") from None
        plain = [part for part, found in zip(self._segments, parameters, strict=True) if not found]
        if parameters[0] or len(self._segments) < 2 or any(set("{}") & set(part) for part in [*plain, action]):
            raise Misconfigured(
                f"{resource!r}, {action!r}: a resource is type/name, where each {{parameter}} is one whole segment and "
                "not the first; an action has no parameter",
                reason="TEMPLATE_INVALID",
            )

    def need(self, values: Mapping[str, object]) -> Need:
        """Returns what a call with these parameters needs.

        Raises Misconfigured for a parameter that the call does not have, InvalidArgument for a value that is not one
        whole segment: it could lead to another resource.
        """
        return Need(self.action, "/".join(self._filled(part, values) for part in self._segments))

    def _filled(self, part: str, values: Mapping[str, object]) -> str:
        parameter = Parameter.of(part)
        if parameter is None:
            return part
        name = parameter.name
        kind, value = parameter.kind or self._kinds.get(name), values.get(name)
        if kind and value is not None:
            return named(names.segment, demand_spelt_as(kind, value, name), name)
        if isinstance(value, bool) or not isinstance(value, str | int | UUID):
            raise Misconfigured(
                f"{self.resource}: the call has no parameter {name} that is text or a whole number",
                reason="TEMPLATE_PARAMETER_MISSING",
            )
        return named(names.segment, str(value), name)
