"""Names: principals, resources, actions, groups and ids, and what makes one acceptable.

Text is NFC-normalised at the edge and compared byte for byte from then on; a name holds characters, never an encoding
of them. Refused in every name is what nobody sees: control, format (bidi, zero-width), surrogate, private-use and
unassigned characters, fillers, white space but single spaces within. Refused in all but groups is what is taken for
something else: letters and digits in compatibility forms (`ａ`, `ﬁ`), and a word that mixes scripts so that it looks
like another (`аlice` with a Cyrillic а), after Unicode TR 39, "highly restrictive". docs/names.md shows what is
accepted and what is not, and is a test too.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
import uuid
from collections.abc import Callable, Iterable
from functools import lru_cache
from itertools import groupby

from jit_service.domain.errors import InvalidField

MAX_PRINCIPAL = 256
MAX_RESOURCE = 1024
MAX_ACTION = 256
MAX_GROUP = 1024
MAX_SEGMENTS = 64
MAX_TEXT = 4096
MAX_FOREIGN_ID = 256
SERVICE = "service:jit-service"
"""The principal of what the service does by itself; nobody else's to claim."""
# How many actions are remembered as sound; there are few, and they come again and again.
_MAX_KNOWN = 1000

_PRINCIPAL_TYPES = ("user", "service")
_RESOURCE_TYPE = re.compile(r"[a-z][a-z0-9_-]*")
_POLICY_ID = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
_GRANT_ID = re.compile(r"[0-9a-z]{1,64}")
_LABEL_KEY = re.compile(r"[a-z][a-z0-9_.-]{0,62}")
_LABEL_VALUE = re.compile(r"[A-Za-z0-9_.:@/-]{0,128}")
# Of ASCII. A name is data and may hold what a shell, a URL or a filter reads as its own: who writes it there quotes it.
_PRINTABLE = frozenset(map(chr, range(0x20, 0x7F)))
_OF_RESOURCE = _PRINTABLE - {"/", "*"}
_OF_ACTION = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-~@:+=,$!&'();/")
# Printed and not seen (fillers, variation selectors, a blank Braille cell), or seen as the / or the * that it is not.
_DECEPTIVE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef"
    "\u2044\u204e\u2215\u2217\u29f8]"
)
# A URL's path is named by the characters that it encodes. Only / has no other form within a segment.
_ENCODED = re.compile("%(?!2F)[0-9A-Fa-f]{2}")
_DOTS = frozenset({".", ".."})
_ENCODED_DOT = re.compile("%2[Ee]")
_UNSAFE_CATEGORIES = ("Cc", "Cf", "Cs", "Co", "Cn", "Zs", "Zl", "Zp")
_UNPRINTABLE = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
# Nearly every name is as plain as this, and whatever matches is sound as it is: nothing more has to be looked at, which
# would cost more than a decision. What does not match may be sound too.
_PLAIN = r"[A-Za-z0-9_][A-Za-z0-9_.@:-]*"
_PLAIN_PRINCIPAL = re.compile(rf"(?:user|service):{_PLAIN}")
_PLAIN_RESOURCE = re.compile(rf"[a-z][a-z0-9_-]*(?:/{_PLAIN}){{1,63}}")
_PLAIN_ACTION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*(?:\.[A-Za-z0-9_][A-Za-z0-9_-]*){0,63}")
_EAST_ASIAN = frozenset(
    {"LATIN", "CJK", "IDEOGRAPHIC", "HIRAGANA", "KATAKANA", "BOPOMOFO", "HANGUL", "KATAKANA-HIRAGANA"}
)
# Digits of these have names of their own.
_SCRIPTS = {"ARABIC-INDIC": "ARABIC", "EXTENDED": "ARABIC"}


def principal(text: str, field: str, *, exact: tuple[str, ...] = ()) -> str:
    """Returns the canonical `user:…` or `service:…`, its letter case folded as by `folded`, or raises InvalidField.

    The name is whatever its provider writes: it is never read as a path or a pattern, and is quoted where it is shown.
    A `*` is refused all the same, since who reads it in a policy would take it for a pattern.
    """
    text = folded(text, exact)
    if len(text) <= MAX_PRINCIPAL and _PLAIN_PRINCIPAL.fullmatch(text):
        return _unreserved(text, field)
    name = _bounded(text, field, MAX_PRINCIPAL)
    kind, separator, rest = name.partition(":")
    if not separator or kind not in _PRINCIPAL_TYPES or not rest:
        raise InvalidField(field, f"{_shown(name)} is not a principal; it must be user:NAME or service:NAME")
    if "*" in rest:
        raise InvalidField(field, f"{_shown(name)} holds a *, but principals are named one by one, without patterns")
    _check_text(rest, _PRINTABLE, name, field)
    # What `canonical` changes but for letter case would be the same person as somebody else.
    _check_forms(rest, name, field)
    _check_words(rest, name, field)
    return _unreserved(name, field)


