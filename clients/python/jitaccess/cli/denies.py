"""What a deny policy seems to forbid and does not: a pattern forbids exactly what it matches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from jitaccess.naming.pattern import Patterns
from jitaccess.v1 import policy_pb2

# Deeper than any pattern without ** reaches.
_DEEP = 64


def gaps(policy: policy_pb2.Policy) -> Iterator[str]:
    """Yields, for a deny policy, where its patterns forbid less than they look like."""
    if policy.deny:
        yield from _gaps("resources", policy.resources, "/")
        yield from _gaps("actions", policy.actions, ".")


def _gaps(field: str, patterns: Sequence[str], separator: str) -> Iterator[str]:
    together = Patterns(patterns, separator)
    for index, pattern in enumerate(patterns):
        where = f"{field}[{index}]: "
        root = pattern.removesuffix(f"{separator}**")
        if root != pattern:
            # A type alone is no resource.
            if (separator == "." or separator in root) and not together.match(root):
                yield f"{where}{pattern} does not deny {root} itself; deny that too"
        elif _seems_to_go_on(pattern, separator) and not _goes_on(together, pattern, separator):
            alone = pattern.split(separator)[-1] == "*"
            remedy = "did you mean **?" if alone else f"deny {pattern}{separator}** too"
            yield f"{where}{pattern} ends with its segment, and denies nothing below; {remedy}"


def _seems_to_go_on(pattern: str, separator: str) -> bool:
    """Returns whether it ends in a *; in an action only one that stands alone or after / or : seems to."""
    last = pattern.rsplit(separator, maxsplit=1)[-1]
    if last == "**" or not last.endswith("*"):
        return False
    return separator == "/" or last == "*" or last[-2] in "/:"


def _goes_on(together: Patterns, pattern: str, separator: str) -> bool:
    return all(together.match(f"{pattern}{f'{separator}-' * depth}") for depth in (1, _DEEP))
