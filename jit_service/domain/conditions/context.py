"""The context that a caller asserts for conditions to read: a JSON object with bounds."""

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
    """Returns the context of a question, and its subject's address: never the asker's where that is another.

    Raises InvalidField.
    """
    if itself:
        return of_oneself(asserted) if asserted else {}, caller.origin.source_address
    return of_another(asserted) if asserted else ({}, "")


def of_oneself(given: dict[str, Any], path: str = "context") -> dict[str, Any]:
    """Returns the context of whoever speaks for itself, or raises InvalidField: its address is what we see."""
    if SOURCE_IP in given:
        raise InvalidField(f"{path}.{SOURCE_IP}", "cannot be asserted; it is the address that the trusted hop saw")
    return demand_bounds(given, path)


def of_another(given: dict[str, Any], path: str = "context") -> tuple[dict[str, Any], str]:
    """Returns the context of a question about somebody else, and the subject's address apart from it.

    The address is empty where the asker does not tell it. Raises InvalidField, also for an address that is none.
    """
    context = demand_bounds(given, path)
    if SOURCE_IP not in context:
        return context, ""
    told = context[SOURCE_IP]
    # A zone (RFC 4007) means something on one machine only, and can hold any text.
    address = canonical(told) if isinstance(told, str) and "%" not in told else ""
    if not address:
        shown = harmless(told, 80) if isinstance(told, str) else type(told).__name__
        raise InvalidField(f"{path}.{SOURCE_IP}", f"is {shown!a}; it must be an IP address, such as 192.0.2.7")
    return {key: value for key, value in context.items() if key != SOURCE_IP}, address


def demand_bounds(given: dict[str, Any], path: str = "context") -> dict[str, Any]:
    """Returns what anybody may assert of whomever, or raises InvalidField."""
    if len(given) > MAX_NAMES:
        raise InvalidField(path, f"has {len(given)} names; at most {MAX_NAMES} are allowed")
    text = json.dumps(given, ensure_ascii=False)
    if len(text) > MAX_CHARACTERS:
        raise InvalidField(path, f"has {len(text)} characters of JSON; at most {MAX_CHARACTERS} are allowed")
    if "\0" in text or "\\u0000" in text:
        raise InvalidField(path, "holds the control character U+0000")
    return given
