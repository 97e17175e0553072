"""The use case of WatchGrants: streams every change once, in the order of the commits, from any revision on.

A watcher reads the log of changes that each commit leaves in the store, so the service keeps no state for it. A watcher
that is slow, or that comes back after a restart, goes on from its revision without an effect on others.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import partial
from itertools import islice
from typing import Final, NamedTuple

from jit_service.domain.audit.event import EventType
from jit_service.domain.caller import READS_GRANTS, Caller
from jit_service.domain.errors import InvalidField, RoleRequired
from jit_service.domain.grants import approval
from jit_service.domain.grants.grant import OPEN_STATES, Grant
from jit_service.domain.language.filter import Comparison, Or
from jit_service.domain.language.paging import Position, order_by
from jit_service.feeds.turns import Turns
from jit_service.storage import Snapshot, Store
from jit_service.storage.head import BEGINNING, Head
from jit_service.storage.head_follower import HeadFollower
from jit_service.storage.query import GRANT_ORDER
from jit_service.storage.rows import GrantChange
from jit_service.use_cases.delegations import with_delegations
from jit_service.use_cases.grants import GrantView, selected

HEARTBEAT_SECONDS: Final = 4.0
"""The longest time without an update; the contract allows 5 s."""
MAX_LAG: Final = 10_000
"""How many revisions a watcher that had caught up may fall behind before its stream is ended."""
_PAGE: Final = 200
_HELD: Final = 5000
"""How many updates of the first state are read before the first is sent; most watchers see fewer."""
_TURNS: Final = Turns(8)
_IS_LIVE: Final = Or(tuple(Comparison("state", "", "=", state) for state in OPEN_STATES))
_BY_CREATION: Final = order_by("create_time", GRANT_ORDER, default="")
_HISTORY: Final = re.compile(r"([0-9]{1,18})\.([0-9a-f]{64})")


class ControlEvent(StrEnum):
    """The types of updates besides changes of grants."""

    CURRENT = "CURRENT"
    HEARTBEAT = "HEARTBEAT"
    OVERRUN = "OVERRUN"
    DENY_POLICIES = "DENY_POLICIES"
    LOCKS = "LOCKS"


@dataclass(frozen=True, kw_only=True)
class GrantUpdate:
    """An update of the stream: `grant` as it was at `at`, after the change. A watcher resumes from `revision`.

    `head` is the place of the store when the update was read. A watcher that resumes sends it back as its history.
    """

    type: EventType | ControlEvent
    revision: int
    head: Head
    grant: Grant | None = None
    at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Watched:
    """What to watch: the grants of a view, or one of them, after a revision (0: the current grants, then changes).

    `start` is the place of the store when it streamed that revision, or BEGINNING if the watcher does not send it.
    """

    view: GrantView = GrantView.MINE
    grant: str = ""
    start_revision: int = 0
    start: Head = BEGINNING


def watch(
    store: Store,
    caller: Caller,
    watched: Watched,
    *,
    follower: HeadFollower,
    gone: Callable[[], bool],
    heartbeat_seconds: float = HEARTBEAT_SECONDS,
) -> Iterator[GrantUpdate]:
    """Yields updates of the grants that the caller may see, until `gone` returns True.

    Which grants it may see is decided for each page of changes, from the policies and delegations at that time. Raises
    RoleRequired, InvalidField, StoreUnavailable, ServiceStopping.
    """
    _demand_view(watched.view, caller)
    last, at = watched.start_revision, watched.start
    if last:
        demand_reached(store, watched)
    else:
        for update in _current(store, caller, watched, gone):
            yield update
            last, at = update.revision, update.head
    caught_up = False
    sent_at = time.monotonic()
    while not gone():
        updates, last, at = _news(store, caller, watched, last, at=at, follower=follower)
        head = at.revision
        for update in updates:
            yield update
            sent_at = time.monotonic()
        if caught_up and head - last > MAX_LAG:
            yield GrantUpdate(type=ControlEvent.OVERRUN, revision=last, head=at)
            return
        caught_up = caught_up or last == head
        if time.monotonic() - sent_at >= heartbeat_seconds:
            yield GrantUpdate(type=ControlEvent.HEARTBEAT, revision=last, head=at)
            sent_at = time.monotonic()
        if last == head:
            silence = time.monotonic() - sent_at
            follower.wait_for_revision(after=last, seconds=max(0.0, heartbeat_seconds - silence), gone=gone)


def _demand_view(view: GrantView, caller: Caller) -> None:
    if view not in (GrantView.MINE, GrantView.VISIBLE, GrantView.ALL):
        raise InvalidField("view", f"is {view}; MINE, VISIBLE and ALL can be watched")
    if view is GrantView.ALL and not caller.has(*READS_GRANTS):
        raise RoleRequired(
            f"view ALL needs the role auditor, responder or admin, which {caller.principal} does not have"
        )


def demand_reached(store: Store, watched: Watched) -> None:
    """Raises InvalidField for a start revision that the store has not reached in this history.

    Raises RecordsPruned if changes after it were forgotten.
    """
    with store.snapshot() as snapshot:
        revision = watched.start_revision
        if not 0 < revision <= snapshot.revision:
            raise InvalidField("start_revision", f"is {revision}; the store is at revision {snapshot.revision}")
        demand_history(snapshot, watched.start)
        snapshot.grant_beginning.demand_changes_after(revision, "start_revision")


def demand_history(snapshot: Snapshot, head: Head) -> None:
    """Raises InvalidField if the store has not been at `head`: it is from another history (invariant I32).

    Raises RecordsPruned if nobody can tell, since the audit log was pruned beyond it.
    """
    if head.seq and snapshot.record_hash(head.seq) is None and snapshot.log_beginning.seq > head.seq:
        found = f"goes with record {head.seq} of the audit log"
        raise snapshot.log_beginning.pruned("start_revision", found)
    if not snapshot.has_been_at(head):
        raise InvalidField(
            "start_revision",
            f"is of another history than revision {snapshot.revision} of the store, which was brought back from a "
            "backup or has lost commits; begin anew with 0",
        )


def history_of(head: Head) -> str:
    """Returns the place in the store's history in the form that watchers are sent: SEQ.HASH."""
    return f"{head.seq}.{head.hash.hex()}"


