"""The context that a caller asserts for conditions to read: a JSON object with bounds."""

from __future__ import annotations

import json
from typing import Any, Final

from jit_service.domain.errors import InvalidField

MAX_NAMES: Final = 64
MAX_CHARACTERS: Final = 16 * 1024


def checked(given: dict[str, Any], path: str = "context") -> dict[str, Any]:
    """Returns the context, or raises InvalidField."""
    if len(given) > MAX_NAMES:
        raise InvalidField(path, f"has {len(given)} names; at most {MAX_NAMES} are allowed")
    if "source_ip" in given:
        raise InvalidField(f"{path}.source_ip", "cannot be asserted; it is the address that the trusted hop saw")
    text = json.dumps(given, ensure_ascii=False)
    if len(text) > MAX_CHARACTERS:
        raise InvalidField(path, f"has {len(text)} characters of JSON; at most {MAX_CHARACTERS} are allowed")
    if "\0" in text or "\\u0000" in text:
        raise InvalidField(path, "holds the control character U+0000")
    return given
