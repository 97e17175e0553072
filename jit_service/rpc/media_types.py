"""Media types of HTTP bodies."""

from __future__ import annotations

import re
from functools import cache
from typing import Final

JSON: Final = "application/json"
FORM: Final = "application/x-www-form-urlencoded"


def is_utf8(content_type: str, media_type: str) -> bool:
    """Returns whether the content type is the media type, in UTF-8 where it names a charset."""
    return bool(_pattern(media_type).fullmatch(content_type))


@cache
def _pattern(media_type: str) -> re.Pattern[str]:
    return re.compile(rf'{re.escape(media_type)} *(; *charset=("?)utf-8\2 *)?', re.IGNORECASE | re.ASCII)
