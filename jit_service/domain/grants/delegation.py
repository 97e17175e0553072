"""Delegations: an approver lets another principal review in its place, for a time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from jit_service.domain.audit.event import Event, EventType
from jit_service.domain.caller import Caller, Right, Role
from jit_service.domain.errors import InvalidField, NotYours, WrongState
from jit_service.domain.language import name
from jit_service.domain.person import Account, Person

MAX_SPAN: Final = timedelta(days=30)
MAX_LEAD: Final = timedelta(days=30)
MAX_POLICIES: Final = 100


@dataclass(frozen=True, kw_only=True)
class Delegation:
    """The right of `delegator` to review, in the hands of `delegate` over [starts_at, expires_at).

    `delegator_groups` are those that the delegator's token gave when it delegated, None where it left them out. No
    policies: all that it reviews.
    """

    name: str
    delegator: str
    delegator_groups: frozenset[str] | None
    delegate: str
    policies: tuple[str, ...]
    starts_at: datetime
    expires_at: datetime
    comment: str
    created_at: datetime
    deleted_at: datetime | None = None
    revision: int = 0
    delegator_account: Account | None = None

    def is_active(self, now: datetime) -> bool:
        """Returns whether it can be used."""
        return self.deleted_at is None and self.starts_at <= now < self.expires_at

    @property
    def right(self) -> Right:
        """What the delegate may review by."""
        return Right(
            holder=self.delegator,
            groups=self.delegator_groups,
            delegation=self.name,
            policies=frozenset(self.policies),
            account=self.delegator_account,
        )

    def is_given_by(self, person: Person) -> bool:
        """Returns whether the person gave it, under this name or by its account. Byte-exact, since it permits."""
        return person.principal == self.delegator or person.has_account(self.delegator_account)

    def is_visible_to(self, by: Caller) -> bool:
        """Returns whether the caller may read it."""
        return by.has(Role.AUDITOR, Role.ADMIN) or by.principal == self.delegate or self.is_given_by(by.person)


@dataclass(frozen=True, kw_only=True)
class NewDelegation:
    """A delegation as its delegator wants it. No start: at once."""

    delegate: str
    expires_at: datetime
    policies: tuple[str, ...] = ()
    starts_at: datetime | None = None
    comment: str = ""


def create(wanted: NewDelegation, *, delegation_name: str, by: Caller, now: datetime) -> tuple[Delegation, Event]:
    """Returns the caller's delegation of its own right; what was delegated to it stays with it. Raises InvalidField."""
    delegate = name.principal(wanted.delegate, "delegation.delegate", exact=by.exact)
    if name.canonical(delegate) == name.canonical(by.principal):
        raise InvalidField("delegation.delegate", f"{delegate} is whoever delegates; name another")
    if len(wanted.policies) > MAX_POLICIES:
        raise InvalidField(
            "delegation.policies", f"has {len(wanted.policies)} entries; at most {MAX_POLICIES} are allowed"
        )
    starts_at = wanted.starts_at or now
    if not now <= starts_at <= now + MAX_LEAD:
        fault = f"is {starts_at.isoformat()}; it must be from now to {MAX_LEAD.days} days ahead"
        raise InvalidField("delegation.start_time", fault)
    if not starts_at < wanted.expires_at <= starts_at + MAX_SPAN:
        fault = f"is {wanted.expires_at.isoformat()}; it must be after the start, by at most {MAX_SPAN.days} days"
        raise InvalidField("delegation.expire_time", fault)
    delegation = Delegation(
        name=delegation_name,
        delegator=by.principal,
        delegator_groups=by.groups,
        delegator_account=by.account,
        delegate=delegate,
        policies=tuple(
            dict.fromkeys(
                name.policy_name(text, f"delegation.policies[{index}]") for index, text in enumerate(wanted.policies)
            )
        ),
        starts_at=starts_at,
        expires_at=wanted.expires_at,
        comment=name.free_text(wanted.comment, "delegation.comment"),
        created_at=now,
    )
    return delegation, _event(EventType.DELEGATION_CREATED, delegation, by=by, now=now, message=delegation.comment)


def delete(delegation: Delegation, *, by: Caller, now: datetime) -> tuple[Delegation, Event]:
    """Ends the delegation. Raises NotYours, WrongState."""
    if not (by.has(Role.ADMIN) or delegation.is_given_by(by.person)):
        raise NotYours(f"{delegation.name} was given by {delegation.delegator}, not by {by.principal}")
    if delegation.deleted_at is not None or now >= delegation.expires_at:
        raise WrongState(f"{delegation.name} is over already")
    gone = replace(delegation, deleted_at=now)
    return gone, _event(EventType.DELEGATION_DELETED, gone, by=by, now=now, message="deleted")


def end_by_lock(delegation: Delegation, *, lock: str, by: Caller, now: datetime) -> tuple[Delegation, Event]:
    """Ends the delegation, since its delegator is locked."""
    gone = replace(delegation, deleted_at=now)
    event = _event(EventType.DELEGATION_DELETED, gone, by=by, now=now, message=f"{gone.delegator} is locked by {lock}")
    return gone, replace(event, lock=lock)


def lost_groups(delegation: Delegation, by: Caller) -> tuple[str, ...]:
    """Returns the groups of the delegator's right that its token, which the caller brings, does not give any more.

    Groups that a token leaves out (None) prove nothing, so they end nothing.
    """
    if by.principal != delegation.delegator or by.groups is None:
        return ()
    return tuple(sorted((delegation.delegator_groups or frozenset()) - by.groups))


def end_lost(delegation: Delegation, *, by: Caller, now: datetime) -> tuple[Delegation, Event]:
    """Ends the delegation of a right that its delegator, the caller, has not any more. Raises WrongState."""
    groups = lost_groups(delegation, by)
    if not groups or delegation.deleted_at is not None:
        raise WrongState(f"{delegation.name} has not lost what it was given by")
    gone = replace(delegation, deleted_at=now)
    message = f"{by.principal} came without {', '.join(groups)}"
    return gone, _event(EventType.DELEGATION_DELETED, gone, by=by, now=now, message=message)


def _event(type_: EventType, delegation: Delegation, *, by: Caller, now: datetime, message: str) -> Event:
    return Event(
        type=type_,
        at=now,
        principal=by.principal,
        origin=by.origin,
        subject=delegation.delegate,
        message=message,
        delegation=delegation.name,
        duration=delegation.expires_at - delegation.starts_at,
    )
