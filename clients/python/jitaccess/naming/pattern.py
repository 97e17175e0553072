"""Patterns of resources and actions, and what they match.

A `*` at the end of a segment matches the rest of that segment, which may be nothing: `prod-*` is `prod-`, `prod-eu` and
`prod-us`. Alone it is one whole segment, and `**` (last only) is one or more of them. No other `*` is allowed
(`names.resource_pattern`). A name is a pattern without wildcards, so one function, `covers`, answers both "does this
pattern match this name" and "is this pattern within that one".

Patterns and names are canonical here, as `names` returns them. `separator` is "/" for resources, "." for actions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def covers(outer: str, inner: str, separator: str) -> bool:
    """Returns whether `outer` matches every name that `inner` matches. Byte-exact, O(segments)."""
    if outer == inner:
        return True
    if "*" not in outer:
        return False
    return _covers(outer.split(separator), inner.split(separator))


class Patterns:
    """Several patterns, prepared for many names."""

    __slots__ = ("_exact", "_others", "_prefixes", "_separator", "_texts")

    def __init__(self, patterns: Iterable[str], separator: str) -> None:
        self._texts = tuple(patterns)
        wild = [pattern for pattern in self._texts if "*" in pattern]
        below = [pattern for pattern in wild if "*" not in pattern.removesuffix("**")]
        self._separator = separator
        self._exact = frozenset(self._texts) - frozenset(wild)
        # `a/b/**` matches whatever begins with `a/b/`, since no name has an empty segment.
        self._prefixes = tuple(pattern.removesuffix("**") for pattern in below)
        self._others = tuple(pattern.split(separator) for pattern in wild if pattern not in below)

    def match(self, name: str) -> bool:
        """Returns whether one of them matches the name, which holds no wildcard."""
        if name in self._exact or name.startswith(self._prefixes):
            return True
        if not self._others:
            return False
        segments = name.split(self._separator)
        return any(_covers(pattern, segments) for pattern in self._others)

    def hold(self, name: str) -> bool:
        """Returns whether the name itself is one of them."""
        return name in self._exact

    def overlap(self, others: Patterns) -> bool:
        """Returns whether some name matches one of them and one of the others."""
        return any(overlap(ours, theirs, self._separator) for ours in self._texts for theirs in others._texts)

    def cover_one_of(self, others: Patterns) -> bool:
        """Returns whether one of them matches every name that one of the others matches."""
        return any(covers(ours, theirs, self._separator) for ours in self._texts for theirs in others._texts)


def resource_covered(resource: str, patterns: Iterable[str]) -> bool:
    """Returns whether one of the resource patterns covers the resource, a name or a pattern."""
    return _covered(resource, patterns, "/")


def action_covered(action: str, patterns: Iterable[str]) -> bool:
    """Returns whether one of the action patterns covers the action, a name or a pattern."""
    return _covered(action, patterns, ".")


def overlap(left: str, right: str, separator: str) -> bool:
    """Returns whether some name matches both patterns."""
    ours, theirs = left.split(separator), right.split(separator)
    for mine, other in zip(ours, theirs, strict=False):
        if "**" in (mine, other):
            return True
        if not _meet(mine, other):
            return False
    return len(ours) == len(theirs)


def reaches_into(pattern: str, prefix: str) -> bool:
    """Returns whether the pattern matches a name that `prefix` matches, or one below it. `prefix` has no **."""
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


def _covers(outer: Sequence[str], inner: Sequence[str]) -> bool:
    """As `covers`, by segments, where `outer` has a wildcard."""
    if outer[-1] == "**":
        fixed = outer[:-1]
        # ** needs at least one segment of its own.
        return len(inner) > len(fixed) and _each_covers(fixed, inner)
    if len(outer) != len(inner) or inner[-1] == "**":
        return False
    return _each_covers(outer, inner)


def _each_covers(outer: Sequence[str], inner: Sequence[str]) -> bool:
    """Compares as many segments as `outer` has. `inner` has at least as many, and no ** among those."""
    for left, right in zip(outer, inner, strict=False):
        if left == right or left == "*":
            continue
        # A name or pattern within `prod-*` begins with `prod-`.
        if not (left.endswith("*") and right.startswith(left[:-1])):
            return False
    return True


def _meet(left: str, right: str) -> bool:
    """Returns whether some segment matches both, neither of which is **."""
    if left.endswith("*"):
        begun = left[:-1]
        return right.startswith(begun) or (right.endswith("*") and begun.startswith(right[:-1]))
    return left == right or (right.endswith("*") and left.startswith(right[:-1]))
