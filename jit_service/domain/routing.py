"""Who is told of an event: routes lead from groups and principals to receivers and their addresses.

An event concerns some people: whoever may decide what waits, whoever asked and holds, whoever was told of it before.
The service knows groups only by the tokens of callers, so it cannot say who is in one: a route says where a group's
people are told. Of several routes for a person or a group the first that applies is taken, so that nobody is told
twice.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from jit_service.domain.audit.event import Event, EventType
from jit_service.domain.grants.delegation import Delegation
from jit_service.domain.grants.grant import OPEN_STATES, ExtensionState, Grant, GrantState
from jit_service.domain.grants.quorum import current_step, has_reviewed
from jit_service.domain.language import name
from jit_service.domain.notification import Interest
from jit_service.domain.person import Person
from jit_service.domain.policies.policy import Policy, PrincipalSet

_ASKED: Final = frozenset({EventType.GRANT_REQUESTED, EventType.EXTENSION_REQUESTED, EventType.COUNTER_OFFER_DECLINED})
"""Somebody asks, or goes on asking: the step that waits is to be decided."""
_APPROVED: Final = frozenset({EventType.GRANT_APPROVED, EventType.EXTENSION_APPROVED, EventType.COUNTER_OFFER_ACCEPTED})
"""A step may be passed, and the next one begin."""
_EMERGENCIES: Final = frozenset({EventType.BREAK_GLASS_USED, EventType.REVIEW_OVERDUE})
MAY_ASK: Final = _ASKED | _APPROVED | _EMERGENCIES | {EventType.STEP_ESCALATED}
"""What may ask somebody to decide, so that delegations say who else may."""
_OF_HOLDERS: Final = frozenset(
    {
        EventType.GRANT_APPROVED,
        EventType.GRANT_DENIED,
        EventType.GRANT_COUNTERED,
        EventType.GRANT_LAPSED,
        EventType.GRANT_REVOKED,
        EventType.EXTENSION_APPROVED,
        EventType.EXTENSION_DENIED,
        EventType.EXTENSION_LAPSED,
        EventType.GRANT_EXPIRES_SOON,
        EventType.REVIEW_COMPLETED,
        EventType.REVIEW_OVERDUE,
    }
)
"""What whoever asked for a grant and whoever holds it are told of: decisions, and ends that they did not make."""
_ENDS: Final = _APPROVED | {
    EventType.GRANT_DENIED,
    EventType.GRANT_WITHDRAWN,
    EventType.GRANT_LAPSED,
    EventType.GRANT_REVOKED,
    EventType.EXTENSION_DENIED,
    EventType.EXTENSION_WITHDRAWN,
    EventType.EXTENSION_LAPSED,
    EventType.REVIEW_COMPLETED,
}
"""What may end a request, which whoever was told of it is told too."""
_NOBODY: Final = PrincipalSet()


class Address(NamedTuple):
    """Where somebody is told: an addressee of a receiver. `principal` is whose alone it is; empty: not known."""

    receiver: str
    addressee: str
    principal: str = ""


@dataclass(frozen=True, kw_only=True)
class Route:
    """Where some people are told, and of what.

    `whom` are groups and principals; `user:*` and `user:*@example.com` are all whose names end so. `addressees` are in
    the receiver's own form; with none it is each principal itself. `policies` (`policies/prod-*` is a beginning),
    `labels` (of the grant) and `interests` narrow it; empty ones do not. What is in `must_know` they are told whomever
    it concerns. `edits`: the receiver changes a message that it sent, so that also whoever decides sees that it is
    decided.
    """

    receiver: str
    addressees: tuple[str, ...] = ()
    whom: PrincipalSet = _NOBODY
    policies: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    interests: frozenset[Interest] = frozenset()
    must_know: frozenset[Interest] = frozenset()
    edits: bool = False

    def covers(self, event: Event, grant: Grant | None) -> bool:
        """Returns whether the route is for such grants."""
        labels = grant.labels if grant is not None else {}
        return (not self.policies or any(_begins(event.policy, text) for text in self.policies)) and all(
            labels.get(key) == value for key, value in self.labels.items()
        )

    def wants(self, event: Event) -> bool:
        """Returns whether its people want to be told of such events that concern them."""
        return not self.interests or any(interest.covers(event) for interest in self.interests)

    def demands(self, event: Event) -> bool:
        """Returns whether its people must know, whomever the event concerns."""
        return any(interest.covers(event) for interest in self.must_know)

    def has(self, principal: str) -> bool:
        """Returns whether the principal is one of its people by name."""
        return any(_is_meant(principal, text) for text in self.whom.principals)

    def addresses_of(self, principal: str) -> list[Address]:
        """Returns where the principal is told by this route."""
        return [Address(self.receiver, addressee, principal) for addressee in self.addressees or (principal,)]

    @property
    def own_addresses(self) -> list[Address]:
        """Where all its people are told that it names."""
        if self.addressees:
            return [Address(self.receiver, addressee) for addressee in self.addressees]
        named = [text for text in self.whom.principals if "*" not in text]
        return [Address(self.receiver, principal, principal) for principal in named]


class Told(NamedTuple):
    """Who is told of an event. `kept` are those of them who are told of its end too; `is_over`: nothing more comes."""

    addresses: tuple[Address, ...] = ()
    kept: tuple[Address, ...] = ()
    is_over: bool = False


def told_of(
    event: Event,
    routes: Sequence[Route],
    *,
    grant: Grant | None = None,
    policy: Policy | None = None,
    before: Collection[Address] = (),
    delegations: Iterable[Delegation] = (),
) -> Told:
    """Returns who is told of the event.

    `grant` is the one that it is about, as it is after it, `policy` that grant's as it is now, and `before` are those
    who were told that it waits. Whoever may decide by one of the `delegations` is told as its delegator is. Nobody is
    told what they did themselves, and nobody of what was passed on, which ends with its grant.
    """
    if grant is not None and grant.chain:
        return Told()
    fitting = [route for route in routes if route.covers(event, grant)]
    wanting = [route for route in fitting if route.wants(event)]
    must_know = [address for route in fitting if route.demands(event) for address in route.own_addresses]
    deciders = _deciders(event, grant, policy, tuple(delegations))
    deciding = list(_addresses(wanting, _without_actor(deciders, event)))
    if deciding or event.type in _EMERGENCIES:
        deciding += must_know
    holding = _addresses(wanting, _without_actor(_holders(event, grant), event))
    earlier = _told_before(event, routes, grant, before)
    found = _once((*deciding, *must_know, *holding, *earlier))
    return Told(found, _once(deciding), _is_over(grant, event))


def _addresses(routes: Iterable[Route], people: PrincipalSet) -> Iterator[Address]:
    """Yields where the people are told, each of them by the first route that has them."""
    routes = list(routes)
    for principal in people.principals:
        found = next((route for route in routes if route.has(principal)), None)
        yield from found.addresses_of(principal) if found is not None else ()
    for group in people.groups:
        taken = next((route for route in routes if group in route.whom.groups), None)
        yield from taken.own_addresses if taken is not None else ()


def _deciders(
    event: Event, grant: Grant | None, policy: Policy | None, delegations: Sequence[Delegation]
) -> PrincipalSet:
    """Returns whom the event asks to decide, and their delegates."""
    if grant is None:
        return _NOBODY
    asked = _asked(event, grant, policy)
    delegates = (one.delegate for one in delegations if policy and _lends(one, asked, event, grant, policy))
    everybody = _union((asked, PrincipalSet(principals=tuple(delegates))))
    return _without_own(everybody, grant, policy)


def _asked(event: Event, grant: Grant, policy: Policy | None) -> PrincipalSet:
    """Returns the step's approvers when it begins, those it escalates to when it does; a policy's in an emergency."""
    if event.type in _EMERGENCIES:
        return _union(step.deciders for step in policy.steps) if policy else _NOBODY
    if not _waits(grant, event):
        return _NOBODY
    step = grant.steps[current_step(grant)]
    if event.type is EventType.STEP_ESCALATED:
        return step.escalate_to or _NOBODY
    return step.approvers if _begins_to_wait(event, grant) else _NOBODY


def _lends(delegation: Delegation, asked: PrincipalSet, event: Event, grant: Grant, policy: Policy) -> bool:
    """Returns whether the delegate may decide by the delegation, as `approval.demand_reviewer` says."""
    right = delegation.right
    return (
        delegation.is_active(event.at)
        and not policy.forbid_delegation
        and (not right.policies or policy.name in right.policies)
        and asked.has(right.holder, right.groups)
        and (policy.allow_self_approval or not grant.is_own_review(right.person))
        and not has_reviewed(grant, right.person)
    )


def _begins_to_wait(event: Event, grant: Grant) -> bool:
    """Returns whether the step that is waited for is so since the event."""
    if event.type in _ASKED:
        return True
    return event.type in _APPROVED and grant.round_reviews[-1].step != current_step(grant)


def _waits(grant: Grant, event: Event) -> bool:
    pending = grant.state(event.at) is GrantState.PENDING
    return bool(grant.steps) and (pending or grant.extension_state(event.at) is ExtensionState.PENDING)


def _without_own(people: PrincipalSet, grant: Grant, policy: Policy | None) -> PrincipalSet:
    """Returns the people without those by name who may not decide it: it is their own, or they had their say."""
    own = policy is None or not policy.allow_self_approval
    had = [review.by for review in grant.round_reviews]
    return PrincipalSet(
        principals=tuple(
            principal
            for principal in people.principals
            if not (own and grant.is_own_review(Person(principal)))
            and not any(Person(principal).is_same(reviewer) for reviewer in had)
        ),
        groups=people.groups,
    )


def _holders(event: Event, grant: Grant | None) -> PrincipalSet:
    if event.type is EventType.DELEGATION_CREATED:
        return PrincipalSet(principals=(event.subject,))
    if grant is None:
        return _NOBODY
    if event.type is EventType.COUNTER_OFFER_ACCEPTED and grant.round_reviews:
        return PrincipalSet(principals=(grant.round_reviews[-1].reviewer,))
    if event.type not in _OF_HOLDERS:
        return _NOBODY
    return PrincipalSet(principals=tuple(dict.fromkeys((grant.requester, grant.subject))))


def _told_before(
    event: Event, routes: Sequence[Route], grant: Grant | None, before: Collection[Address]
) -> Iterator[Address]:
    """Yields those who were told that something waits, where the event ends that.

    Whoever ended it knows, but where a message can be changed it must not go on asking.
    """
    if grant is None or event.type not in _ENDS or _waits(grant, event):
        return
    edits = {route.receiver: route.edits for route in routes}
    for address in before:
        if address.receiver in edits and (address.principal != event.principal or edits[address.receiver]):
            yield address


def _is_over(grant: Grant | None, event: Event) -> bool:
    if grant is None or grant.owes_review:
        return False
    return grant.state(event.at) not in OPEN_STATES


def _without_actor(people: PrincipalSet, event: Event) -> PrincipalSet:
    actor = Person(event.principal)
    others = tuple(principal for principal in people.principals if not Person(principal).is_same(actor))
    return PrincipalSet(principals=others, groups=people.groups)


def _union(sets: Iterable[PrincipalSet]) -> PrincipalSet:
    listed = list(sets)
    return PrincipalSet(
        principals=tuple(dict.fromkeys(one for each in listed for one in each.principals)),
        groups=tuple(dict.fromkeys(one for each in listed for one in each.groups)),
    )


def _once(addresses: Iterable[Address]) -> tuple[Address, ...]:
    """Returns each addressee of a receiver once."""
    return tuple({(address.receiver, address.addressee): address for address in addresses}.values())


def _begins(text: str, pattern: str) -> bool:
    return text.startswith(pattern[:-1]) if pattern.endswith("*") else text == pattern


def _is_meant(principal: str, pattern: str) -> bool:
    """Returns whether the principal is the one named, or one whose name begins and ends as the pattern does."""
    if "*" not in pattern:
        # Where letter case counts, another spelling is somebody else, who must not be told.
        return principal in (pattern, name.canonical(pattern))
    prefix, _, suffix = pattern.partition("*")
    return len(principal) >= len(pattern) and principal.startswith(prefix) and principal.endswith(suffix)
