"""Use cases of locks. Each is one transaction; from its commit on the lock holds, wherever somebody is judged."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

from pydantic import TypeAdapter

from jit_service.domain.audit.event import SERVICE
from jit_service.domain.caller import Caller, Origin
from jit_service.domain.errors import LockNotFound
from jit_service.domain.frozen import replace
from jit_service.domain.grants import delegation as delegation_rules
from jit_service.domain.grants import lock as rules
from jit_service.domain.grants.grant import Grant
from jit_service.domain.grants.lock import Lock, Locks, NewLock
from jit_service.domain.language import etag as etags
from jit_service.domain.language import name, paging
from jit_service.storage import Snapshot, Store, Transaction, query
from jit_service.use_cases.idempotency import answered_before, remember
from jit_service.use_cases.identifiers import name_in_order

_LOCKS: Final = TypeAdapter(Lock)


class LockAnswer(NamedTuple):
    """A lock, and the instant by which it stands or not."""

    lock: Lock
    at: datetime


@dataclass(frozen=True, kw_only=True)
class LockPage:
    """One page of a list, judged at `at`. An empty token: the last page."""

    locks: tuple[Lock, ...]
    next_page_token: str
    at: datetime


def create(store: Store, caller: Caller, wanted: NewLock) -> LockAnswer:
    """Locks somebody; ends what they have if that is wanted. Raises InvalidField, RequestIdReused."""
    with store.transaction() as tx:
        if (earlier := answered_before(tx, caller, _LOCKS)) is not None:
            return LockAnswer(*earlier)
        accounts, also = tx.known_as(wanted.target.principal) if wanted.target.principal else ((), ())
        lock_name = name_in_order("locks", tx.revision)
        lock = rules.create(wanted, lock_name=lock_name, by=caller, now=tx.now, accounts=accounts, also=also)
        ending = _ending(tx, lock) if lock.end_grants else []
        lock = replace(lock, ended_grants=len(ending))
        saved = tx.save_lock(lock, rules.creation_event(lock, by=caller))
        for grant in ending:
            tx.save_grant(*rules.end_grant(saved, grant, by=caller, now=tx.now))
        if lock.end_grants:
            _end_delegations(tx, saved, by=caller)
        return LockAnswer(*remember(tx, caller, _LOCKS, saved))


def get(store: Store, name: str) -> LockAnswer:
    """Reads a lock. Raises LockNotFound."""
    with store.snapshot() as snapshot:
        return LockAnswer(_find(snapshot, name), snapshot.now)


def list_page(store: Store, caller: Caller, *, page_size: int, page_token: str, over: bool) -> LockPage:
    """Lists the locks that stand, newest first; lifted ones and those that are `over` only if asked for."""
    this_query = paging.digest("locks", caller.principal, str(over))
    with store.snapshot() as snapshot:
        shown, token = query.newest_page(
            lambda before, limit: snapshot.all_locks(over=over, before=before, limit=limit),
            query=this_query,
            page_size=page_size,
            page_token=page_token,
        )
        return LockPage(locks=shown, next_page_token=token, at=snapshot.now)


def delete(store: Store, caller: Caller, name: str, *, etag: str) -> LockAnswer:
    """Lifts a lock at once. Raises LockNotFound, WrongState, StaleEtag, RequestIdReused."""
    with store.transaction() as tx:
        found = _find(tx, name)
        if (earlier := answered_before(tx, caller, _LOCKS)) is not None:
            return LockAnswer(*earlier)
        etags.demand(etag, name, found.revision)
        gone = tx.save_lock(*rules.lift(found, by=caller, now=tx.now))
        return LockAnswer(*remember(tx, caller, _LOCKS, gone))


def lift_at_host(store: Store, which: str) -> list[Lock]:
    """Lifts the lock of that name, or every lock on that principal, for an operator at the service's own host.

    Where everybody who may lift it is locked, nobody else can. Raises LockNotFound, WrongState.
    """
    by = Caller(principal=SERVICE, origin=Origin(method="jit-service unlock"))
    with store.transaction() as tx:
        if which.startswith("locks/"):
            found = [_find(tx, name.lock_name(which, "LOCK"))]
        else:
            same = name.canonical(which)
            found = [lock for lock in tx.locks if same in map(name.canonical, lock.principals)]
        if not found:
            raise LockNotFound(f"no lock stands on {which}")
        return [tx.save_lock(*rules.lift(lock, by=by, now=tx.now)) for lock in found]


def _ending(tx: Transaction, lock: Lock) -> list[Grant]:
    """Returns what ends with the lock, each once: what the locked hold or wait for, and what was passed on from it."""
    own = tx.grants_under_lock(lock)
    below = [child for grant in own for child in tx.live_children(grant.name)]
    return list({grant.name: grant for grant in (*own, *below)}.values())


def _end_delegations(tx: Transaction, lock: Lock, *, by: Caller) -> None:
    only = Locks([lock])
    for given in tx.usable_delegations():
        if only.on_right(given.right) is not None:
            gone, event = delegation_rules.end_by_lock(given, lock=lock.name, by=by, now=tx.now)
            tx.save_delegation(gone, event)


def _find(snapshot: Snapshot, name: str) -> Lock:
    found = snapshot.lock(name)
    if found is None:
        raise LockNotFound(f"there is no {name}", lock=name)
    return found
