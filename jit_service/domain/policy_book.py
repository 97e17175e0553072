"""The policies of one revision, prepared for many questions."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import NamedTuple

from jit_service.domain.pattern import Names
from jit_service.domain.policy import Policy
from jit_service.domain.request import by_preference


class PolicyBook:
    """See the module. `denying` are the deny policies in force; what is not in force is not in it."""

    def __init__(self, policies: Iterable[Policy] = ()) -> None:
        self._policies = tuple(policies)
        self.denying = tuple(policy for policy in self._policies if policy.deny and policy.in_force)

    def requestable(
        self, *, subject: str, groups: frozenset[str] | None, resource: str, action: str
    ) -> tuple[str, ...]:
        """Returns the names of the policies that the subject could ask under, best first; none where a deny forbids it.

        Groups that are not known (None) may be any, so a policy for any group is named then; asking decides. All names
        are concrete.
        """
        denying, askable = self._prepared
        for deny in denying:
            if resource in deny.resources and action in deny.actions and deny.is_for(subject, groups or frozenset()):
                return ()
        return tuple(
            [
                policy.name
                for policy in askable
                if resource in policy.resources and action in policy.actions and policy.is_for(subject, groups)
            ]
        )

    @cached_property
    def _prepared(self) -> tuple[tuple[_Prepared, ...], tuple[_Prepared, ...]]:
        """Those that deny, and those that can be asked under; most books of a transaction are never asked."""
        return tuple(map(_prepared, self.denying)), tuple(map(_prepared, by_preference(self._policies)))


class _Prepared(NamedTuple):
    """A policy, as far as it says who may ask for what."""

    name: str
    resources: Names
    actions: Names
    principals: frozenset[str]
    groups: frozenset[str]

    def is_for(self, subject: str, groups: frozenset[str] | None) -> bool:
        if subject in self.principals:
            return True
        return bool(self.groups) if groups is None else not self.groups.isdisjoint(groups)


def _prepared(policy: Policy) -> _Prepared:
    return _Prepared(
        name=policy.name,
        resources=Names(policy.resources, "/"),
        actions=Names(policy.actions, "."),
        principals=frozenset(policy.eligible.principals),
        groups=frozenset(policy.eligible.groups),
    )
