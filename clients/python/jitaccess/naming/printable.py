"""Text that harms nobody who looks at it: what a terminal or a mail would act on, or would hide, as visible escapes."""

from __future__ import annotations

import unicodedata

# Controls (ESC and the C1 set among them), format characters (bidi, zero-width), surrogates, private use, unassigned,
# and the two separators that break lines.
_HARMFUL = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def safe(text: str) -> str:
    """Returns the text with what a terminal would act on, or would hide, as visible escapes."""
    return "".join(_shown(character) for character in text)


def safe_lines(text: str) -> str:
    """Returns the text as `safe` does, but for its line breaks."""
    return "\n".join(safe(line) for line in text.replace("\r\n", "\n").split("\n"))


def _shown(character: str) -> str:
    if unicodedata.category(character) not in _HARMFUL:
        return character
    return character.encode("unicode_escape").decode("ascii")
