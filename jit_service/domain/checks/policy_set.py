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
from jitaccess.naming.pattern_table import PatternTable

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
        denied, permitted = (None, _NONE) if asked.groups_left_out else (asked.groups or _NONE, asked.groups)
        if self.denying and any(deny.is_for(canonical(asked.subject), denied) for deny in self._denies.about(asked)):
            return ()
        return tuple([policy.name for policy in self._askable.about(asked) if policy.is_for(asked.subject, permitted)])

    # Made at first use: most sets are never asked.
    @cached_property
    def _denies(self) -> _ByResource:
        return _ByResource(self.denying)

    @cached_property
    def _askable(self) -> _ByResource:
        return _ByResource(by_preference(self._policies))


class _ByResource:
    """Policies in their order, found by the resource asked about, so that a question costs the same among thousands."""

    def __init__(self, policies: Iterable[Policy]) -> None:
        self._policies: list[_PreparedPolicy] = []
        self._places: PatternTable[int] = PatternTable("/")
        for place, policy in enumerate(policies):
            self._policies.append(_prepare(policy))
            for pattern in policy.resources:
                self._places.add(pattern, place)

    def about(self, asked: Question) -> list[_PreparedPolicy]:
        """Returns the policies about the resource and action, in order."""
        places = self._places.matching(asked.resource)
        if len(places) > 1:
            # Several patterns of one policy may match.
            places = sorted(set(places))
        found = [self._policies[place] for place in places]
        return [policy for policy in found if policy.actions.match(asked.action)]


class _PreparedPolicy(NamedTuple):
    """The part of a policy that says who may ask for which actions."""

    name: str
    actions: Patterns
    principals: frozenset[str]
    groups: frozenset[str]

    def is_for(self, subject: str, groups: frozenset[str] | None) -> bool:
        if subject in self.principals:
            return True
        return bool(self.groups) if groups is None else not self.groups.isdisjoint(groups)


def _prepare(policy: Policy) -> _PreparedPolicy:
    return _PreparedPolicy(
        name=policy.name,
        actions=Patterns(policy.actions, "."),
        # A deny forbids in any letter case.
        principals=frozenset(map(canonical, policy.eligible.principals) if policy.deny else policy.eligible.principals),
        groups=frozenset(policy.eligible.groups),
    )
