"""Whether a request could be approved at all, and by whom."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta

from jit_service.domain.errors import Unsatisfiable
from jit_service.domain.frozen import replace
from jit_service.domain.grants.grant import Grant
from jit_service.domain.language.name import canonical
from jit_service.domain.policies.policy import Policy, PrincipalSet, Step


@dataclass(frozen=True, kw_only=True)
class StepPreview:
    """A step as far as its policy tells: who could approve it, and which named principals may not."""

    step: Step
    excluded: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Preview:
    """What would become of a request. `shortfall` is empty where every step has approvers enough."""

    steps: tuple[StepPreview, ...]
    shortfall: str

    @property
    def satisfiable(self) -> bool:
        """Whether it could be approved."""
        return not self.shortfall


def preview(grant: Grant, *, allow_self_approval: bool) -> Preview:
    """Returns who could approve the grant's steps.

    Whoever a step escalates to before the request lapses could as well. Only named principals can be counted; a step
    with a group has as many as it needs. One principal counts once in all steps together, so they are assigned to steps
    by matching.
    """
    involved = set() if allow_self_approval else {canonical(grant.requester), canonical(grant.subject)}
    steps = tuple(_without(step, involved) for index, step in enumerate(grant.steps) if index not in grant.skipped)
    patience = _patience(grant)
    slots = [
        [canonical(principal) for principal in deciders.principals]
        for shown in steps
        if not (deciders := _deciders(shown.step, patience)).groups
        for _ in range(shown.step.approvals_needed)
    ]
    missing = len(slots) - _count_matched(slots)
    shortfall = (
        f"{missing} more approver{'s' if missing > 1 else ''} would be needed than the policy names" if missing else ""
    )
    return Preview(steps=steps, shortfall=shortfall)


def demand_satisfiable(grant: Grant, policy: Policy) -> None:
    """Raises Unsatisfiable where the policy names too few approvers for the request ever to be approved."""
    shortfall = preview(grant, allow_self_approval=policy.allow_self_approval).shortfall
    if shortfall:
        raise Unsatisfiable(f"{policy.name} could never approve this: {shortfall}", policy=policy.name)


def _patience(grant: Grant) -> timedelta:
    """Returns how long the latest request waits at the most."""
    asked = grant.extension
    return asked.lapses_at - asked.created_at if asked is not None else grant.request_ttl


def _deciders(step: Step, patience: timedelta) -> PrincipalSet:
    return step.deciders if step.timeout < patience else step.approvers


def _without(step: Step, involved: Collection[str]) -> StepPreview:
    excluded = tuple(principal for principal in step.deciders.principals if canonical(principal) in involved)
    escalate_to = _others(step.escalate_to, involved) if step.escalate_to is not None else None
    left = replace(step, approvers=_others(step.approvers, involved), escalate_to=escalate_to)
    return StepPreview(step=left, excluded=tuple(dict.fromkeys(excluded)))


def _others(people: PrincipalSet, involved: Collection[str]) -> PrincipalSet:
    return replace(people, principals=tuple(name for name in people.principals if canonical(name) not in involved))


def _count_matched(slots: list[list[str]]) -> int:
    """Returns how many slots can be filled with distinct people (a maximum bipartite matching, by augmenting paths)."""
    taken: dict[str, int] = {}

    def fill(slot: int, tried: set[str]) -> bool:
        for person in slots[slot]:
            if person not in tried:
                tried.add(person)
                if person not in taken or fill(taken[person], tried):
                    taken[person] = slot
                    return True
        return False

    return sum(fill(slot, set()) for slot in range(len(slots)))
