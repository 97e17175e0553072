"""Changes of policies, each with the event that records it, and the difference that a whole set makes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from enum import StrEnum

from jit_service.domain.audit.event import Event, EventType
from jit_service.domain.caller import Caller
from jit_service.domain.errors import InvalidField
from jit_service.domain.language import etag as etags
from jit_service.domain.language.faults import Faults
from jit_service.domain.policies.policy import Policy, normalize

MAX_APPLIED = 1000
_SERVER_FIELDS = frozenset({"revision", "created_at", "updated_at", "deleted_at"})


class ChangeType(StrEnum):
    """What applying a set did, or would do, to one policy."""

    CREATED = "CREATED"
    UPDATED = "UPDATED"
    DELETED = "DELETED"
    UNCHANGED = "UNCHANGED"


@dataclass(frozen=True, kw_only=True)
class PolicyChange:
    """The difference that applying a set makes to one policy."""

    name: str
    type: ChangeType
    before: Policy | None
    after: Policy | None

    @property
    def changed_fields(self) -> tuple[str, ...]:
        """The fields that differ, where there is a before and an after."""
        if self.before is None or self.after is None:
            return ()
        return changed_fields(self.before, self.after)


@dataclass(frozen=True, kw_only=True)
class PolicyDraft:
    """A policy as a caller sent it, with the etag that it read, if any."""

    policy: Policy
    etag: str = ""


def difference(
    stored: Iterable[Policy],
    proposed: Sequence[PolicyDraft],
    *,
    prune: bool,
    exact: tuple[str, ...] = (),
    claims: frozenset[str] | None = None,
) -> list[PolicyChange]:
    """Returns what makes the stored policies, deleted ones included, as proposed; by name, unchanged ones too.

    `exact` is as in `name.principal`, and `claims` as in `policy.normalize`. Raises InvalidField, StaleEtag.
    """
    if len(proposed) > MAX_APPLIED:
        raise InvalidField("policies", f"has {len(proposed)} policies; at most {MAX_APPLIED} are allowed")
    there = {policy.name: policy for policy in stored}
    wanted = normalize_set([entry.policy for entry in proposed], exact=exact, claims=claims)
    for entry, policy in zip(proposed, wanted.values(), strict=True):
        current = there.get(policy.name)
        etags.demand(entry.etag, policy.name, current.revision if current else 0)
    live = [policy for policy in there.values() if policy.deleted_at is None]
    pruned = [
        PolicyChange(name=policy.name, type=ChangeType.DELETED, before=policy, after=None)
        for policy in live
        if prune and policy.name not in wanted
    ]
    changes = [_change(there.get(name), policy) for name, policy in wanted.items()]
    return sorted(changes + pruned, key=lambda change: change.name)


def normalize_set(
    proposed: Iterable[Policy], *, exact: tuple[str, ...] = (), claims: frozenset[str] | None = None
) -> dict[str, Policy]:
    """Returns the policies of a set in canonical form, by name, in their order. `claims` as in `policy.normalize`.

    Raises InvalidField with every fault.
    """
    faults = Faults()
    wanted: dict[str, Policy] = {}
    for index, given in enumerate(proposed):
        policy = faults.keep(None, _normalize_at, index, given, exact, claims)
        if policy is not None and policy.name in wanted:
            faults.add(InvalidField(f"policies[{index}].name", f"{policy.name} is in the set twice"))
        elif policy is not None:
            wanted[policy.name] = policy
    faults.demand_none()
    return wanted


def outcome(stored: Iterable[Policy], changes: Iterable[PolicyChange]) -> list[Policy]:
    """Returns the policies there would be after the changes."""
    changes = tuple(changes)
    named = {change.name for change in changes}
    kept = [policy for policy in stored if policy.name not in named]
    return kept + [change.after for change in changes if change.after is not None]


def changed_fields(before: Policy, after: Policy) -> tuple[str, ...]:
    """Returns the names of the fields, in order, that somebody chose differently."""
    chosen = (field.name for field in fields(Policy) if field.name not in _SERVER_FIELDS)
    return tuple(name for name in chosen if getattr(before, name) != getattr(after, name))


def create(policy: Policy, *, replaces: Policy | None, by: Caller, now: datetime) -> tuple[Policy, Event]:
    """Returns the new policy. `replaces` is the deleted one that had the name, if any."""
    new = replace(
        policy,
        revision=replaces.revision if replaces is not None else 0,
        created_at=now,
        updated_at=now,
        deleted_at=None,
    )
    return new, _event(EventType.POLICY_CREATED, new, by=by, now=now, message="created")


def update(before: Policy, after: Policy, *, by: Caller, now: datetime) -> tuple[Policy, Event]:
    """Returns the policy with the chosen fields of `after`."""
    new = replace(
        after,
        name=before.name,
        revision=before.revision,
        created_at=before.created_at,
        updated_at=now,
        deleted_at=before.deleted_at,
    )
    message = "changed " + (", ".join(changed_fields(before, new)) or "nothing")
    return new, _event(EventType.POLICY_UPDATED, new, by=by, now=now, message=message)


def delete(policy: Policy, *, by: Caller, now: datetime) -> tuple[Policy, Event]:
    """Returns the policy out of force for good; its name may be used again."""
    gone = replace(policy, updated_at=now, deleted_at=now)
    return gone, _event(EventType.POLICY_DELETED, gone, by=by, now=now, message="deleted")


def _normalize_at(index: int, policy: Policy, exact: tuple[str, ...], claims: frozenset[str] | None) -> Policy:
    try:
        return normalize(policy, exact=exact, claims=claims)
    except InvalidField as fault:
        raise fault.within(f"policies[{index}]") from None


def _change(before: Policy | None, after: Policy) -> PolicyChange:
    if before is None or before.deleted_at is not None:
        return PolicyChange(name=after.name, type=ChangeType.CREATED, before=None, after=after)
    differs = bool(changed_fields(before, after))
    return PolicyChange(
        name=after.name,
        type=ChangeType.UPDATED if differs else ChangeType.UNCHANGED,
        before=before,
        after=after if differs else before,
    )


def _event(type_: EventType, policy: Policy, *, by: Caller, now: datetime, message: str) -> Event:
    return Event(
        type=type_,
        at=now,
        principal=by.principal,
        origin=by.origin,
        resources=policy.resources,
        actions=policy.actions,
        message=message,
        policy=policy.name,
    )
