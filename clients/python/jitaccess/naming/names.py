"""Names of principals, groups, resources and actions, and what makes one acceptable.

Text is NFC-normalised where it comes in and compared byte for byte from then on. A name holds characters, never an
encoding of them. No name may hold a character that nobody sees: control, format (bidi, zero-width), surrogate,
private-use and unassigned characters, fillers, white space other than single spaces within. All names but those of
groups refuse characters that look like others: letters and digits in compatibility forms (`ａ`, `ﬁ`), and a word that
mixes scripts (`аlice` with a Cyrillic а), after Unicode TR 39, "highly restrictive". docs/names.md lists what is
accepted and what is not, and is a test too.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache
from itertools import groupby

MAX_PRINCIPAL = 256
MAX_RESOURCE = 1024
MAX_ACTION = 256
MAX_GROUP = 1024
MAX_SEGMENTS = 64
SERVICE = "service:jit-service"
"""The principal of the service itself, which no caller may claim."""
# How many sound actions are kept; there are few, and they come again and again.
_MAX_KNOWN = 1000

_POLICY_ID = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
_PRINCIPAL_TYPES = ("user", "service")
_RESOURCE_TYPE = re.compile(r"[a-z][a-z0-9_-]*")
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
_CODE = re.compile("%[0-9A-Fa-f]{2}")
_DOTS = frozenset({".", ".."})
_ENCODED_DOT = re.compile("%2[Ee]")
_UNSAFE_CATEGORIES = ("Cc", "Cf", "Cs", "Co", "Cn", "Zs", "Zl", "Zp")
# Nearly every name matches these, and a name that does is sound: nothing more has to be looked at, which would cost
# more than a decision. A name that does not match may be sound too.
_PLAIN = r"[A-Za-z0-9_][A-Za-z0-9_.@:-]*"
_PLAIN_PRINCIPAL = re.compile(rf"(?:user|service):{_PLAIN}")
_PLAIN_RESOURCE = re.compile(rf"[a-z][a-z0-9_-]*(?:/{_PLAIN}){{1,63}}")
_PLAIN_ACTION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*(?:\.[A-Za-z0-9_][A-Za-z0-9_-]*){0,63}")
_EAST_ASIAN = frozenset(
    {"LATIN", "CJK", "IDEOGRAPHIC", "HIRAGANA", "KATAKANA", "BOPOMOFO", "HANGUL", "KATAKANA-HIRAGANA"}
)
# Digits of these have names of their own.
_SCRIPTS = {"ARABIC-INDIC": "ARABIC", "EXTENDED": "ARABIC"}


class BadName(ValueError):
    """A text that is no such name. The message is what is wrong with it, in ASCII, to follow the field's name."""


def principal(text: str, *, exact: tuple[str, ...] = ()) -> str:
    """Returns the canonical `user:…` or `service:…`, its letter case folded as by `folded`, or raises BadName.

    NAME is what its provider writes: nothing reads it as a path or a pattern, and messages quote it. A `*` is refused
    all the same, since readers of a policy would take it for a pattern.
    """
    text = folded(text, exact)
    if len(text) <= MAX_PRINCIPAL and _PLAIN_PRINCIPAL.fullmatch(text):
        return _unreserved(text)
    name = _bounded(text, MAX_PRINCIPAL)
    kind, separator, rest = name.partition(":")
    if not separator or kind not in _PRINCIPAL_TYPES or not rest:
        raise BadName(f"{shown(name)} is not a principal; it must be user:NAME or service:NAME")
    if "*" in rest:
        raise BadName(f"{shown(name)} holds a *, but principals are named one by one, without patterns")
    _check_text(rest, _PRINTABLE, name)
    # `canonical` folds compatibility characters too, so a name that holds one would be another person's.
    _check_forms(rest, name)
    _check_words(rest, name)
    return _unreserved(name)


def folded(text: str, exact: tuple[str, ...] = ()) -> str:
    """Returns the principal in lower case where it holds an `@`, as an e-mail address does.

    So one person has one name, however providers and people write it, and rules that permit compare names as they are.
    A principal that begins with one of `exact` stays as it is: those are of issuers whose letter case counts. Only
    letter case is folded: `ß` and `ss` may be two people (RFC 5321, 2.4, lets even letter case tell them apart).
    """
    if "@" not in text or text == (lowered := text.lower()):
        return text
    return text if exact and lowered.startswith(tuple(prefix.lower() for prefix in exact)) else lowered


