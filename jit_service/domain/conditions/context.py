"""The context that a caller asserts and conditions read: a JSON object of bounded size."""

from __future__ import annotations

import json
from typing import Any, Final

from jit_service.domain.caller import Caller
from jit_service.domain.errors import InvalidField
from jit_service.domain.language.ip_address import canonical
from jit_service.domain.language.name import harmless

MAX_NAMES: Final = 64
MAX_CHARACTERS: Final = 16 * 1024
SOURCE_IP: Final = "source_ip"
"""The name under which conditions read the subject's address."""


def of_question(caller: Caller, asserted: dict[str, Any] | None, *, itself: bool) -> tuple[dict[str, Any], str]:
    """Returns the context of a check, and the address of its subject, which is never the address of another caller.

    Raises InvalidField.
    """
    if itself:
        return of_oneself(asserted) if asserted else {}, caller.origin.source_address
    return of_another(asserted) if asserted else ({}, "")


def of_oneself(given: dict[str, Any], path: str = "context") -> dict[str, Any]:
    """Returns the context of a caller that asks for itself. Raises InvalidField, also for an asserted address."""
    if SOURCE_IP in given:
        raise InvalidField(f"{path}.{SOURCE_IP}", "cannot be asserted; it is the address that the trusted hop saw")
    return demand_bounds(given, path)


def of_another(given: dict[str, Any], path: str = "context") -> tuple[dict[str, Any], str]:
    """Returns the context of a question about another subject, and separately the address of that subject.

    The address is empty if the caller does not give it. Raises InvalidField, also for text that is no address.
    """
    context = demand_bounds(given, path)
    if SOURCE_IP not in context:
        return context, ""
    asserted = context[SOURCE_IP]
    # A zone (RFC 4007) has a meaning on one machine only, and can contain any text.
    address = canonical(asserted) if isinstance(asserted, str) and "%" not in asserted else ""
    if not address:
        shown = harmless(asserted, 80) if isinstance(asserted, str) else type(asserted).__name__
        raise InvalidField(f"{path}.{SOURCE_IP}", f"is {shown!a}; it must be an IP address, such as 192.0.2.7")
    return {key: value for key, value in context.items() if key != SOURCE_IP}, address


def demand_bounds(given: dict[str, Any], path: str = "context") -> dict[str, Any]:
    """Returns the context if it is within the bounds, which hold for every caller, or raises InvalidField."""
    if len(given) > MAX_NAMES:
        raise InvalidField(path, f"has {len(given)} names; at most {MAX_NAMES} are allowed")
    text = json.dumps(given, ensure_ascii=False)
    if len(text) > MAX_CHARACTERS:
        raise InvalidField(path, f"has {len(text)} characters of JSON; at most {MAX_CHARACTERS} are allowed")
    if "\0" in text or "\\u0000" in text:
        raise InvalidField(path, "holds the control character U+0000")
    return given
