"""What feeds a client's replica: of every grant what a check reads, denies in force, locks, and how fresh that is.

A check by the replica must never be a yes where one by the service would be a no. So what is told between two
heartbeats is of one committed state, and a heartbeat says when that was read, by the service's clock and by a steady
one. What `domain.decision` reads beyond a grant's time, patterns, subject and groups makes a grant one that
`needs_check`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from jit_service.domain.audit.event import EventType
from jit_service.domain.caller import Caller, Role
from jit_service.domain.errors import InvalidField, RoleRequired
from jit_service.domain.grants.grant import Grant, GrantState
from jit_service.domain.grants.lock import Lock
from jit_service.domain.policies.policy import Policy
from jit_service.feeds.grants import (
    HEARTBEAT_SECONDS,
    MAX_LAG,
    ControlEvent,
    Watched,
    demand_history,
    demand_reached,
)
from jit_service.storage import Snapshot, Store
from jit_service.storage.head import Head
from jit_service.storage.head_follower import HeadFollower
from jit_service.use_cases.grants import View

_PAGE: Final = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkable:
    """What a check reads of an approved grant, and its state after what happened. `groups` None: nobody proved any."""

    name: str
    state: GrantState
    subject: str
    resources: tuple[str, ...]
    actions: tuple[str, ...]
    starts_at: datetime
    expires_at: datetime
    groups: frozenset[str] | None
    needs_check: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplicaUpdate:
    """What a replica is told; `denies` or `locks` None: that they changed is not what it says.

    It was read at `read_at` by the service's clock, not before `elapsed` since the stream began.
    """

    type: EventType | ControlEvent
    revision: int
    head: Head
    read_at: datetime
    elapsed: timedelta
    grant: Checkable | None = None
    denies: tuple[Policy, ...] | None = None
    locks: tuple[Lock, ...] | None = None


def replicate(
    store: Store,
    caller: Caller,
    watched: Watched,
    *,
    follower: HeadFollower,
    gone: Callable[[], bool],
    heartbeat_seconds: float = HEARTBEAT_SECONDS,
) -> Iterator[ReplicaUpdate]:
    """Yields all that answers checks after the revision (0: as of now, and what comes), until `gone`.

    The role `checker` may ask about everybody, and so is told this. Raises RoleRequired, InvalidField,
    StoreUnavailable, ServiceStopping.
    """
    demand_checker(caller)
    if watched.view is not View.MINE or watched.grant:
        raise InvalidField(
            "grant" if watched.grant else "view", "does not go with replica, which is told of all grants"
        )
    if watched.start_revision:
        demand_reached(store, watched)
    began = time.monotonic()
    last, at, told, caught_up = watched.start_revision, watched.start, _Told(), False
    while not gone():
        # Read before the snapshot: what it says must never look fresher than it is.
        elapsed = timedelta(seconds=time.monotonic() - began)
        with store.snapshot() as snapshot:
            demand_history(snapshot, at)
            page = _Page(snapshot, caller, elapsed, after=last, told=told)
        yield from page.updates
        last, at, told = page.upto, page.head, page.told
        if page.complete:
            caught_up = True
            follower.wait_for_revision(after=last, seconds=heartbeat_seconds, gone=gone)
        elif caught_up and page.head.revision - last > MAX_LAG:
            yield page.sign(ControlEvent.OVERRUN, last)
            return


def demand_checker(caller: Caller) -> None:
    """Raises RoleRequired where the caller may not ask about everybody, and so may not have a replica."""
    if not caller.has(Role.CHECKER):
        raise RoleRequired(f"a replica needs the role checker, which {caller.principal} does not have")


class _Told(NamedTuple):
    """The revisions of the policies and locks that this stream has told of."""

    policies: int = -1
    # That there has never been a lock need not be told, and who does not know of locks is told of none.
    locks: int = 0


class _Page:
    """What one snapshot has to tell after a revision: all of it with a heartbeat, or as much as fits."""

    def __init__(self, snapshot: Snapshot, caller: Caller, elapsed: timedelta, *, after: int, told: _Told) -> None:
        self.head = snapshot.head
        self.told = told
        self._snapshot = snapshot
        self._caller = caller
        self._elapsed = elapsed
        self._read_at = snapshot.now
        self.updates = list(self._changes(after) if after else self._current())
        if self.complete:
            self.updates += [*self._denies(), *self._locks(), self.sign(ControlEvent.HEARTBEAT, self.head.revision)]

    def sign(self, type_: EventType | ControlEvent, revision: int) -> ReplicaUpdate:
        """Returns an update that says nothing of a grant."""
        return ReplicaUpdate(
            type=type_, revision=revision, head=self.head, read_at=self._read_at, elapsed=self._elapsed
        )

    def _current(self) -> Iterable[ReplicaUpdate]:
        self.upto, self.complete = self.head.revision, True
        name = ""
        while found := self._snapshot.started_grants(after=name, limit=_PAGE):
            for grant in found:
                # Revision 0: a stream that breaks among them begins again.
                yield from self._told(ControlEvent.CURRENT, 0, grant, self._read_at)
            name = found[-1].name

    def _changes(self, after: int) -> Iterable[ReplicaUpdate]:
        changes = self._snapshot.changes(after=after, limit=_PAGE) if self.head.revision > after else []
        self.complete = len(changes) < _PAGE
        self.upto = self.head.revision if self.complete else changes[-1].revision
        for change in changes:
            yield from self._told(change.type, change.revision, change.grant, change.at)

    def _told(
        self, type_: EventType | ControlEvent, revision: int, grant: Grant, at: datetime
    ) -> Iterable[ReplicaUpdate]:
        told = checkable(grant, at, self._caller)
        if told is not None:
            yield replace(self.sign(type_, revision), grant=told)

    def _denies(self) -> Iterable[ReplicaUpdate]:
        revision = self._snapshot.policies_revision()
        if revision == self.told.policies:
            return
        self.told = self.told._replace(policies=revision)
        denies = tuple(policy for policy in self._snapshot.policies() if policy.deny and policy.in_force)
        yield replace(self.sign(ControlEvent.DENY_POLICIES, self.head.revision), denies=denies)

    def _locks(self) -> Iterable[ReplicaUpdate]:
        revision = self._snapshot.locks_revision()
        if revision == self.told.locks:
            return
        self.told = self.told._replace(locks=revision)
        locks = tuple(lock for lock in self._snapshot.locks if not lock.target.token_id)
        yield replace(self.sign(ControlEvent.LOCKS, self.head.revision), locks=locks)


def checkable(grant: Grant, at: datetime, caller: Caller) -> Checkable | None:
    """Returns what the caller's replica is told of the grant, which is in its state at `at`.

    None for a request that was never approved: it allows nothing, and is nobody's business here.
    """
    if grant.starts_at is None or grant.expires_at is None:
        return None
    return Checkable(
        name=grant.name,
        state=grant.state(at),
        subject=grant.subject,
        resources=grant.resources,
        actions=grant.actions,
        starts_at=grant.starts_at,
        expires_at=grant.expires_at,
        groups=grant.subject_groups,
        needs_check=_needs_check(grant, caller),
    )


def _needs_check(grant: Grant, caller: Caller) -> bool:
    """Says whether a check of the grant depends on more than a replica is told.

    One of the caller's own does, since the groups of its token count too when it asks about itself.
    """
    return bool(grant.check_condition or grant.is_metered or grant.chain or grant.subject == caller.principal)