def group(text: str) -> str:
    """Returns the canonical group name, or raises BadName. The directory names groups: any visible text may be one."""
    name = _bounded(text, MAX_GROUP)
    if "*" in name:
        raise BadName(f"{shown(name)} holds a *, but groups are named one by one, without patterns")
    _check_text(name, _PRINTABLE, name)
    return name


def policy(text: str) -> str:
    """Returns `policies/{id}`, also for the bare id, or raises BadName."""
    identifier = text.removeprefix("policies/")
    if not _POLICY_ID.fullmatch(identifier):
        allowed = "policies/ID, where ID is 1 to 63 of a-z, 0-9 and -, starts with a letter and does not end with -"
        raise BadName(f"{shown(text)} is not a policy's name; it must be {allowed}")
    return f"policies/{identifier}"


def resource(text: str) -> str:
    """Returns the canonical resource, `type/segment/…` without wildcards, or raises BadName."""
    if len(text) <= MAX_RESOURCE and _PLAIN_RESOURCE.fullmatch(text):
        return text
    return _no_wildcard(resource_pattern(text))


def action(text: str) -> str:
    """Returns the canonical action, `verb` or `noun.verb` without wildcards, or raises BadName.

    Only dots separate segments: `/` and `:` are characters within one (`pods/exec`, `s3:GetObject`).
    """
    return _no_wildcard(action_pattern(text))


def resource_pattern(text: str) -> str:
    """Returns the canonical resource pattern, or raises BadName."""
    if len(text) <= MAX_RESOURCE and _PLAIN_RESOURCE.fullmatch(text):
        return text
    name = _bounded(text, MAX_RESOURCE)
    segments = name.split("/")
    _check_pattern(segments, name, _check_segment)
    if segments[0] not in ("*", "**") and not _RESOURCE_TYPE.fullmatch(segments[0].removesuffix("*")):
        raise BadName(f"{shown(name)} must begin with its type: a-z, then a-z, 0-9, _ or -")
    if len(segments) == 1 and segments[0] != "**":
        raise BadName(f"{shown(name)} has only a type; write type/name")
    if segments[0] == "http" and (encoded := _ENCODED.search(name)):
        raise BadName(f"{shown(name)} holds {encoded[0]}; in http a name has the character, not its code")
    return name


@lru_cache(maxsize=_MAX_KNOWN)
def action_pattern(text: str) -> str:
    """Returns the canonical action pattern, or raises BadName."""
    if len(text) <= MAX_ACTION and _PLAIN_ACTION.fullmatch(text):
        return text
    name = _bounded(text, MAX_ACTION)
    _check_pattern(name.split("."), name, _check_part)
    return name


def segment(text: str) -> str:
    """Returns the canonical segment of a resource, or raises BadName.

    It often comes from a URL's path. There a `\\` may be read as `/`, and a percent code that is still there was
    encoded twice: a reader that decodes it once more reaches another resource.
    """
    name = unicodedata.normalize("NFC", text)
    if "\\" in name or _CODE.search(name):
        raise BadName(f"{shown(name)} holds a \\ or a percent code, which could mean another path")
    _check_segment(name, name)
    return name


def is_resource(text: str) -> bool:
    """Returns whether the text is a canonical resource."""
    return _is(resource, text)


def is_action(text: str) -> bool:
    """Returns whether the text is a canonical action."""
    return _is(action, text)


def canonical(name: str) -> str:
    """Returns the key by which two principals are one person, in rules that forbid, count or demand a review.

    Letter case and compatibility forms of every name are folded: two names that look the same have one key.
    """
    return name.lower() if name.isascii() else _canonical(name)


