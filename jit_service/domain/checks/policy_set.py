"""The policies of one revision, prepared for many questions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Final, NamedTuple

from jit_service.domain.checks.decision import Question
from jit_service.domain.grants.request import by_preference
from jit_service.domain.language.name import canonical
from jit_service.domain.policies.policy import Policy
from jitaccess.naming.pattern import Patterns

_NONE: Final = frozenset[str]()
_NOWHERE: Final[Sequence[int]] = ()


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
        if any(deny.is_for(canonical(asked.subject), denied) for deny in denying.about(asked)):
            return ()
        return tuple([policy.name for policy in askable.about(asked) if policy.is_for(asked.subject, permitted)])

    @cached_property
    def _prepared(self) -> tuple[_ByStart, _ByStart]:
        """The deny policies, and those that can be asked under. Made at first use: most sets are never asked."""
        return _ByStart(map(_prepare, self.denying)), _ByStart(map(_prepare, by_preference(self._policies)))


class _ByStart:
    """Policies in their order, found by the whole segments that their resource patterns begin with.

    A pattern matches no name that begins otherwise, so a question costs by the segments of its resource, and not by
    how many policies there are.
    """

    __slots__ = ("_by_start", "_policies")

    def __init__(self, policies: Iterable[_PreparedPolicy]) -> None:
        self._policies = tuple(policies)
        by_start: dict[str, list[int]] = {}
        for place, policy in enumerate(self._policies):
            for start in policy.starts:
                by_start.setdefault(start, []).append(place)
        self._by_start = by_start

    def about(self, asked: Question) -> list[_PreparedPolicy]:
        """Returns the policies that are about the question, in their order."""
        resource, by_start = asked.resource, self._by_start
        places = [*by_start.get("", _NOWHERE), *by_start.get(resource, _NOWHERE)]
        end = resource.find("/") + 1
        while end:
            places += by_start.get(resource[:end], _NOWHERE)
            end = resource.find("/", end) + 1
        # A policy with several patterns may be found by more than one of them.
        ordered = sorted(set(places)) if len(places) > 1 else places
        return [policy for place in ordered if (policy := self._policies[place]).is_about(asked)]


def _start_of(pattern: str) -> str:
    """Returns the pattern up to its first segment with a wildcard: `a/b/` of `a/b/c*`; all of it if it has none."""
    before, wild, _ = pattern.partition("*")
    return before[: before.rfind("/") + 1] if wild else pattern


class _PreparedPolicy(NamedTuple):
    """The part of a policy that says who may ask for what."""

    name: str
    starts: tuple[str, ...]
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
        starts=tuple({_start_of(pattern) for pattern in policy.resources}),
        resources=Patterns(policy.resources, "/"),
        actions=Patterns(policy.actions, "."),
        # A deny forbids in any letter case.
        principals=frozenset(map(canonical, policy.eligible.principals) if policy.deny else policy.eligible.principals),
        groups=frozenset(policy.eligible.groups),
    )
