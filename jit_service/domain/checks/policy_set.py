"""The policies of one revision, prepared for many questions."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Final, NamedTuple

from jit_service.domain.checks.decision import Question
from jit_service.domain.grants.request import by_preference
from jit_service.domain.language.name import canonical
from jit_service.domain.policies.policy import Policy
from jitaccess.naming.pattern import Patterns

_NONE: Final = frozenset[str]()


class PolicySet:
    """The policies in force, prepared for many questions. `denying` are the deny policies among them."""

    def __init__(self, policies: Iterable[Policy] = ()) -> None:
        self._policies = tuple(policies)
        self.denying = tuple(policy for policy in self._policies if policy.deny and policy.in_force)

    def requestable(self, asked: Question) -> tuple[str, ...]:
        """Returns the names of the policies that the subject could ask under, best first; none where a deny forbids it.

        Where another asks, the subject's groups may be any, so a policy for any group is named then, and a deny for one
        is not minded; asking decides. A subject whose own token leaves them out could ask by none, and is denied by
        any.
        """
        denying, askable = self._prepared
        denied, permitted = (None, _NONE) if asked.groups_left_out else (asked.groups or _NONE, asked.groups)
        if any(deny.is_about(asked) and deny.is_for(canonical(asked.subject), denied) for deny in denying):
            return ()
        return tuple(
            [policy.name for policy in askable if policy.is_about(asked) and policy.is_for(asked.subject, permitted)]
        )

    @cached_property
    def _prepared(self) -> tuple[tuple[_PreparedPolicy, ...], tuple[_PreparedPolicy, ...]]:
        """The deny policies, and those that can be asked under. Made at first use: most sets are never asked."""
        return tuple(map(_prepare, self.denying)), tuple(map(_prepare, by_preference(self._policies)))


class _PreparedPolicy(NamedTuple):
    """The part of a policy that says who may ask for what."""

    name: str
    resources: Patterns
    actions: Patterns
    principals: frozenset[str]
    groups: frozenset[str]

    def is_about(self, asked: Question) -> bool:
        return self.resources.match(asked.resource) and self.actions.match(asked.action)

    def is_for(self, subject: str, groups: frozenset[str] | None) -> bool:
        if subject in self.principals:
            return True
        return bool(self.groups) if groups is None else not self.groups.isdisjoint(groups)


def _prepare(policy: Policy) -> _PreparedPolicy:
    return _PreparedPolicy(
        name=policy.name,
        resources=Patterns(policy.resources, "/"),
        actions=Patterns(policy.actions, "."),
        # A deny forbids in any letter case.
        principals=frozenset(map(canonical, policy.eligible.principals) if policy.deny else policy.eligible.principals),
        groups=frozenset(policy.eligible.groups),
    )
