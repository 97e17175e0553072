"""Use cases of policies. Each is one transaction; admins write, and whoever a policy concerns may read it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from pydantic import TypeAdapter

from jit_service.domain.audit.event import Event
from jit_service.domain.caller import Caller, Role
from jit_service.domain.errors import NotVisible, PolicyExists, PolicyNotFound
from jit_service.domain.grants.approval import may_review_under
from jit_service.domain.language import etag as etags
from jit_service.domain.language import paging
from jit_service.domain.policies import diff
from jit_service.domain.policies.diff import ChangeType, PolicyChange, PolicyDraft
from jit_service.domain.policies.policy import Policy, normalize
from jit_service.storage import Snapshot, Store, Transaction
from jit_service.use_cases import misfits
from jit_service.use_cases.delegations import with_delegations
from jit_service.use_cases.grants import end_below
from jit_service.use_cases.idempotency import answered_before, remember
from jit_service.use_cases.misfits import Misfits


@dataclass(frozen=True, kw_only=True)
class ApplyResult:
    """The whole difference, by name, and the store's revision after it.

    With a `proposal` nothing is changed yet: it waits for another admin. `misfits` are the grants that would not be
    given any more.
    """

    changes: tuple[PolicyChange, ...]
    revision: int
    proposal: str = ""
    misfits: Misfits = Misfits()


@dataclass(frozen=True, kw_only=True)
class PolicyPage:
    """One page of a list. An empty token: the last page."""

    policies: tuple[Policy, ...]
    next_page_token: str


_POLICIES = TypeAdapter(Policy)
APPLIED = TypeAdapter(ApplyResult)


def create(store: Store, caller: Caller, policy: Policy) -> Policy:
    """Creates a policy; what is scheduled and does not fit it ends. Raises PolicyExists, InvalidField."""
    with store.transaction() as tx:
        if (earlier := answered_before(tx, caller, _POLICIES)) is not None:
            return earlier[0]
        wanted = normalize(policy, exact=caller.exact, claims=caller.stored_claims)
        existing = tx.policy(wanted.name)
        if existing is not None and existing.deleted_at is None:
            raise PolicyExists(f"there is a {wanted.name} already; update it", policy=wanted.name)
        saved = tx.save_policy(*diff.create(wanted, replaces=existing, by=caller, now=tx.now))
        _settle(tx, caller, ChangeType.CREATED, None, saved)
        return remember(tx, caller, _POLICIES, saved)[0]


def get(store: Store, caller: Caller, name: str, *, revision: int) -> Policy:
    """Reads a policy, or an earlier revision of it. Raises NotVisible, PolicyNotFound."""
    with store.snapshot() as snapshot:
        current = _find_readable(snapshot, with_delegations(snapshot, caller), name)
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
        by = with_delegations(snapshot, caller)
        readable = [
            policy for policy in snapshot.policies(deleted=deleted) if may_read(policy, by) and policy.name > last
        ]
    shown = readable[:size]
    token = paging.encode((shown[-1].name,), query=this_query) if len(readable) > size else ""
    return PolicyPage(policies=tuple(shown), next_page_token=token)


def update(store: Store, caller: Caller, name: str, *, etag: str, change: Callable[[Policy], Policy]) -> Policy:
    """Changes a policy as `change` says; what is scheduled and does not fit any more ends.

    Raises PolicyNotFound, StaleEtag, InvalidField.
    """
    with store.transaction() as tx:
        if (earlier := answered_before(tx, caller, _POLICIES)) is not None:
            return earlier[0]
        before = _find_live(tx, name)
        etags.demand(etag, name, before.revision)
        after = normalize(change(before), exact=caller.exact, claims=caller.stored_claims)
        saved = tx.save_policy(*diff.update(before, after, by=caller, now=tx.now))
        _settle(tx, caller, ChangeType.UPDATED, before, saved)
        return remember(tx, caller, _POLICIES, saved)[0]


def delete(store: Store, caller: Caller, name: str, *, etag: str) -> Policy:
    """Takes a policy out of force; live grants go on, scheduled ones end. Raises PolicyNotFound, StaleEtag."""
    with store.transaction() as tx:
        if (earlier := answered_before(tx, caller, _POLICIES)) is not None:
            return earlier[0]
        before = _find_live(tx, name)
        etags.demand(etag, name, before.revision)
        saved = tx.save_policy(*diff.delete(before, by=caller, now=tx.now))
        _settle(tx, caller, ChangeType.DELETED, before, None)
        return remember(tx, caller, _POLICIES, saved)[0]


def apply(
    store: Store, caller: Caller, proposed: Sequence[PolicyDraft], *, prune: bool, end_misfits: bool = False
) -> ApplyResult:
    """Makes the stored policies as proposed, all or nothing. Raises InvalidField, StaleEtag, RequestIdReused.

    What is scheduled and does not fit any more ends, and with `end_misfits` what is live.
    """
    with store.transaction() as tx:
        if (earlier := answered_before(tx, caller, APPLIED)) is not None:
            return earlier[0]
        changes = [apply_change(tx, caller, change) for change in difference(tx, caller, proposed, prune=prune)]
        found, ended = misfits.settle(tx, caller, changes, end_live=end_misfits)
        applied = ApplyResult(changes=tuple(changes), revision=tx.revision, misfits=found)
        answer = remember(tx, caller, APPLIED, applied)[0]
    end_below(store, ended, by=caller)
    return answer


def preview(
    store: Store, caller: Caller, proposed: Sequence[PolicyDraft], *, prune: bool, end_misfits: bool = False
) -> ApplyResult:
    """Answers what `apply` would do, and changes nothing. Raises InvalidField, StaleEtag."""
    with store.snapshot() as snapshot:
        changes = difference(snapshot, caller, proposed, prune=prune)
        found = misfits.foresee(snapshot, changes, end_live=end_misfits)
        return ApplyResult(changes=tuple(changes), revision=snapshot.revision, misfits=found)


def is_empty(store: Store) -> bool:
    """Returns whether no policy was ever stored."""
    with store.snapshot() as snapshot:
        return not snapshot.policies(deleted=True)


def difference(
    snapshot: Snapshot, caller: Caller, proposed: Sequence[PolicyDraft], *, prune: bool
) -> list[PolicyChange]:
    """Returns what applying the set would do to each policy, by name. Raises InvalidField, StaleEtag."""
    stored = snapshot.policies(deleted=True)
    return diff.difference(stored, proposed, prune=prune, exact=caller.exact, claims=caller.stored_claims)


def apply_change(tx: Transaction, caller: Caller, change: PolicyChange, *, proposal: str = "") -> PolicyChange:
    """Makes the change, as part of the proposal if any. Returns it with the policy as stored."""

    def save(policy: Policy, event: Event) -> Policy:
        return tx.save_policy(policy, replace(event, proposal=proposal))

    after = change.after
    if change.type is ChangeType.CREATED and after is not None:
        replaced = tx.policy(change.name)
        after = save(*diff.create(after, replaces=replaced, by=caller, now=tx.now))
    elif change.type is ChangeType.UPDATED and change.before is not None and after is not None:
        after = save(*diff.update(change.before, after, by=caller, now=tx.now))
    elif change.type is ChangeType.DELETED and change.before is not None:
        save(*diff.delete(change.before, by=caller, now=tx.now))
    return replace(change, after=after)


def _settle(tx: Transaction, caller: Caller, type_: ChangeType, before: Policy | None, after: Policy | None) -> None:
    either = after or before
    if either is not None:
        change = PolicyChange(name=either.name, type=type_, before=before, after=after)
        misfits.settle(tx, caller, [change])


def _find_live(snapshot: Snapshot, name: str) -> Policy:
    policy = snapshot.policy(name)
    if policy is None or policy.deleted_at is not None:
        raise PolicyNotFound(f"there is no {name}", policy=name)
    return policy


def may_read(policy: Policy, caller: Caller) -> bool:
    """Returns whether the caller may read the policy: it concerns the caller, or the caller reads everything."""
    if caller.has(Role.AUDITOR, Role.ADMIN) or policy.concerns(caller.principal, caller.groups):
        return True
    return may_review_under(policy, caller)


def _find_readable(snapshot: Snapshot, caller: Caller, name: str) -> Policy:
    """Where the caller may not read it, the answer is the same whether it exists or not."""
    policy = snapshot.policy(name)
    if policy is None and caller.has(Role.AUDITOR, Role.ADMIN):
        raise PolicyNotFound(f"there is no {name}", policy=name)
    if policy is None or not may_read(policy, caller):
        raise NotVisible(f"{caller.principal} may not see {name}", policy=name)
    return policy
