"""The use case of WatchGrants for a replica: streams what checks read of grants, the denies in force and the locks.

A replica must never say yes where the service would say no. So all updates between two heartbeats are of one committed
state, and a heartbeat says when that state was read, by the service's clock and by a monotonic one. A grant whose
decision reads more than its time, patterns, subject and groups `needs_check` by the service.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, nullcontext
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
from jit_service.use_cases.grants import GrantView

_PAGE: Final = 1000
_TURNS: Final = threading.Semaphore(4)
"""How many streams of this process read all grants at once."""
_TURN_SECONDS: Final = 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkable:
    """What a check reads of an approved grant, and its state after the change. `groups` is None if none were proved."""

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
    """An update of a replica. `denies` or `locks` is None in an update that does not replace them.

    It was read at `read_at` by the service's clock, at least `elapsed` after the stream began.
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
) -> Generator[ReplicaUpdate, None, None]:
    """Yields all that checks need after a revision (0: the current state, then changes), until `gone` returns True.

    It needs the role `checker`, which may ask about every subject anyway. The current state is read while it is sent; a
    few streams do that at once, and the others wait. Raises RoleRequired, InvalidField,
    StoreUnavailable, ServiceStopping.
    """
    demand_checker(caller)
    if watched.view is not GrantView.MINE or watched.grant:
        raise InvalidField("grant" if watched.grant else "view", "does not go with replica, which receives all grants")
    if watched.start_revision:
        demand_reached(store, watched)
    began = time.monotonic()
    last, at, sent, caught_up = watched.start_revision, watched.start, _Sent(), False
    while not gone():
        with nullcontext(True) if last else _turn(gone) as has_turn:
            if not has_turn:
                return
            # Read before the snapshot, so that the update never looks fresher than it is.
            elapsed = timedelta(seconds=time.monotonic() - began)
            with store.snapshot() if last else store.long_snapshot() as snapshot:
                demand_history(snapshot, at)
                if last:
                    snapshot.grant_beginning.demand_changes_after(last, "start_revision")
                page = _Page(snapshot, caller, elapsed, sent=sent)
                updates: list[ReplicaUpdate] = []
                if last:
                    updates += page.changes(last)
                else:
                    # Told while they are read: they are many, and a client that has gone ends the reading.
                    yield from page.current()
                if page.complete:
                    updates += page.ending()
        yield from updates
        last, at, sent = page.upto, page.head, page.sent
        if page.complete:
            caught_up = True
            follower.wait_for_revision(after=last, seconds=heartbeat_seconds, gone=gone)
        elif caught_up and page.head.revision - last > MAX_LAG:
            yield page.sign(ControlEvent.OVERRUN, last)
            return


@contextmanager
def _turn(gone: Callable[[], bool]) -> Iterator[bool]:
    """Waits until few others read all grants: each has a connection of the store for as long, and the same processor.

    Yields whether it has the turn; if not, the client has gone.
    """
    while not (has_turn := _TURNS.acquire(timeout=_TURN_SECONDS)) and not gone():
        pass
    try:
        yield has_turn
    finally:
        if has_turn:
            _TURNS.release()


def demand_checker(caller: Caller) -> None:
    """Raises RoleRequired if the caller may not ask about every subject, and so may not have a replica."""
    if not caller.has(Role.CHECKER):
        raise RoleRequired(f"a replica needs the role checker, which {caller.principal} does not have")


class _Sent(NamedTuple):
    """The revisions of the policies and the locks that this stream has sent last."""

    policies: int = -1
    # 0: no update while there has never been a lock, so a client that does not know locks receives none.
    locks: int = 0


class _Page:
    """The updates of one snapshot: all of them and a heartbeat, or one full page of changes."""

    def __init__(self, snapshot: Snapshot, caller: Caller, elapsed: timedelta, *, sent: _Sent) -> None:
        self.head = snapshot.head
        self.sent = sent
        self.upto = self.head.revision
        self.complete = True
        self._snapshot = snapshot
        self._caller = caller
        self._elapsed = elapsed
        self._read_at = snapshot.now

    def sign(self, type_: EventType | ControlEvent, revision: int) -> ReplicaUpdate:
        """Returns an update without a grant."""
        return ReplicaUpdate(
            type=type_, revision=revision, head=self.head, read_at=self._read_at, elapsed=self._elapsed
        )

    def current(self) -> Iterator[ReplicaUpdate]:
        """Yields what there is, while it is read."""
        name = ""
        while found := self._snapshot.started_grants(after=name, limit=_PAGE):
            for grant in found:
                # Revision 0: a stream that breaks before the heartbeat begins again.
                yield from self._update(ControlEvent.CURRENT, 0, grant, self._read_at)
            name = found[-1].name

    def changes(self, after: int) -> Iterator[ReplicaUpdate]:
        """Yields what changed after the revision, up to a full page."""
        changes = self._snapshot.changes(after=after, limit=_PAGE) if self.head.revision > after else []
        self.complete = len(changes) < _PAGE
        self.upto = self.head.revision if self.complete else changes[-1].revision
        for change in changes:
            yield from self._update(change.type, change.revision, change.grant, change.at)

    def ending(self) -> Iterator[ReplicaUpdate]:
        """Yields what else belongs to the state, and the heartbeat that ends it."""
        yield from self._denies()
        yield from self._locks()
        yield self.sign(ControlEvent.HEARTBEAT, self.head.revision)

    def _update(
        self, type_: EventType | ControlEvent, revision: int, grant: Grant, at: datetime
    ) -> Iterable[ReplicaUpdate]:
        shown = checkable(grant, at, self._caller)
        if shown is not None:
            yield replace(self.sign(type_, revision), grant=shown)

    def _denies(self) -> Iterable[ReplicaUpdate]:
        revision = self._snapshot.policies_revision()
        if revision == self.sent.policies:
            return
        self.sent = self.sent._replace(policies=revision)
        denies = tuple(policy for policy in self._snapshot.policies() if policy.deny and policy.in_force)
        yield replace(self.sign(ControlEvent.DENY_POLICIES, self.head.revision), denies=denies)

    def _locks(self) -> Iterable[ReplicaUpdate]:
        revision = self._snapshot.locks_revision()
        if revision == self.sent.locks:
            return
        self.sent = self.sent._replace(locks=revision)
        locks = tuple(lock for lock in self._snapshot.locks if not lock.target.token_id)
        yield replace(self.sign(ControlEvent.LOCKS, self.head.revision), locks=locks)


def checkable(grant: Grant, at: datetime, caller: Caller) -> Checkable | None:
    """Returns what the caller's replica receives of the grant, with its state at `at`.

    Returns None for a request that was never approved: it allows nothing, so no replica needs it.
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
    """Returns whether a check of the grant depends on more than a replica has.

    A check of the caller's own grant does: the groups of its token count too when it asks about itself.
    """
    return bool(grant.check_condition or grant.is_metered or grant.chain or grant.subject == caller.principal)
