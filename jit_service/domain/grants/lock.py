"""Locks: somebody is switched off until the lock is lifted or over.

A lock forbids, so it is compared as a deny is: principals folded, and groups that nobody has proved may be any.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from jit_service.domain.audit.event import SERVICE, Event, EventType
from jit_service.domain.caller import Caller, Right
from jit_service.domain.errors import InvalidField, Locked, WrongState
from jit_service.domain.grants.grant import Grant, GrantState, end, event
from jit_service.domain.language import name
from jit_service.domain.person import Account

MAX_TOKEN_ID: Final = 512


@dataclass(frozen=True, kw_only=True)
class Target:
    """Whom or what a lock is on: exactly one of these is given. `token_id` is the `jti` of an identity token."""

    principal: str = ""
    group: str = ""
    token_id: str = ""

    def __str__(self) -> str:
        return self.principal or (f"the group {self.group}" if self.group else f"the token {self.token_id}")


@dataclass(frozen=True, kw_only=True)
class NewLock:
    """A lock as it is wanted. No end: until it is lifted."""

    target: Target
    comment: str
    expires_at: datetime | None = None
    end_grants: bool = False


@dataclass(frozen=True, kw_only=True)
class Lock:
    """A lock over [created_at, expires_at), unless it is lifted before. `ended_grants` counts what it ended.

    `accounts` are what issuers called the locked principal, and `also` other names of these, as far as the store knew
    when it was locked: a new name is no way out (invariant I29).
    """

    name: str
    target: Target
    comment: str
    creator: str
    created_at: datetime
    expires_at: datetime | None = None
    end_grants: bool = False
    ended_grants: int = 0
    deleted_at: datetime | None = None
    revision: int = 0
    accounts: tuple[Account, ...] = ()
    also: tuple[str, ...] = ()

    @property
    def principals(self) -> tuple[str, ...]:
        """Every name of whom it is on; none where it is on a group or a token."""
        return (self.target.principal, *self.also) if self.target.principal else ()

    def stands(self, now: datetime) -> bool:
        """Returns whether it is neither lifted nor over."""
        return self.deleted_at is None and not self.is_over(now)

    def is_over(self, now: datetime) -> bool:
        """Returns whether its time has run out."""
        return self.expires_at is not None and now >= self.expires_at


class Locks:
    """Locks that stand, prepared for questions. Without any it is false, and whoever asks need ask no further."""

    __slots__ = ("_by_account", "_by_group", "_by_principal", "_by_token", "_locks", "_until")

    def __init__(self, locks: Iterable[Lock] = ()) -> None:
        self._locks = tuple(locks)
        self._by_principal = {name.canonical(known): lock for lock in self._locks for known in lock.principals}
        self._by_account = {account: lock for lock in self._locks for account in lock.accounts}
        self._by_group = {lock.target.group: lock for lock in self._locks}
        self._by_token = {lock.target.token_id: lock for lock in self._locks}
        for found in (self._by_group, self._by_token):
            found.pop("", None)
        self._until = min((lock.expires_at for lock in self._locks if lock.expires_at is not None), default=None)

    def __bool__(self) -> bool:
        return bool(self._locks)

    def __iter__(self) -> Iterator[Lock]:
        return iter(self._locks)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Locks) and self._locks == other._locks

    def __hash__(self) -> int:
        return hash(self._locks)

    def at(self, now: datetime) -> Locks:
        """Returns those that are not over; these themselves where that is all of them."""
        if self._until is None or now < self._until:
            return self
        return Locks(lock for lock in self._locks if not lock.is_over(now))

    def on(self, principal: str, groups: frozenset[str] | None) -> Lock | None:
        """Returns a lock on the principal or on one of its groups. Groups that nobody has proved may be any."""
        if (found := self._by_principal.get(name.canonical(principal))) is not None:
            return found
        if not self._by_group:
            return None
        if groups is None:
            return next(iter(self._by_group.values()))
        return next((lock for group, lock in self._by_group.items() if group in groups), None)

    def on_caller(self, caller: Caller) -> Lock | None:
        """Returns a lock on the caller: on its principal, its account, a group of its token, or its token."""
        by_name = self.on(caller.principal, caller.groups)
        return by_name or self.on_account(caller.account) or self.on_token(caller.token_id)

    def on_right(self, right: Right) -> Lock | None:
        """Returns a lock on whoever has the right to review, under whatever name."""
        return self.on(right.holder, right.groups) or self.on_account(right.account)

    def on_account(self, account: Account | None) -> Lock | None:
        """Returns a lock on whoever has the account, whatever the name is now."""
        return self._by_account.get(account) if account is not None else None

    def on_token(self, token_id: str) -> Lock | None:
        """Returns a lock on the identity token."""
        return self._by_token.get(token_id) if token_id else None


NO_LOCKS: Final = Locks()


def message(lock: Lock, principal: str, groups: frozenset[str] | None) -> str:
    """Returns what is said of whoever is locked. Not why, which is for those who lock."""
    if not lock.target.group:
        return f"{principal} is locked by {lock.name}"
    doubt = f": nobody proved which groups {principal} is in, so it may be in that one" if groups is None else ""
    return f"{principal} is locked by {lock.name}, which is on the group {lock.target.group}{doubt}"


def demand_unlocked(locks: Locks, principal: str, groups: frozenset[str] | None) -> None:
    """Raises Locked where a lock stands on the principal, or on one of its groups."""
    if locks and (lock := locks.on(principal, groups)) is not None:
        raise Locked(message(lock, principal, groups), lock=lock.name)


def demand_unlocked_people(locks: Locks, grant: Grant) -> None:
    """Raises Locked where a lock stands on whoever holds the grant or asked for it."""
    demand_unlocked(locks, grant.subject, grant.subject_groups)
    demand_unlocked(locks, grant.requester, grant.requester_groups)


def demand_unlocked_caller(locks: Locks, caller: Caller) -> None:
    """Raises Locked where a lock stands on the caller, a group of its token, or its token."""
    if locks and (lock := locks.on_caller(caller)) is not None:
        raise Locked(message(lock, caller.principal, caller.groups), lock=lock.name)


def create(
    wanted: NewLock,
    *,
    lock_name: str,
    by: Caller,
    now: datetime,
    accounts: Iterable[Account] = (),
    also: Iterable[str] = (),
) -> Lock:
    """Returns the lock. `accounts` and `also` are what is known of its principal. Raises InvalidField.

    It is refused as well where it would lock whoever creates it.
    """
    target = _normalize_target(wanted.target)
    if not wanted.comment.strip():
        raise InvalidField("lock.comment", "is required: say why")
    if wanted.expires_at is not None and wanted.expires_at <= now:
        raise InvalidField("lock.expire_time", f"is {wanted.expires_at.isoformat()}; it must be after now")
    if wanted.end_grants and target.token_id:
        raise InvalidField("lock.end_grants", "does not go with jti: a token holds no grants; lock its principal")
    lock = Lock(
        name=lock_name,
        target=target,
        comment=name.free_text(wanted.comment, "lock.comment"),
        creator=by.principal,
        created_at=now,
        expires_at=wanted.expires_at,
        end_grants=wanted.end_grants,
        accounts=tuple(accounts),
        also=tuple(also),
    )
    # Nobody could undo it by a call.
    if Locks([lock]).on_caller(by) is not None:
        raise InvalidField("lock", f"on {target} would lock {by.principal}, who creates it; let somebody else do it")
    return lock


def creation_event(lock: Lock, *, by: Caller) -> Event:
    """Returns the event of a new lock."""
    span = lock.expires_at - lock.created_at if lock.expires_at is not None else None
    return replace(
        _event(EventType.LOCK_CREATED, lock, by=by, now=lock.created_at, message=lock.comment), duration=span
    )


def lift(lock: Lock, *, by: Caller, now: datetime) -> tuple[Lock, Event]:
    """Lifts the lock. Raises WrongState for one that does not stand."""
    if not lock.stands(now):
        raise WrongState(f"{lock.name} is {'lifted' if lock.deleted_at else 'over'} already", lock=lock.name)
    gone = replace(lock, deleted_at=now)
    return gone, _event(EventType.LOCK_DELETED, gone, by=by, now=now, message="lifted")


def expiry_event(lock: Lock, *, now: datetime) -> Event:
    """Returns the event of a lock whose time has run out."""
    return _event(EventType.LOCK_EXPIRED, lock, by=Caller(principal=SERVICE), now=now, message="its time ran out")


def end_grant(lock: Lock, grant: Grant, *, by: Caller, now: datetime) -> tuple[Grant, Event]:
    """Ends a grant with the lock: what waits is denied, what was given is revoked."""
    waits = grant.state(now) is GrantState.PENDING
    comment = f"{lock.name}: {lock.comment}"
    over = end(grant, GrantState.DENIED if waits else GrantState.REVOKED, by=by, comment=comment, now=now)
    type_ = EventType.GRANT_DENIED if waits else EventType.GRANT_REVOKED
    return over, replace(event(type_, over, by=by, now=now, message=comment), lock=lock.name)


def _normalize_target(target: Target) -> Target:
    given = [field for field in ("principal", "group", "token_id") if getattr(target, field)]
    if len(given) != 1:
        raise InvalidField("lock", "must have exactly one of principal, group and jti")
    if target.group:
        return Target(group=name.group(target.group, "lock.group"))
    if target.token_id:
        if len(target.token_id) > MAX_TOKEN_ID or not target.token_id.isprintable():
            raise InvalidField("lock.jti", f"must be at most {MAX_TOKEN_ID} printable characters")
        # As calls by it are recorded, which a lock is compared with.
        return Target(token_id=name.foreign_id(target.token_id))
    return Target(principal=name.principal(target.principal, "lock.principal"))


def _event(type_: EventType, lock: Lock, *, by: Caller, now: datetime, message: str) -> Event:
    target = lock.target
    return Event(
        type=type_,
        at=now,
        principal=by.principal,
        origin=by.origin,
        subject=target.principal,
        groups=(target.group,) if target.group else (),
        token_id=target.token_id,
        message=message,
        lock=lock.name,
    )
