"""Which claims of a requester's token are kept with a request: what conditions read, or what JIT_STORED_CLAIMS names.

The claims are kept as an object. Beside them it has the names that may be read, so that a claim that the token did not
have is told from one that nobody kept: a condition such as `!has(claims.suspended)` must not be met since the claim was
left out (docs/adr/0071-keep-little-of-persons.md). An object without those names has the whole token, or, where it is
empty, nothing of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

_NAMES: Final = "(kept)"
"""Where the names are. A claim of that name is never kept."""


def keep(claims: Mapping[str, Any], names: frozenset[str] | None) -> dict[str, Any]:
    """Returns what is kept of the claims, or of kept ones: those of these names, all for None."""
    kept = {name: value for name, value in claims.items() if name != _NAMES and (names is None or name in names)}
    before = _readable(claims) if _NAMES in claims else None
    readable = before if names is None else names if before is None else names & before
    return kept if not readable else kept | {_NAMES: sorted(readable)}


def told(kept: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the claims alone, as conditions see them."""
    return {name: value for name, value in kept.items() if name != _NAMES}


def unkept(kept: Mapping[str, Any], read: Iterable[frozenset[str] | None]) -> str:
    """Returns in words what of the claims that are read was not kept; empty where all was. None reads any claim."""
    readable = _readable(kept)
    if readable is None:
        return ""
    for names in read:
        if names is None:
            return "any of the claims"
        if missing := sorted(names - readable):
            return f"claims.{missing[0]}"
    return ""


def _readable(kept: Mapping[str, Any]) -> frozenset[str] | None:
    """Returns the names that may be read; None: all."""
    names = kept.get(_NAMES, None if kept else ())
    return None if names is None else frozenset(names)
