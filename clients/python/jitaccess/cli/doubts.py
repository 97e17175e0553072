"""What is not wrong in a policy, but likely not what was meant: patterns match exactly what they say, and no more."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from jitaccess.naming.pattern import Patterns
from jitaccess.v1 import policy_pb2

# Deeper than any pattern without ** reaches.
_DEEP = 64
_REVIEWER = re.compile(r"\breviewer\b")


def doubts(policy: policy_pb2.Policy) -> Iterator[tuple[str, str]]:
    """Yields the path of each doubtful field, and a warning in words."""
    verb = "deny" if policy.deny else "cover"
    yield from _roots("resources", policy.resources, "/", verb)
    if policy.deny:
        yield from _roots("actions", policy.actions, ".", verb)
        yield from _segments("resources", policy.resources, "/")
        yield from _segments("actions", policy.actions, ".")
    else:
        yield from _colleagues(policy)


def _roots(field: str, patterns: Sequence[str], separator: str, verb: str) -> Iterator[tuple[str, str]]:
    """A pattern with ** begins one segment below what it seems to be about."""
    together = Patterns(patterns, separator)
    for index, pattern in enumerate(patterns):
        root = pattern.removesuffix(f"{separator}**")
        # A type alone is no resource.
        if root != pattern and (separator == "." or separator in root) and not together.match(root):
            yield f"{field}[{index}]", f"{pattern} does not {verb} {root} itself; {verb} that too"


def _segments(field: str, patterns: Sequence[str], separator: str) -> Iterator[tuple[str, str]]:
    """A * of a deny policy forbids one segment, where it looks as if it forbade all."""
    together = Patterns(patterns, separator)
    for index, pattern in enumerate(patterns):
        if _seems_to_go_on(pattern, separator) and not _goes_on(together, pattern, separator):
            alone = pattern.split(separator)[-1] == "*"
            remedy = "did you mean **?" if alone else f"deny {pattern}{separator}** too"
            yield f"{field}[{index}]", f"{pattern} ends with its segment, and denies nothing below; {remedy}"


def _seems_to_go_on(pattern: str, separator: str) -> bool:
    """Returns whether it ends in a *; in an action only one that stands alone or after / or : seems to."""
    last = pattern.rsplit(separator, maxsplit=1)[-1]
    if last == "**" or not last.endswith("*"):
        return False
    return separator == "/" or last == "*" or last[-2] in "/:"


def _goes_on(together: Patterns, pattern: str, separator: str) -> bool:
    return all(together.match(f"{pattern}{f'{separator}-' * depth}") for depth in (1, _DEEP))


def _colleagues(policy: policy_pb2.Policy) -> Iterator[tuple[str, str]]:
    """A step that nobody but those who may ask can decide is a review among colleagues.

    Where requesters may decide their own requests, that was chosen; a condition that reads `reviewer` may tell them
    apart; and who is approver by name may be in no group that may ask.
    """
    if policy.allow_self_approval:
        return
    for index, step in enumerate(policy.steps):
        groups = {*step.approvers.groups, *step.escalate_to.groups}
        named = {*step.approvers.principals, *step.escalate_to.principals}
        own = groups <= set(policy.eligible.groups) and named <= set(policy.eligible.principals)
        if groups and own and not _REVIEWER.search(step.condition):
            who = f"the group {min(groups)}" if len(groups) == 1 else f"the groups {', '.join(sorted(groups))}"
            words = f"only {who} can decide it, which may ask itself: requesters and reviewers are colleagues"
            yield f"steps[{index}].approvers", f"{words}; name approvers who may not ask"