def head_of(revision: int, history: str) -> Head:
    """Returns the place of a revision and the `history` sent with it; BEGINNING without. Raises InvalidField."""
    if not history:
        return BEGINNING
    found = _HISTORY.fullmatch(history)
    if found is None:
        raise InvalidField("start_history", "is not as WatchGrants sent it")
    return Head(revision=revision, seq=int(found[1]), hash=bytes.fromhex(found[2]))


def _current(store: Store, caller: Caller, watched: Watched, gone: Callable[[], bool]) -> Iterator[GrantUpdate]:
    """Yields an update for each live grant, then a heartbeat with the revision of all of them.

    Where they are many, they are told while they are read, so that nobody keeps them all.
    """
    with _TURNS.taken(gone) as has_turn:
        if not has_turn:
            return
        with store.long_snapshot() as snapshot:
            updates = _updates_of(snapshot, caller, watched, gone)
            first = list(islice(updates, _HELD))
            if len(first) == _HELD:
                yield from first
                yield from updates
                return
    yield from first


def _updates_of(
    snapshot: Snapshot, caller: Caller, watched: Watched, gone: Callable[[], bool]
) -> Iterator[GrantUpdate]:
    by = with_delegations(snapshot, caller)
    is_visible = _visibility(snapshot, by, watched)
    for grant in _live(snapshot, by, watched, gone):
        if is_visible(grant):
            # Revision 0: a stream that breaks before the heartbeat begins again.
            yield GrantUpdate(type=ControlEvent.CURRENT, revision=0, head=snapshot.head, grant=grant, at=snapshot.now)
    yield GrantUpdate(type=ControlEvent.HEARTBEAT, revision=snapshot.revision, head=snapshot.head)


def _live(snapshot: Snapshot, by: Caller, watched: Watched, gone: Callable[[], bool]) -> Iterator[Grant]:
    """Yields the live grants of what is watched, in the order of their creation, as lists find them."""
    if watched.grant:
        grant = snapshot.grant(watched.grant)
        if grant is not None and grant.state(snapshot.now) in OPEN_STATES:
            yield grant
        return
    listed, _ = selected(snapshot, by, watched.view)
    after: Position | None = None
    while not gone():
        found = snapshot.grants(listed, node=_IS_LIVE, order=_BY_CREATION, after=after, limit=_PAGE)
        yield from (grant for grant, _ in found.entries)
        after = found.entries[-1][1] if len(found.entries) == _PAGE else found.rest
        if after is None:
            return


def _news(
    store: Store, caller: Caller, watched: Watched, last: int, *, at: Head, follower: HeadFollower
) -> tuple[list[GrantUpdate], int, Head]:
    """Returns a page of updates after the revision `last`, the revision up to which they are complete, and the head.

    Raises InvalidField if the store's history does not contain `at`, RecordsPruned if changes after it were forgotten.
    """
    # All who have come as far need the same, most at the same time.
    page = follower.read(("watch", last, at), partial(_changes, after=last, at=at)).found
    possible = [change for change in page.changes if _is_possible(change.grant, caller, watched)]
    updates: list[GrantUpdate] = []
    if possible:
        with store.snapshot() as snapshot:
            is_visible = _visibility(snapshot, with_delegations(snapshot, caller), watched)
        updates = [
            GrantUpdate(type=change.type, revision=change.revision, head=page.head, grant=change.grant, at=change.at)
            for change in possible
            if is_visible(change.grant)
        ]
    return updates, page.upto, page.head


class _Changes(NamedTuple):
    """Changes of one state, which are all up to the revision `upto`."""

    head: Head
    changes: list[GrantChange]
    upto: int


def _changes(snapshot: Snapshot, *, after: int, at: Head) -> _Changes:
    demand_history(snapshot, at)
    snapshot.grant_beginning.demand_changes_after(after, "start_revision")
    changes = snapshot.changes(after=after, limit=_PAGE) if snapshot.revision > after else []
    return _Changes(snapshot.head, changes, snapshot.revision if len(changes) < _PAGE else changes[-1].revision)


def _is_possible(grant: Grant, caller: Caller, watched: Watched) -> bool:
    """Whether the caller may be told of the grant, by what needs no reading."""
    if watched.grant:
        return grant.name == watched.grant
    return watched.view is not GrantView.MINE or grant.is_of(caller.person)


def _visibility(snapshot: Snapshot, by: Caller, watched: Watched) -> Callable[[Grant], bool]:
    """Returns a predicate: whether the caller, with its delegations, may see a grant under the current policies."""
    policies = {policy.name: policy for policy in snapshot.policies(deleted=True)}

    def is_visible(grant: Grant) -> bool:
        if watched.grant and grant.name != watched.grant:
            return False
        if watched.view is GrantView.MINE:
            # A caller that names a grant may mean another subject's.
            return grant.is_of(by.person) or (
                bool(watched.grant) and approval.is_visible(grant, policies.get(grant.policy), by)
            )
        return approval.is_visible(grant, policies.get(grant.policy), by)

    return is_visible
