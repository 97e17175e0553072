"""The `traceparent` header (W3C Trace Context, https://www.w3.org/TR/trace-context/)."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

_FORM: Final = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")
_SAMPLED: Final = 0x01


class TraceParent(NamedTuple):
    """The trace that a call belongs to, the caller's span in it, and whether the caller records it."""

    trace_id: str
    span_id: str
    sampled: bool


def parse(text: str) -> TraceParent | None:
    """Returns what the header says; None for any other text."""
    found = _FORM.fullmatch(text)
    return TraceParent(found[1], found[2], bool(int(found[3], 16) & _SAMPLED)) if found else None
