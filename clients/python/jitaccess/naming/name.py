"""Names and patterns as the service takes them: one that could be read in two ways is none.

This is the service's rule written again, since a client never imports it; docs/names.md says what both must answer.
"""

from __future__ import annotations

import re
import unicodedata
from itertools import groupby
from typing import Final

from jitaccess.errors import FieldViolation, InvalidArgument

_LONGEST: Final = {"/": 1024, ".": 256}
_MAX_SEGMENTS: Final = 64
_TYPE: Final = re.compile(r"[a-z][a-z0-9_-]*")
_ASCII: Final = {"/": re.compile(r"[ -)+-.0-~]*"), ".": re.compile(r"[A-Za-z0-9_~@:+=,$!&'();/-]*")}
_UNSEEN: Final = ("Cc", "Cf", "Cs", "Co", "Cn", "Zs", "Zl", "Zp")
# Fillers, variation selectors, a blank Braille cell; and what looks like / or *.
_DECEPTIVE: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef"
    "\u2044\u204e\u2215\u2217\u29f8]"
)
_ENCODED: Final = re.compile("%[0-9A-Fa-f]{2}")
_EAST_ASIAN: Final = frozenset(
    ("LATIN", "CJK", "IDEOGRAPHIC", "HIRAGANA", "KATAKANA", "BOPOMOFO", "HANGUL", "KATAKANA-HIRAGANA")
)
_PATTERN_FAULT: Final = (
    "must be a resource, type/name, or an action, verb or noun.verb; * may end a segment, and ** be the last"
)
_FAULT: Final = "must be one concrete name: no wildcard, no empty, `.` or `..` segment, nothing that nobody sees"
_SEGMENT_FAULT: Final = (
    "must be one whole segment: no /, \\, wildcard, `.`, `..`, percent code, nothing that nobody sees, and not empty"
)


def concrete(text: str, separator: str, field: str) -> str:
    """Returns the name in its canonical form. Raises InvalidArgument for one that could be read in two ways.

    `separator` is "/" for a resource, "." for an action.
    """
    name = unicodedata.normalize("NFC", text)
    if "*" in name or not is_pattern(name, separator):
        raise _invalid(field, _FAULT)
    return name


def pattern(text: str, separator: str, field: str) -> str:
    """Returns the pattern, or name, in its canonical form. Raises InvalidArgument; `separator` as for `concrete`."""
    canonical = unicodedata.normalize("NFC", text)
    if not is_pattern(canonical, separator):
        raise _invalid(field, _PATTERN_FAULT)
    return canonical


def segment(text: str, field: str) -> str:
    """Returns the text in its canonical form, where it is one segment of a resource. Raises InvalidArgument.

    It often comes from a URL's path. There \\ may be read as /, and a percent code that is left was encoded twice:
    whoever decodes it once more reaches another resource.
    """
    canonical = unicodedata.normalize("NFC", text)
    if "\\" in canonical or _ENCODED.search(canonical) or not _is_segment(canonical, "/"):
        raise _invalid(field, _SEGMENT_FAULT)
    return canonical


def is_pattern(text: str, separator: str) -> bool:
    """Says whether the text, which is NFC, is a pattern or a name."""
    if not text or len(text) > _LONGEST[separator]:
        return False
    *before, last = segments = text.split(separator)
    if len(segments) > _MAX_SEGMENTS or not all(_is_segment_pattern(part, separator) for part in before):
        return False
    if last != "**" and not _is_segment_pattern(last, separator):
        return False
    return separator == "." or text == "**" or (bool(before) and _has_type(text, before[0]))


def _has_type(text: str, first: str) -> bool:
    if first != "*" and not _TYPE.fullmatch(first.removesuffix("*")):
        return False
    # In http a name has the characters that a URL encodes. Only / has no other form within a segment.
    return first != "http" or all(code == "%2F" for code in _ENCODED.findall(text))


def _is_segment_pattern(part: str, separator: str) -> bool:
    if part == "*":
        return True
    # Something follows what a pattern begins with, which so may end in anything.
    whole = f"{part[:-1]}-" if part.endswith("*") else part
    return "*" not in whole and _is_segment(whole, separator)


def _is_segment(part: str, separator: str) -> bool:
    """Says whether the text, which holds no wildcard, is one segment."""
    if not part or any(_is_unsafe(character, separator) for character in part):
        return False
    if part != part.strip(" ") or "  " in part:
        return False
    if unicodedata.category(part[0])[0] == "M" or not _is_of_its_words(part):
        return False
    read = unicodedata.normalize("NFKC", part)
    if separator == ".":
        return read == part and all(part.split("/"))
    words = "".join(filter(_is_of_word, part))
    if not unicodedata.is_normalized("NFKC", words) or "/" in read or "*" in read:
        return False
    # Windows takes \ for /, and a URL's path takes %2e for a dot.
    return all(step not in (".", "..") for step in re.sub("%2[Ee]", ".", read).split("\\"))


def _is_unsafe(character: str, separator: str) -> bool:
    if character.isascii():
        return not _ASCII[separator].fullmatch(character)
    return unicodedata.category(character) in _UNSEEN or bool(_DECEPTIVE.match(character))


def _is_of_its_words(part: str) -> bool:
    """Says whether no run of letters and digits mixes scripts so that it looks like another (Unicode TR 39)."""
    if part.isascii():
        return True
    words = ["".join(word) for is_word, word in groupby(part, _is_of_word) if is_word]
    return all(_is_of_one_script(word) and _has_digits_of_one(word) for word in words)


def _is_of_word(character: str) -> bool:
    return unicodedata.category(character)[0] in "LMN"


def _is_of_one_script(word: str) -> bool:
    scripts = {
        _script(character)
        for character in word
        if unicodedata.category(character)[0] == "L" or (character.isdecimal() and not character.isascii())
    }
    return len(scripts) <= 1 or scripts <= _EAST_ASIAN


def _has_digits_of_one(word: str) -> bool:
    return len({ord(digit) - unicodedata.decimal(digit) for digit in word if digit.isdecimal()}) <= 1


def _script(character: str) -> str:
    """Returns the first word of the character's name, which is its script's."""
    first = unicodedata.name(character, "UNNAMED").split(" ")[0]
    return "ARABIC" if first in ("ARABIC-INDIC", "EXTENDED") else first


def _invalid(field: str, fault: str) -> InvalidArgument:
    return InvalidArgument(
        f"{field}: {fault}", reason="INVALID_FIELD", field_violations=(FieldViolation(field, fault),)
    )