def folded(text: str, exact: tuple[str, ...] = ()) -> str:
    """Returns the principal with the letter case folded of what is like an e-mail address: of what holds an `@`.

    So one person has one name here, however providers and people write it, and what permits compares names as they are.
    What begins with one of `exact`, as the names of issuers do whose letter case counts, stays as it is. Only letter
    case is folded: `ß` and `ss` may be two people (RFC 5321, 2.4, lets even letter case tell them apart).
    """
    if "@" not in text or text == (lowered := text.lower()):
        return text
    return text if exact and lowered.startswith(tuple(prefix.lower() for prefix in exact)) else lowered


def group(text: str, field: str) -> str:
    """Returns the canonical group name, or raises InvalidField. It is the directory's: any text that can be seen."""
    name = _bounded(text, field, MAX_GROUP)
    if "*" in name:
        raise InvalidField(field, f"{_shown(name)} holds a *, but groups are named one by one, without patterns")
    _check_text(name, _PRINTABLE, name, field)
    return name


def resource(text: str, field: str) -> str:
    """Returns the canonical resource, `type/segment/…` without wildcards, or raises InvalidField."""
    if len(text) <= MAX_RESOURCE and _PLAIN_RESOURCE.fullmatch(text):
        return text
    return _no_wildcard(resource_pattern(text, field), field)


def action(text: str, field: str) -> str:
    """Returns the canonical action, `verb` or `noun.verb` without wildcards, or raises InvalidField.

    Dots alone separate its segments: `/` and `:` are characters of one (`pods/exec`, `s3:GetObject`).
    """
    return _no_wildcard(action_pattern(text, field), field)


def resource_pattern(text: str, field: str) -> str:
    """Returns the canonical resource pattern, or raises InvalidField."""
    if len(text) <= MAX_RESOURCE and _PLAIN_RESOURCE.fullmatch(text):
        return text
    name = _bounded(text, field, MAX_RESOURCE)
    segments = name.split("/")
    _check_pattern(segments, name, field, _check_segment)
    if segments[0] not in ("*", "**") and not _RESOURCE_TYPE.fullmatch(segments[0].removesuffix("*")):
        fault = f"{_shown(name)} must begin with its type: a-z, then a-z, 0-9, _ or -"
        raise InvalidField(field, fault)
    if len(segments) == 1 and segments[0] != "**":
        raise InvalidField(field, f"{_shown(name)} has only a type; write type/name")
    if segments[0] == "http" and (encoded := _ENCODED.search(name)):
        raise InvalidField(field, f"{_shown(name)} holds {encoded[0]}; in http a name has the character, not its code")
    return name


@lru_cache(maxsize=_MAX_KNOWN)
def action_pattern(text: str, field: str) -> str:
    """Returns the canonical action pattern, or raises InvalidField."""
    if len(text) <= MAX_ACTION and _PLAIN_ACTION.fullmatch(text):
        return text
    name = _bounded(text, field, MAX_ACTION)
    _check_pattern(name.split("."), name, field, _check_part)
    return name


def policy_name(text: str, field: str) -> str:
    """Returns `policies/{id}`; the bare id is taken for it. Raises InvalidField."""
    identifier = text.removeprefix("policies/")
    if not _POLICY_ID.fullmatch(identifier):
        allowed = "policies/ID, where ID is 1 to 63 of a-z, 0-9 and -, starts with a letter and does not end with -"
        raise InvalidField(field, f"{_shown(text)} is not a policy's name; it must be {allowed}")
    return f"policies/{identifier}"


def grant_name(text: str, field: str) -> str:
    """Returns `grants/{id}`, or raises InvalidField."""
    if not text.startswith("grants/") or not _GRANT_ID.fullmatch(text.removeprefix("grants/")):
        raise InvalidField(field, f"{_shown(text)} is not a grant's name; it must be grants/ID")
    return text


