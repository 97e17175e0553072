"""What a request that no policy lets pass nearly met: for the refusal, so that a slip is seen at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from jit_service.domain.language import name
from jit_service.domain.policies.policy import Policy
from jitaccess.naming.pattern import action_covered, resource_covered

_MOST: Final = 3
_MOST_PATTERNS: Final = 10
_BELOW: Final = "/**"


def describe_near_misses(resources: Sequence[str], actions: Sequence[str], may_ask_under: Iterable[Policy]) -> str:
    """Returns what the first three policies that nearly cover what is asked for do cover; empty where none is near.

    `may_ask_under` must be policies in force under which the requester may ask, and so may read: a refusal tells
    nobody of others.
    """
    near = [miss for policy in may_ask_under if (miss := _near_miss(policy, resources, actions))]
    return "; ".join(near[:_MOST])


def _near_miss(policy: Policy, resources: Sequence[str], actions: Sequence[str]) -> str:
    missing = [resource for resource in resources if not resource_covered(resource, policy.resources)]
    if not missing:
        one = "the resource" if len(resources) == 1 else "the resources"
        return f"{policy.name} covers {one}; its actions are {_shown(policy.actions)}"
    covers_actions = all(action_covered(action, policy.actions) for action in actions)
    if covers_actions and all(f"{root}{_BELOW}" in policy.resources for root in missing):
        patterns = _shown([f"{root}{_BELOW}" for root in missing])
        return f"{policy.name} covers {patterns}, where ** takes one or more segments, and not {_shown(missing)} itself"
    return ""


def _shown(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_PATTERNS} more" if len(names) > _MOST_PATTERNS else ""
    return name.listed(names[:_MOST_PATTERNS]) + more
