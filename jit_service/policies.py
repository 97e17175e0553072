"""Use cases of policies. Each is one transaction; admins write, and whoever a policy concerns may read it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from pydantic import TypeAdapter

from jit_service.domain import etag as etags
from jit_service.domain import paging, policy_change
from jit_service.domain.caller import Caller, Role
from jit_service.domain.errors import InvalidField, NotVisible, PolicyExists, PolicyNotFound
from jit_service.domain.policy import Policy, checked
from jit_service.idempotency import answered_before, remember
from jit_service.storage import Snapshot, Store, Transaction

MAX_APPLIED = 1000


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
        return policy_change.changed_fields(self.before, self.after)


@dataclass(frozen=True, kw_only=True)
class Applied:
    """The whole difference, by name, and the store's revision after it."""

    changes: tuple[PolicyChange, ...]
    revision: int


@dataclass(frozen=True, kw_only=True)
class Proposed:
    """A policy as a caller sent it, with the etag that it read, if any."""

    policy: Policy
    etag: str = ""


@dataclass(frozen=True, kw_only=True)
class PolicyPage:
    """One page of a list. An empty token: the last page."""

    policies: tuple[Policy, ...]
    next_page_token: str


_POLICIES = TypeAdapter(Policy)
_APPLIED = TypeAdapter(Applied)


def create(store: Store, caller: Caller, policy: Policy) -> Policy:
    """Creates a policy. Raises PolicyExists, InvalidField."""
    with store.transaction() as tx:
        if (earlier := answered_before(tx, caller, _POLICIES)) is not None:
            return earlier[0]
        wanted = checked(policy)
        existing = tx.policy(wanted.name)
        if existing is not None and existing.deleted_at is None:
            raise PolicyExists(f"there is a {wanted.name} already; update it", policy=wanted.name)
        saved = tx.save_policy(*policy_change.created(wanted, replaces=existing, by=caller, now=tx.now))
        return remember(tx, caller, _POLICIES, saved)[0]


def get(store: Store, caller: Caller, name: str, *, revision: int) -> Policy:
    """Reads a policy, or an earlier revision of it. Raises NotVisible, PolicyNotFound."""
    with store.snapshot() as snapshot:
        current = _readable(snapshot, caller, name)
        if revision in (0, current.revision):
            return current
        earlier = snapshot.policy_revision(name, revision)
        if earlier is None:
            raise PolicyNotFound(f"{name} has no revision {revision}", policy=name)
        return earlier


def list_page(store: Store, caller: Caller, *, page_size: int, page_token: str, deleted: bool) -> PolicyPage:
    """Lists the policies that the caller may read, by name. Raises InvalidField."""
    size = paging.page_size(page_size)
    this_query = paging.digest("policies", caller.principal, str(deleted))
    last = str(paging.decode(page_token, query=this_query, shape=(str,))[0]) if page_token else ""
    with store.snapshot() as snapshot:
        readable = [
            policy for policy in snapshot.policies(deleted=deleted) if _may_read(policy, caller) and policy.name > last
        ]
    shown = readable[:size]
    token = paging.encode((shown[-1].name,), query=this_query) if len(readable) > size else ""
    return PolicyPage(policies=tuple(shown), next_page_token=token)


def update(store: Store, caller: Caller, name: str, *, etag: str, change: Callable[[Policy], Policy]) -> Policy:
    """Changes a policy as `change` says. Raises PolicyNotFound, StaleEtag, InvalidField."""
    with store.transaction() as tx:
        if (earlier := answered_before(tx, caller, _POLICIES)) is not None:
            return earlier[0]
        before = _live(tx, name)
        etags.demand(etag, name, before.revision)
        after = checked(change(before))
        saved = tx.save_policy(*policy_change.updated(before, after, by=caller, now=tx.now))
        return remember(tx, caller, _POLICIES, saved)[0]


def delete(store: Store, caller: Caller, name: str, *, etag: str) -> Policy:
    """Takes a policy out of force; live grants go on. Raises PolicyNotFound, StaleEtag."""
    with store.transaction() as tx:
        if (earlier := answered_before(tx, caller, _POLICIES)) is not None:
            return earlier[0]
        before = _live(tx, name)
        etags.demand(etag, name, before.revision)
        saved = tx.save_policy(*policy_change.deleted(before, by=caller, now=tx.now))
        return remember(tx, caller, _POLICIES, saved)[0]


