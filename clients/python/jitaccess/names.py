"""Concrete names, as the service takes them: one that could be read in two ways is none."""

from __future__ import annotations

import unicodedata

from jitaccess.errors import FieldViolation, InvalidArgument

_FORBIDDEN_CATEGORIES = ("Cc", "Cf", "Cs", "Co", "Cn", "Zs", "Zl", "Zp")
_FAULT = "must be one concrete name: no wildcard, no empty, `.` or `..` segment, no %, \\ or white space"
_SEGMENT_FAULT = "must be one whole segment: no /, wildcard, `.`, `..`, %, \\ or white space, and not empty"


def concrete(text: str, separator: str, field: str) -> str:
    """Returns the name in its canonical form. Raises InvalidArgument for one that could be read in two ways.

    `separator` is "/" for a resource, "." for an action.
    """
    name = unicodedata.normalize("NFC", text)
    segments = name.split(separator)
    dotted = separator == "/" and any(segment in (".", "..") for segment in segments)
    if dotted or not all(segments) or _is_unsafe(name):
        raise _invalid(field, _FAULT)
    return name


def segment(text: str, field: str) -> str:
    """Returns the text in its canonical form, where it is one segment of a resource. Raises InvalidArgument."""
    name = unicodedata.normalize("NFC", text)
    if name in ("", ".", "..") or "/" in name or _is_unsafe(name):
        raise _invalid(field, _SEGMENT_FAULT)
    return name


def _is_unsafe(name: str) -> bool:
    return any(character in "*%\\" or unicodedata.category(character) in _FORBIDDEN_CATEGORIES for character in name)


def _invalid(field: str, fault: str) -> InvalidArgument:
    return InvalidArgument(
        f"{field}: {fault}", reason="INVALID_FIELD", field_violations=(FieldViolation(field, fault),)
    )
