"""Patterns over paths and dotted actions.

A `*` at the end of a segment matches the rest of that segment, which may be nothing: `prod-*` is `prod-`, `prod-eu` and
`prod-us`. Alone it is one whole segment, and `**` (last only) one or more of them. No other `*` is a pattern
(`name.resource_pattern`). A name is a pattern without wildcards, so one function, `covers`, answers both "does this
pattern match this name" and "is this pattern within that one".
"""

from __future__ import annotations

from collections.abc import Iterable


def covers(outer: str, inner: str, separator: str) -> bool:
    """Says whether every name that `inner` matches is matched by `outer`. Byte-exact, O(segments)."""
    if outer == inner:
        return True
    if "*" not in outer:
        return False
    outer_segments, inner_segments = outer.split(separator), inner.split(separator)
    if outer_segments[-1] == "**":
        fixed = outer_segments[:-1]
        # ** needs at least one segment of its own.
        return len(inner_segments) > len(fixed) and _each_covers(fixed, inner_segments)
    if len(outer_segments) != len(inner_segments) or inner_segments[-1] == "**":
        return False
    return _each_covers(outer_segments, inner_segments)


class Names:
    """What several patterns match together, prepared for many names. Concrete names only: it knows no pattern."""

    __slots__ = ("_exact", "_others", "_prefixes", "_separator")

    def __init__(self, patterns: Iterable[str], separator: str) -> None:
        patterns = tuple(patterns)
        wild = [pattern for pattern in patterns if "*" in pattern]
        below = [pattern for pattern in wild if "*" not in pattern.removesuffix("**")]
        self._separator = separator
        self._exact = frozenset(patterns) - frozenset(wild)
        # `a/b/**` matches whatever begins with `a/b/`, since no name has an empty segment.
        self._prefixes = tuple(pattern.removesuffix("**") for pattern in below)
        self._others = tuple(pattern for pattern in wild if pattern not in below)

    def __contains__(self, name: str) -> bool:
        if name in self._exact or name.startswith(self._prefixes):
            return True
        return bool(self._others) and any(covers(pattern, name, self._separator) for pattern in self._others)


def resource_covered(resource: str, patterns: Iterable[str]) -> bool:
    """Says whether one of the resource patterns covers `resource`, a name or a pattern."""
    return _covered(resource, patterns, "/")


def action_covered(action: str, patterns: Iterable[str]) -> bool:
    """Says whether one of the action patterns covers `action`, a name or a pattern."""
    return _covered(action, patterns, ".")


def overlap(left: str, right: str, separator: str) -> bool:
    """Says whether some name matches both patterns."""
    ours, theirs = left.split(separator), right.split(separator)
    for mine, other in zip(ours, theirs, strict=False):
        if "**" in (mine, other):
            return True
        if not _meet(mine, other):
            return False
    return len(ours) == len(theirs)


def reaches_into(pattern: str, prefix: str) -> bool:
    """Says whether the resource pattern matches what `prefix` matches or anything below that; in `prefix` is no **."""
    wanted, below = pattern.split("/"), prefix.split("/")
    for left, right in zip(wanted, below, strict=False):
        if left == "**":
            return True
        if not _meet(left, right):
            return False
    return len(wanted) >= len(below)


def _covered(name: str, patterns: Iterable[str], separator: str) -> bool:
    # Loops, not generators: this is most of what a check does.
    for pattern in patterns:  # noqa: SIM110
        if pattern == name or ("*" in pattern and covers(pattern, name, separator)):
            return True
    return False


def _each_covers(outer: list[str], inner: list[str]) -> bool:
    """Compares as many segments as `outer` has; `inner` has at least that many, and no ** among them."""
    for left, right in zip(outer, inner, strict=False):
        if left == right or left == "*":
            continue
        # What is within `prod-*` begins with `prod-`, be it a name or a narrower pattern.
        if not (left.endswith("*") and right.startswith(left[:-1])):
            return False
    return True


def _meet(left: str, right: str) -> bool:
    """Says whether some segment is matched by both, neither of which is **."""
    if left.endswith("*"):
        begun = left[:-1]
        return right.startswith(begun) or (right.endswith("*") and begun.startswith(right[:-1]))
    return left == right or (right.endswith("*") and left.startswith(right[:-1]))