def apply(store: Store, caller: Caller, proposed: Sequence[Proposed], *, prune: bool) -> Applied:
    """Makes the stored policies as proposed, all or nothing. Raises InvalidField, StaleEtag, RequestIdReused."""
    with store.transaction() as tx:
        if (earlier := answered_before(tx, caller, _APPLIED)) is not None:
            return earlier[0]
        changes = [_carried_out(tx, caller, change) for change in _difference(tx, proposed, prune=prune)]
        return remember(tx, caller, _APPLIED, Applied(changes=tuple(changes), revision=tx.revision))[0]


def preview(store: Store, proposed: Sequence[Proposed], *, prune: bool) -> Applied:
    """Answers what `apply` would do, and changes nothing. Raises InvalidField, StaleEtag."""
    with store.snapshot() as snapshot:
        changes = _difference(snapshot, proposed, prune=prune)
        return Applied(changes=tuple(changes), revision=snapshot.revision)


def is_empty(store: Store) -> bool:
    """Says whether no policy was ever stored."""
    with store.snapshot() as snapshot:
        return not snapshot.policies(deleted=True)


def _difference(snapshot: Snapshot, proposed: Sequence[Proposed], *, prune: bool) -> list[PolicyChange]:
    if len(proposed) > MAX_APPLIED:
        raise InvalidField("policies", f"has {len(proposed)} policies; at most {MAX_APPLIED} are allowed")
    stored = {policy.name: policy for policy in snapshot.policies(deleted=True)}
    wanted: dict[str, Policy] = {}
    for index, entry in enumerate(proposed):
        policy = _checked_at(index, entry.policy)
        if policy.name in wanted:
            raise InvalidField(f"policies[{index}].name", f"{policy.name} is in the set twice")
        current = stored.get(policy.name)
        etags.demand(entry.etag, policy.name, current.revision if current else 0)
        wanted[policy.name] = policy
    live = [policy for policy in stored.values() if policy.deleted_at is None]
    pruned = [_pruned(policy) for policy in live if prune and policy.name not in wanted]
    changes = [_change(stored.get(name), policy) for name, policy in wanted.items()]
    return sorted(changes + pruned, key=lambda change: change.name)


def _checked_at(index: int, policy: Policy) -> Policy:
    try:
        return checked(policy)
    except InvalidField as fault:
        raise fault.within(f"policies[{index}]") from None


def _change(before: Policy | None, after: Policy) -> PolicyChange:
    if before is None or before.deleted_at is not None:
        return PolicyChange(name=after.name, type=ChangeType.CREATED, before=None, after=after)
    differs = bool(policy_change.changed_fields(before, after))
    return PolicyChange(
        name=after.name,
        type=ChangeType.UPDATED if differs else ChangeType.UNCHANGED,
        before=before,
        after=after if differs else before,
    )


def _pruned(policy: Policy) -> PolicyChange:
    return PolicyChange(name=policy.name, type=ChangeType.DELETED, before=policy, after=None)


def _carried_out(tx: Transaction, caller: Caller, change: PolicyChange) -> PolicyChange:
    after = change.after
    if change.type is ChangeType.CREATED and after is not None:
        replaced = tx.policy(change.name)
        after = tx.save_policy(*policy_change.created(after, replaces=replaced, by=caller, now=tx.now))
    elif change.type is ChangeType.UPDATED and change.before is not None and after is not None:
        after = tx.save_policy(*policy_change.updated(change.before, after, by=caller, now=tx.now))
    elif change.type is ChangeType.DELETED and change.before is not None:
        tx.save_policy(*policy_change.deleted(change.before, by=caller, now=tx.now))
    return PolicyChange(name=change.name, type=change.type, before=change.before, after=after)


def _live(snapshot: Snapshot, name: str) -> Policy:
    policy = snapshot.policy(name)
    if policy is None or policy.deleted_at is not None:
        raise PolicyNotFound(f"there is no {name}", policy=name)
    return policy


def _may_read(policy: Policy, caller: Caller) -> bool:
    return caller.has(Role.AUDITOR, Role.ADMIN) or policy.concerns(caller.principal, caller.groups)


def _readable(snapshot: Snapshot, caller: Caller, name: str) -> Policy:
    """Where the caller may not read it, the answer is the same whether it exists or not."""
    policy = snapshot.policy(name)
    if policy is None and caller.has(Role.AUDITOR, Role.ADMIN):
        raise PolicyNotFound(f"there is no {name}", policy=name)
    if policy is None or not _may_read(policy, caller):
        raise NotVisible(f"{caller.principal} may not see {name}", policy=name)
    return policy