@lru_cache(maxsize=4096)
def _canonical(name: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def shown(text: str) -> str:
    """Returns the text quoted for a message: as ASCII, and no more than its first 77 characters."""
    return ascii(text if len(text) <= 80 else text[:77] + "...")


def _is(check: Callable[[str], str], text: str) -> bool:
    try:
        return check(text) == text
    except BadName:
        return False


def _unreserved(name: str) -> str:
    if name.startswith("service:") and canonical(name) == SERVICE:
        raise BadName(f"{shown(name)} is the service itself, and nobody else")
    return name


def _bounded(text: str, limit: int) -> str:
    if not text:
        raise BadName("is required")
    if len(text) > limit:
        raise BadName(f"has {len(text)} characters; at most {limit} are allowed")
    normal = unicodedata.normalize("NFC", text)
    if len(normal) > limit:
        raise BadName(f"has {len(normal)} characters once normalised; at most {limit} are allowed")
    return normal


def _check_pattern(segments: list[str], name: str, check: Callable[[str, str], None]) -> None:
    if len(segments) > MAX_SEGMENTS:
        raise BadName(f"has {len(segments)} segments; at most {MAX_SEGMENTS} are allowed")
    for position, segment in enumerate(segments):
        if segment == "*" or (segment == "**" and position == len(segments) - 1):
            continue
        if segment == "**":
            raise BadName(f"{shown(name)} has ** before its end; ** may only be the last segment")
        if "*" in segment[:-1]:
            fault = f"{shown(name)} has * inside a segment; * may end a segment, or be the whole of it"
            raise BadName(fault)
        # Any text may follow the beginning, so the beginning may end in any character, as in the middle of a segment.
        check(f"{segment[:-1]}-" if segment.endswith("*") else segment, name)


def _check_segment(segment: str, name: str) -> None:
    """Raises BadName for what is no segment of a resource."""
    if not segment:
        raise BadName(f"{shown(name)} has an empty segment")
    _check_text(segment, _OF_RESOURCE, name)
    # Symbols may be compatibility characters, as in `№ 5 …`, where none of them becomes a /.
    if not segment.isascii():
        _check_forms("".join(filter(_is_of_word, segment)), name)
    read = unicodedata.normalize("NFKC", segment)
    # Windows takes \\ for /, and a URL's path takes %2e for a dot.
    if not {"/", "*"}.isdisjoint(read) or not _DOTS.isdisjoint(_ENCODED_DOT.sub(".", read).split("\\")):
        raise BadName(f"{shown(name)} has the segment {shown(segment)}, which could mean another path")
    _check_words(segment, name)


def _check_part(part: str, name: str) -> None:
    """Raises BadName for what is no part of an action between dots."""
    if not all(part.split("/")):
        raise BadName(f"{shown(name)} has an empty segment")
    _check_text(part, _OF_ACTION, name)
    _check_forms(part, name)
    _check_words(part, name)


def _check_text(text: str, allowed: frozenset[str], name: str) -> None:
    """Raises BadName for a character that nobody sees, and for one of ASCII that is not in `allowed`."""
    for character in text if not allowed.issuperset(text) else ():
        if character in allowed:
            continue
        unsafe = character.isascii() or unicodedata.category(character) in _UNSAFE_CATEGORIES
        if unsafe or _DECEPTIVE.match(character):
            raise BadName(f"{shown(name)} holds {shown(character)} (U+{ord(character):04X})")
    if text.startswith(" ") or text.endswith(" ") or "  " in text:
        raise BadName(f"{shown(name)} has a space at an end, or two in a row, which nobody sees")
    if unicodedata.category(text[0]).startswith("M"):
        raise BadName(f"{shown(name)} has a mark with no letter before it")


def _check_forms(text: str, name: str) -> None:
    if not unicodedata.is_normalized("NFKC", text):
        raise BadName(f"{shown(name)} holds a compatibility character that looks like another")


def _check_words(text: str, name: str) -> None:
    """Raises BadName where a run of letters and digits mixes scripts, or the digits of several."""
    if text.isascii():
        return
    for is_word, characters in groupby(text, _is_of_word):
        word = "".join(characters) if is_word else ""
        digits = [character for character in word if character.isdecimal()]
        scripts = {_script(character) for character in word if unicodedata.category(character)[0] == "L"}
        scripts |= {_script(digit) for digit in digits if not digit.isascii()}
        if len(scripts) > 1 and not scripts <= _EAST_ASIAN:
            raise BadName(f"{shown(name)} mixes the scripts {', '.join(sorted(scripts))} in one word")
        if len({ord(digit) - unicodedata.decimal(digit) for digit in digits}) > 1:
            raise BadName(f"{shown(name)} mixes the digits of several scripts in one word")


def _is_of_word(character: str) -> bool:
    """Returns whether it is a letter, a mark or a digit. Any other character separates two words."""
    return unicodedata.category(character)[0] in "LMN"


def _script(character: str) -> str:
    """Returns the first word of the character's Unicode name, which is its script's for letters and digits."""
    first = unicodedata.name(character, "UNNAMED").split(" ")[0]
    return _SCRIPTS.get(first, first)


def _no_wildcard(name: str) -> str:
    if "*" in name:
        raise BadName(f"{shown(name)} has a wildcard; here it must be one concrete name")
    return name
