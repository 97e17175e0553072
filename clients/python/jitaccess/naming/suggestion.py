"""What somebody may have meant by a name that there is not."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def closest(given: str, known: Iterable[str]) -> str:
    """Returns the known name that is most like the given one, an abbreviation first; empty where none is."""
    names = sorted(known)
    beginning = [name for name in names if given and (name.startswith(given) or given.startswith(name))]
    like = beginning or difflib.get_close_matches(given, names, n=1, cutoff=0.7)
    return like[0] if like else ""


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """Returns the question to put after a fault, with its separator; empty where no known name is like it."""
    name = closest(given, known)
    return f"; did you mean {name}?" if name else ""