def delegation_name(text: str, field: str) -> str:
    """Returns `delegations/{id}`, or raises InvalidField."""
    if not text.startswith("delegations/") or not _GRANT_ID.fullmatch(text.removeprefix("delegations/")):
        raise InvalidField(field, f"{_shown(text)} is not a delegation's name; it must be delegations/ID")
    return text


def lock_name(text: str, field: str) -> str:
    """Returns `locks/{id}`, or raises InvalidField."""
    if not text.startswith("locks/") or not _GRANT_ID.fullmatch(text.removeprefix("locks/")):
        raise InvalidField(field, f"{_shown(text)} is not a lock's name; it must be locks/ID")
    return text


def proposal_name(text: str, field: str) -> str:
    """Returns `policyProposals/{id}`, or raises InvalidField."""
    if not text.startswith("policyProposals/") or not _GRANT_ID.fullmatch(text.removeprefix("policyProposals/")):
        raise InvalidField(field, f"{_shown(text)} is not a proposal's name; it must be policyProposals/ID")
    return text


def request_id(text: str, field: str = "request_id") -> str:
    """Returns the UUID in its canonical form, empty for empty, or raises InvalidField (AIP-155)."""
    if not text:
        return ""
    try:
        identifier = str(uuid.UUID(text))
    except ValueError:
        identifier = ""
    if identifier != text.lower():
        raise InvalidField(field, f"{_shown(text)} is not a UUID such as 3f0e8c4e-3a52-4a7e-9f0d-0d3f4a7a5b61")
    return identifier


def free_text(text: str, field: str, limit: int = MAX_TEXT) -> str:
    """Returns people's words, NFC-normalised. Line breaks and tabs are allowed, other control characters are not."""
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
            raise InvalidField(field, f"key {_shown(key)} must be 1 to 63 of a-z, 0-9, _ . -, starting with a letter")
        if not _LABEL_VALUE.fullmatch(value):
            raise InvalidField(f"{field}.{key}", "must be at most 128 of A-Z, a-z, 0-9 and _ . : @ / -")
    return dict(sorted(given.items()))


def harmless(text: str, limit: int = 1024) -> str:
    """Returns text of unknown origin fit for a record: control and format characters escaped, its length bounded."""
    shown = "".join(
        character if unicodedata.category(character) not in _UNPRINTABLE else f"\\u{ord(character):04x}"
        for character in text[:limit]
    )
    return shown if len(text) <= limit else f"{shown}... ({len(text)} characters)"


def foreign_id(text: str) -> str:
    """Returns an issuer's id of a person or a token as it is recorded and compared: itself, where it can be shown.

    What is longer than 256 characters or not all printable stands there as `sha256:` and its SHA-256 in hex.
    """
    if len(text) <= MAX_FOREIGN_ID and not any(unicodedata.category(character) in _UNPRINTABLE for character in text):
        return text
    return f"sha256:{hashlib.sha256(text.encode(errors='surrogatepass')).hexdigest()}"


def listed(names: Iterable[str]) -> str:
    """Returns the names in one line of a message: in quotes where one could be read as several."""
    return ", ".join(ascii(name) if " " in name or '"' in name else name for name in names)


def canonical(name: str) -> str:
    """Returns the key by which two principals are the same person wherever that forbids, counts or is owed.

    Letter case and compatibility forms are folded, of every name: whatever looks the same is.
    """
    return name.lower() if name.isascii() else _canonical(name)


