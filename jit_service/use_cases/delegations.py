"""Use cases of delegations. Each is one transaction; whoever gives or has one may read it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from pydantic import TypeAdapter

from jit_service.domain.bounds import BOUNDS, Bounds
from jit_service.domain.caller import Caller, Role
from jit_service.domain.errors import DelegationNotFound, NotVisible
from jit_service.domain.grants import delegation as rules
from jit_service.domain.grants.delegation import Delegation, NewDelegation
from jit_service.domain.language import etag as etags
from jit_service.domain.language import paging
from jit_service.storage import Snapshot, Store, Transaction, query
from jit_service.use_cases.idempotency import answered_before, remember
from jit_service.use_cases.identifiers import name_in_order

_DELEGATIONS = TypeAdapter(Delegation)


class DelegationAnswer(NamedTuple):
    """A delegation, and the instant by which it is active or not."""

    delegation: Delegation
    at: datetime


@dataclass(frozen=True, kw_only=True)
class DelegationPage:
    """One page of a list, judged at `at`. An empty token: the last page."""

    delegations: tuple[Delegation, ...]
    next_page_token: str
    at: datetime


def with_delegations(snapshot: Snapshot, caller: Caller) -> Caller:
    """Returns the caller with the rights to review that others have put into its hands; the locked give none."""
    locks = snapshot.locks
    return caller._replace(
        delegated=tuple(
            found.right
            for found in snapshot.delegations_to(caller.principal)
            # One's own right under another name is no more than one's own right.
            if not found.right.person.is_same(caller.person) and (not locks or locks.on_right(found.right) is None)
        )
    )


def create(store: Store, caller: Caller, wanted: NewDelegation, *, bounds: Bounds = BOUNDS) -> DelegationAnswer:
    """Lets another review in the caller's place. Raises InvalidField, TooManyDelegations, RequestIdReused."""
    with store.transaction() as tx:
        if (earlier := answered_before(tx, caller, _DELEGATIONS)) is not None:
            return DelegationAnswer(*earlier)
        delegation_name = name_in_order("delegations", tx.revision)
        delegation, event = rules.create(wanted, delegation_name=delegation_name, by=caller, now=tx.now)
        _demand_room(tx, delegation, bounds)
        return DelegationAnswer(*remember(tx, caller, _DELEGATIONS, tx.save_delegation(delegation, event)))


def end_lost(store: Store, caller: Caller) -> None:
    """Ends what the caller delegated by a group that its token does not give any more; of others nothing is written."""
    if caller.groups is None:
        return
    with store.snapshot() as snapshot:
        if not _lost_by(snapshot, caller):
            return
    with store.transaction() as tx:
        for found in _lost_by(tx, caller):
            tx.save_delegation(*rules.end_lost(found, by=caller, now=tx.now))


def _lost_by(snapshot: Snapshot, caller: Caller) -> list[Delegation]:
    return [found for found in snapshot.delegations_by(caller.principal) if rules.lost_groups(found, caller)]


def _demand_room(tx: Transaction, new: Delegation, bounds: Bounds) -> None:
    """Counted under the write lock, so that two at once cannot both take the last place."""
    given, held = tx.count_delegations(delegator=new.delegator, delegate=new.delegate)
    bounds.demand_delegation(given=given, held=held, delegator=new.delegator, delegate=new.delegate)


def get(store: Store, caller: Caller, name: str) -> DelegationAnswer:
    """Reads a delegation. Raises NotVisible, DelegationNotFound."""
    with store.snapshot() as snapshot:
        return DelegationAnswer(_find_visible(snapshot, caller, name), snapshot.now)


def list_page(store: Store, caller: Caller, *, page_size: int, page_token: str) -> DelegationPage:
    """Lists the delegations that the caller gave or has, newest first; auditors and admins see all."""
    everybody = caller.has(Role.AUDITOR, Role.ADMIN)
    this_query = paging.digest("delegations", caller.principal, str(everybody))
    whose = None if everybody else caller.person
    with store.snapshot() as snapshot:
        shown, token = query.newest_page(
            lambda before, limit: snapshot.delegations(whose, before=before, limit=limit),
            query=this_query,
            page_size=page_size,
            page_token=page_token,
        )
        return DelegationPage(delegations=shown, next_page_token=token, at=snapshot.now)


def delete(store: Store, caller: Caller, name: str, *, etag: str) -> DelegationAnswer:
    """Ends a delegation at once. Raises NotVisible, DelegationNotFound, NotYours, WrongState, StaleEtag."""
    with store.transaction() as tx:
        found = _find_visible(tx, caller, name)
        if (earlier := answered_before(tx, caller, _DELEGATIONS)) is not None:
            return DelegationAnswer(*earlier)
        etags.demand(etag, name, found.revision)
        gone = tx.save_delegation(*rules.delete(found, by=caller, now=tx.now))
        return DelegationAnswer(*remember(tx, caller, _DELEGATIONS, gone))


def _find_visible(snapshot: Snapshot | Transaction, caller: Caller, name: str) -> Delegation:
    """Where the caller may not see it, the answer is the same whether it exists or not."""
    found = snapshot.delegation(name)
    if found is None and caller.has(Role.AUDITOR, Role.ADMIN):
        raise DelegationNotFound(f"there is no {name}", delegation=name)
    if found is None or not found.is_visible_to(caller):
        raise NotVisible(f"{caller.principal} may not see {name}", delegation=name)
    return found
