"""Names in the fields of a call, ids of stored resources, and texts that people write.

`jitaccess.naming` says which name is acceptable, for the service and its clients alike. Here a refusal names its field.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
import uuid
from collections.abc import Callable, Iterable
from typing import Concatenate, ParamSpec

from jit_service.domain.errors import InvalidField
from jitaccess.naming import names
from jitaccess.naming.names import BadName, shown

P = ParamSpec("P")

MAX_TEXT = 4096
MAX_FOREIGN_ID = 256

_ID = re.compile(r"[0-9a-z]{1,64}")
_LABEL_KEY = re.compile(r"[a-z][a-z0-9_.-]{0,62}")
_LABEL_VALUE = re.compile(r"[A-Za-z0-9_.:@/-]{0,128}")
_UNPRINTABLE = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


def _in_field(check: Callable[Concatenate[str, P], str]) -> Callable[Concatenate[str, str, P], str]:
    """Returns the check with a second argument, the field that InvalidField names."""

    def in_field(text: str, field: str, /, *others: P.args, **named: P.kwargs) -> str:
        try:
            return check(text, *others, **named)
        except BadName as fault:
            raise InvalidField(field, str(fault)) from None

    return in_field


principal = _in_field(names.principal)
group = _in_field(names.group)
resource = _in_field(names.resource)
action = _in_field(names.action)
resource_pattern = _in_field(names.resource_pattern)
action_pattern = _in_field(names.action_pattern)
policy_name = _in_field(names.policy)
SERVICE = names.SERVICE
canonical = names.canonical
folded = names.folded


def grant_name(text: str, field: str) -> str:
    """Returns `grants/{id}`, or raises InvalidField."""
    return _name_in("grants", text, field, kind="grant")


def delegation_name(text: str, field: str) -> str:
    """Returns `delegations/{id}`, or raises InvalidField."""
    return _name_in("delegations", text, field, kind="delegation")


def lock_name(text: str, field: str) -> str:
    """Returns `locks/{id}`, or raises InvalidField."""
    return _name_in("locks", text, field, kind="lock")


def proposal_name(text: str, field: str) -> str:
    """Returns `policyProposals/{id}`, or raises InvalidField."""
    return _name_in("policyProposals", text, field, kind="proposal")


def request_id(text: str, field: str = "request_id") -> str:
    """Returns the UUID in its canonical form, empty for empty, or raises InvalidField (AIP-155)."""
    if not text:
        return ""
    try:
        identifier = str(uuid.UUID(text))
    except ValueError:
        identifier = ""
    if identifier != text.lower():
        raise InvalidField(field, f"{shown(text)} is not a UUID such as 3f0e8c4e-3a52-4a7e-9f0d-0d3f4a7a5b61")
    return identifier


def free_text(text: str, field: str, limit: int = MAX_TEXT) -> str:
    """Returns the text, NFC-normalised. Line breaks and tabs are allowed, other control characters are not."""
    normal = unicodedata.normalize("NFC", text)
    if len(normal) > limit:
        raise InvalidField(field, f"has {len(normal)} characters; at most {limit} are allowed")
    for character in normal:
        if unicodedata.category(character) in ("Cc", "Cs", "Cn") and character not in "\n\t\r":
            raise InvalidField(field, f"holds the control character U+{ord(character):04X}")
        if unicodedata.bidirectional(character) in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"):
            raise InvalidField(field, f"holds the bidirectional control U+{ord(character):04X}")
    return normal


def labels(given: dict[str, str], field: str = "labels") -> dict[str, str]:
    """Returns the labels, or raises InvalidField: at most 64, keys a-z first, 63 characters, values 128."""
    if len(given) > 64:
        raise InvalidField(field, f"has {len(given)} labels; at most 64 are allowed")
    for key, value in given.items():
        if not _LABEL_KEY.fullmatch(key):
            raise InvalidField(field, f"key {shown(key)} must be 1 to 63 of a-z, 0-9, _ . -, starting with a letter")
        if not _LABEL_VALUE.fullmatch(value):
            raise InvalidField(f"{field}.{key}", "must be at most 128 of A-Z, a-z, 0-9 and _ . : @ / -")
    return dict(sorted(given.items()))


def harmless(text: str, limit: int = 1024) -> str:
    """Returns untrusted text in a form fit for a record: control and format characters escaped, the length bounded."""
    shown = "".join(
        character if unicodedata.category(character) not in _UNPRINTABLE else f"\\u{ord(character):04x}"
        for character in text[:limit]
    )
    return shown if len(text) <= limit else f"{shown}... ({len(text)} characters)"


def foreign_id(text: str) -> str:
    """Returns an issuer's id of a person or a token in the form that records store and comparisons use.

    An id of more than 256 characters, or one that is not all printable, becomes `sha256:` and its SHA-256 in hex.
    """
    if len(text) <= MAX_FOREIGN_ID and not any(unicodedata.category(character) in _UNPRINTABLE for character in text):
        return text
    return f"sha256:{hashlib.sha256(text.encode(errors='surrogatepass')).hexdigest()}"


def listed(names: Iterable[str]) -> str:
    """Returns the names in one line of a message: in quotes where one could be read as several."""
    return ", ".join(ascii(name) if " " in name or '"' in name else name for name in names)


def _name_in(collection: str, text: str, field: str, *, kind: str) -> str:
    identifier = text.removeprefix(f"{collection}/")
    if identifier == text or not _ID.fullmatch(identifier):
        raise InvalidField(field, f"{shown(text)} is not a {kind}'s name; it must be {collection}/ID")
    return text
