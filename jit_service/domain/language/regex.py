"""Regular expressions of policies, in RE2: its matching time is linear, so no text can stall the service.

Syntax: https://github.com/google/re2/wiki/Syntax
"""

from __future__ import annotations

from functools import lru_cache

import re2

from jit_service.domain.errors import InvalidField
from jit_service.domain.language.name import free_text

MAX_LENGTH = 512


def validate(pattern: str, field: str) -> str:
    """Returns the pattern if RE2 can compile it, or raises InvalidField with RE2's words."""
    if len(pattern) > MAX_LENGTH:
        raise InvalidField(field, f"has {len(pattern)} characters; at most {MAX_LENGTH} are allowed")
    free_text(pattern, field)
    try:
        _compiled(pattern)
    except re2.error as fault:
        raise InvalidField(field, f"is not an RE2 expression: {_words(fault)}") from None
    return pattern


def matches(pattern: str, text: str) -> bool:
    """Returns whether the whole text matches. `.` also matches line ends, since justifications have several lines."""
    return _compiled(pattern).fullmatch(text) is not None


def demand_match(pattern: str, text: str, *, field: str, by: str) -> None:
    """Raises InvalidField unless the text matches the pattern of the policy `by`. An empty pattern matches any text."""
    if pattern and not matches(pattern, text):
        raise InvalidField(field, f"does not match {pattern} from its first character to its last, as {by} asks for")


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re2._Regexp:
    options = re2.Options()
    options.log_errors = False
    options.dot_nl = True
    options.max_mem = 1 << 20
    return re2.compile(pattern, options)


def _words(fault: re2.error) -> str:
    words = fault.args[0]
    return words.decode() if isinstance(words, bytes) else str(words)
