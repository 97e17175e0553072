"""The use case of WatchGrants for a replica: streams what checks read of grants, the denies in force and the locks.

A replica must never say yes where the service would say no. So all updates between two heartbeats are of one committed
state, and a heartbeat says when that state was read, by the service's clock and by a monotonic one. A grant whose
decision reads more than its time, patterns, subject and groups `needs_check` by the service.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
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
from jit_service.feeds.turns import Turns
from jit_service.storage import Snapshot, Store
from jit_service.storage.head import Head
from jit_service.storage.head_follower import HeadFollower
from jit_service.storage.rows import GrantChange
from jit_service.use_cases.grants import GrantView

_PAGE: Final = 1000
_TURNS: Final = Turns(4)


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
    few streams do that at once, and the others wait. Raises RoleRequired, InvalidField, RecordsPruned,
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
        if last:
            # All replicas need the same, most at the same time.
            read = follower.read(
                ("replica", last, at, sent), partial(_news, after=last, at=at, sent=sent), not_before=began
            )
            news = read.found
            telling = _Telling(caller, news, elapsed=timedelta(seconds=read.began_at - began))
            yield from telling.changes(news)
        else:
            with _TURNS.taken(gone) as has_turn:
                if not has_turn:
                    return
                news, telling = yield from _all_grants(store, caller, at, sent, began=began)
        if news.is_complete:
            yield from telling.ending(news)
        last, at, sent = news.upto, news.head, news.sent
        if news.is_complete:
            caught_up = True
            follower.wait_for_revision(after=last, seconds=heartbeat_seconds, gone=gone)
        elif caught_up and news.head.revision - last > MAX_LAG:
            yield telling.sign(ControlEvent.OVERRUN, last)
            return


def _all_grants(
    store: Store, caller: Caller, at: Head, sent: _Sent, *, began: float
) -> Generator[ReplicaUpdate, None, tuple[_News, _Telling]]:
    """Yields an update for each grant while it is read: they are many, and a client that has gone ends the reading.

    Returns what else the state has.
    """
    # Read before the snapshot, so that the update never looks fresher than it is.
    elapsed = timedelta(seconds=time.monotonic() - began)
    with store.long_snapshot() as snapshot:
        news = _news(snapshot, after=0, at=at, sent=sent)
        telling = _Telling(caller, news, elapsed=elapsed)
        yield from telling.current(snapshot)
        return news, telling


def demand_checker(caller: Caller) -> None:
    """Raises RoleRequired if the caller may not ask about every subject, and so may not have a replica."""
    if not caller.has(Role.CHECKER):
        raise RoleRequired(f"a replica needs the role checker, which {caller.principal} does not have")


class _Sent(NamedTuple):
    """The revisions of the policies and the locks that this stream has sent last."""

    policies: int = -1
    # 0: no update while there has never been a lock, so a client that does not know locks receives none.
    locks: int = 0


class _News(NamedTuple):
    """What one state has after a revision: all changes, or a full page of them up to `upto`.

    `sent` are the revisions that a stream has sent once it has told all this.
    """

    head: Head
    at: datetime
    changes: list[GrantChange]
    is_complete: bool
    upto: int
    sent: _Sent
    denies: tuple[Policy, ...] | None = None
    locks: tuple[Lock, ...] | None = None


def _news(snapshot: Snapshot, *, after: int, at: Head, sent: _Sent) -> _News:
    """Reads what a stream that has told the state `at` up to the revision `after` has to tell; 0: no changes.

    Raises InvalidField if the history does not contain `at`, RecordsPruned if changes after it were forgotten.
    """
    demand_history(snapshot, at)
    changes: list[GrantChange] = []
    if after:
        snapshot.grant_beginning.demand_changes_after(after, "start_revision")
        changes = snapshot.changes(after=after, limit=_PAGE) if snapshot.revision > after else []
    news = _News(snapshot.head, snapshot.now, changes, len(changes) < _PAGE, snapshot.revision, sent)
    if not news.is_complete:
        return news._replace(upto=changes[-1].revision)
    now_sent = _Sent(policies=snapshot.policies_revision(), locks=snapshot.locks_revision())
    if now_sent.policies != sent.policies:
        news = news._replace(denies=tuple(each for each in snapshot.policies() if each.deny and each.in_force))
    if now_sent.locks != sent.locks:
        news = news._replace(locks=tuple(lock for lock in snapshot.locks if not lock.target.token_id))
    return news._replace(sent=now_sent)


class _Telling:
    """The updates that one replica receives of one state."""

    def __init__(self, caller: Caller, news: _News, *, elapsed: timedelta) -> None:
        self._caller = caller
        self._head = news.head
        self._at = news.at
        self._elapsed = elapsed

    def sign(self, type_: EventType | ControlEvent, revision: int) -> ReplicaUpdate:
        """Returns an update without a grant."""
        return ReplicaUpdate(type=type_, revision=revision, head=self._head, read_at=self._at, elapsed=self._elapsed)

    def current(self, snapshot: Snapshot) -> Iterator[ReplicaUpdate]:
        """Yields what there is, while it is read."""
        name = ""
        while found := snapshot.started_grants(after=name, limit=_PAGE):
            for grant in found:
                # Revision 0: a stream that breaks before the heartbeat begins again.
                yield from self._grant(ControlEvent.CURRENT, 0, grant, self._at)
            name = found[-1].name

    def changes(self, news: _News) -> Iterator[ReplicaUpdate]:
        """Yields what changed."""
        for change in news.changes:
            yield from self._grant(change.type, change.revision, change.grant, change.at)

    def ending(self, news: _News) -> Iterator[ReplicaUpdate]:
        """Yields what else belongs to the state, and the heartbeat that ends it."""
        if news.denies is not None:
            yield replace(self.sign(ControlEvent.DENY_POLICIES, news.head.revision), denies=news.denies)
        if news.locks is not None:
            yield replace(self.sign(ControlEvent.LOCKS, news.head.revision), locks=news.locks)
        yield self.sign(ControlEvent.HEARTBEAT, news.head.revision)

    def _grant(
        self, type_: EventType | ControlEvent, revision: int, grant: Grant, at: datetime
    ) -> Iterator[ReplicaUpdate]:
        shown = checkable(grant, at, self._caller)
        if shown is not None:
            yield replace(self.sign(type_, revision), grant=shown)


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
