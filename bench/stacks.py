"""Reads py-spy's collapsed stacks: the share of the time by function."""

from __future__ import annotations

from collections import Counter
from typing import Final

_TOP: Final = 18


def shares(stacks: str) -> str:
    """Returns a table of collapsed stacks (`outer;inner COUNT` a line): own time, and time with what it calls."""
    own: Counter[str] = Counter()
    within: Counter[str] = Counter()
    for line in stacks.splitlines():
        stack, _, count = line.rpartition(" ")
        functions = [_function(part) for part in stack.split(";")]
        if not count.isdigit() or not functions:
            continue
        own[functions[-1]] += int(count)
        for function in set(functions):
            within[function] += int(count)
    total = sum(own.values())
    if not total:
        return "no samples\n"
    lines = [
        f"{total} samples of whichever thread held the GIL; what runs outside it, as SQLite and Rust do, is not here",
        "  own  function",
    ]
    lines += [f"{count / total:5.1%}  {function}" for function, count in own.most_common(_TOP)]
    lines += ["", "  all  function, with what it calls"]
    lines += [f"{count / total:5.1%}  {function}" for function, count in within.most_common(_TOP)]
    return "\n".join(lines) + "\n"


def _function(part: str) -> str:
    """`name (file:line)` without the line, so that a function is one thing."""
    name, colon, _ = part.rpartition(":")
    return f"{name})" if colon else part