@lru_cache(maxsize=4096)
def _canonical(name: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def _unreserved(name: str, field: str) -> str:
    if name.startswith("service:") and canonical(name) == SERVICE:
        raise InvalidField(field, f"{_shown(name)} is the service itself, and nobody else")
    return name


def _bounded(text: str, field: str, limit: int) -> str:
    if not text:
        raise InvalidField(field, "is required")
    if len(text) > limit:
        raise InvalidField(field, f"has {len(text)} characters; at most {limit} are allowed")
    normal = unicodedata.normalize("NFC", text)
    if len(normal) > limit:
        raise InvalidField(field, f"has {len(normal)} characters once normalised; at most {limit} are allowed")
    return normal


def _check_pattern(segments: list[str], name: str, field: str, check: Callable[[str, str, str], None]) -> None:
    if len(segments) > MAX_SEGMENTS:
        raise InvalidField(field, f"has {len(segments)} segments; at most {MAX_SEGMENTS} are allowed")
    for position, segment in enumerate(segments):
        if segment == "*" or (segment == "**" and position == len(segments) - 1):
            continue
        if segment == "**":
            raise InvalidField(field, f"{_shown(name)} has ** before its end; ** may only be the last segment")
        if "*" in segment[:-1]:
            fault = f"{_shown(name)} has * inside a segment; * may end a segment, or be the whole of it"
            raise InvalidField(field, fault)
        # Something follows what the pattern begins with, which so may end in anything.
        check(f"{segment[:-1]}-" if segment.endswith("*") else segment, name, field)


def _check_segment(segment: str, name: str, field: str) -> None:
    """Raises InvalidField for what is no segment of a resource."""
    if not segment:
        raise InvalidField(field, f"{_shown(name)} has an empty segment")
    _check_text(segment, _OF_RESOURCE, name, field)
    # Symbols may have such forms, as in `№ 5 …`, where no / comes of them.
    if not segment.isascii():
        _check_forms("".join(filter(_is_of_word, segment)), name, field)
    read = unicodedata.normalize("NFKC", segment)
    # Windows takes \\ for /, and a URL's path takes %2e for a dot.
    if not {"/", "*"}.isdisjoint(read) or not _DOTS.isdisjoint(_ENCODED_DOT.sub(".", read).split("\\")):
        raise InvalidField(field, f"{_shown(name)} has the segment {_shown(segment)}, which could mean another path")
    _check_words(segment, name, field)


def _check_part(part: str, name: str, field: str) -> None:
    """Raises InvalidField for what is no part of an action between dots."""
    if not all(part.split("/")):
        raise InvalidField(field, f"{_shown(name)} has an empty segment")
    _check_text(part, _OF_ACTION, name, field)
    _check_forms(part, name, field)
    _check_words(part, name, field)


def _check_text(text: str, allowed: frozenset[str], name: str, field: str) -> None:
    """Raises InvalidField for what cannot be seen; of ASCII only `allowed` can be had."""
    for character in text if not allowed.issuperset(text) else ():
        if character in allowed:
            continue
        unsafe = character.isascii() or unicodedata.category(character) in _UNSAFE_CATEGORIES
        if unsafe or _DECEPTIVE.match(character):
            raise InvalidField(field, f"{_shown(name)} holds {_shown(character)} (U+{ord(character):04X})")
    if text.startswith(" ") or text.endswith(" ") or "  " in text:
        raise InvalidField(field, f"{_shown(name)} has a space at an end, or two in a row, which nobody sees")
    if unicodedata.category(text[0]).startswith("M"):
        raise InvalidField(field, f"{_shown(name)} has a mark with no letter before it")


def _check_forms(text: str, name: str, field: str) -> None:
    if not unicodedata.is_normalized("NFKC", text):
        raise InvalidField(field, f"{_shown(name)} holds a compatibility character that looks like another")


def _check_words(text: str, name: str, field: str) -> None:
    """Raises InvalidField where a run of letters and digits mixes scripts, or the digits of several."""
    if text.isascii():
        return
    for is_word, characters in groupby(text, _is_of_word):
        word = "".join(characters) if is_word else ""
        digits = [character for character in word if character.isdecimal()]
        scripts = {_script(character) for character in word if unicodedata.category(character)[0] == "L"}
        scripts |= {_script(digit) for digit in digits if not digit.isascii()}
        if len(scripts) > 1 and not scripts <= _EAST_ASIAN:
            raise InvalidField(field, f"{_shown(name)} mixes the scripts {', '.join(sorted(scripts))} in one word")
        if len({ord(digit) - unicodedata.decimal(digit) for digit in digits}) > 1:
            raise InvalidField(field, f"{_shown(name)} mixes the digits of several scripts in one word")


def _is_of_word(character: str) -> bool:
    """Says whether it is a letter, a mark or a digit; whatever else stands between two words parts them."""
    return unicodedata.category(character)[0] in "LMN"


def _script(character: str) -> str:
    """Returns the first word of the character's Unicode name, which is its script's for letters and digits."""
    first = unicodedata.name(character, "UNNAMED").split(" ")[0]
    return _SCRIPTS.get(first, first)


def _no_wildcard(name: str, field: str) -> str:
    if "*" in name:
        raise InvalidField(field, f"{_shown(name)} has a wildcard; here it must be one concrete name")
    return name


def _shown(text: str) -> str:
    """Returns text quoted for a message: escaped, and cut where the fault is plain without the rest."""
    return ascii(text if len(text) <= 80 else text[:77] + "...")
