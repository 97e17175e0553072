"""Watching grants: every change, in the order of the commits, once each, from any revision on.

A watcher reads the log of changes that each commit leaves in the store, so nothing is kept for it: one that is slow, or
comes back after a restart, goes on from its revision, and no other notices.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from jit_service.domain.audit.event import EventType
from jit_service.domain.caller import READS_GRANTS, Caller
from jit_service.domain.errors import InvalidField, RoleRequired
from jit_service.domain.grants import approval
from jit_service.domain.grants.grant import Grant
from jit_service.storage import Snapshot, Store
from jit_service.storage.head import BEGINNING, Head
from jit_service.storage.head_follower import HeadFollower
from jit_service.use_cases.delegations import with_delegations
from jit_service.use_cases.grants import View

HEARTBEAT_SECONDS: Final = 4.0
"""The longest silence; the contract says 5 s."""
MAX_LAG: Final = 10_000
"""How many revisions a watcher that had caught up may fall behind before it is ended."""
_PAGE: Final = 200
_HISTORY: Final = re.compile(r"([0-9]{1,18})\.([0-9a-f]{64})")


class ControlEvent(StrEnum):
    """What a watcher is told besides changes."""

    CURRENT = "CURRENT"
    HEARTBEAT = "HEARTBEAT"
    OVERRUN = "OVERRUN"
    DENY_POLICIES = "DENY_POLICIES"
    LOCKS = "LOCKS"


@dataclass(frozen=True, kw_only=True)
class GrantUpdate:
    """What a watcher is told: `grant` as it was at `at`, after what happened. It resumes from `revision`.

    `head` is where the store was when this was read; whoever resumes gives it back as `history`.
    """

    type: EventType | ControlEvent
    revision: int
    head: Head
    grant: Grant | None = None
    at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Watched:
    """What is watched: the grants of a view, or one of them, after a revision (0: from what there is now on).

    `start` is where the store was when it told of that revision, or the beginning where nobody says.
    """

    view: View = View.MINE
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
    """Yields what the caller may see, until `gone`.

    Raises RoleRequired, InvalidField, StoreUnavailable, ServiceStopping. What may be seen is judged anew for every
    change, by the policies and delegations at that time.
    """
    _demand_view(watched.view, caller)
    last, at = watched.start_revision, watched.start
    if last:
        demand_reached(store, watched)
    else:
        for told in _current(store, caller, watched):
            yield told
            last, at = told.revision, told.head
    caught_up = False
    told_at = time.monotonic()
    while not gone():
        shown, last, at = _news(store, caller, watched, last, at=at)
        head = at.revision
        for told in shown:
            yield told
            told_at = time.monotonic()
        if caught_up and head - last > MAX_LAG:
            yield GrantUpdate(type=ControlEvent.OVERRUN, revision=last, head=at)
            return
        caught_up = caught_up or last == head
        if time.monotonic() - told_at >= heartbeat_seconds:
            yield GrantUpdate(type=ControlEvent.HEARTBEAT, revision=last, head=at)
            told_at = time.monotonic()
        if last == head:
            silence = time.monotonic() - told_at
            follower.wait_for_revision(after=last, seconds=max(0.0, heartbeat_seconds - silence), gone=gone)


def _demand_view(view: View, caller: Caller) -> None:
    if view not in (View.MINE, View.VISIBLE, View.ALL):
        raise InvalidField("view", f"is {view}; MINE, VISIBLE and ALL can be watched")
    if view is View.ALL and not caller.has(*READS_GRANTS):
        raise RoleRequired(
            f"view ALL needs the role auditor, responder or admin, which {caller.principal} does not have"
        )


def demand_reached(store: Store, watched: Watched) -> None:
    """Raises InvalidField for a revision to resume from that the store has not reached, or not in this history."""
    with store.snapshot() as snapshot:
        revision = watched.start_revision
        if not 0 < revision <= snapshot.revision:
            raise InvalidField("start_revision", f"is {revision}; the store is at revision {snapshot.revision}")
        demand_history(snapshot, watched.start)


def demand_history(snapshot: Snapshot, head: Head) -> None:
    """Raises InvalidField where the store has not been there: what was told is of another history (invariant I32)."""
    if not snapshot.has_been_at(head):
        raise InvalidField(
            "start_revision",
            f"is of another history than revision {snapshot.revision} of the store, which was brought back from a "
            "backup or has lost commits; begin anew with 0",
        )


def history_of(head: Head) -> str:
    """Returns the place in the store's history as those who watch are told it: SEQ.HASH."""
    return f"{head.seq}.{head.hash.hex()}"


def head_of(revision: int, history: str) -> Head:
    """Returns the place that was told as `history` with the revision; the beginning for none. Raises InvalidField."""
    if not history:
        return BEGINNING
    found = _HISTORY.fullmatch(history)
    if found is None:
        raise InvalidField("start_history", "is not as WatchGrants told it")
    return Head(revision=revision, seq=int(found[1]), hash=bytes.fromhex(found[2]))


def _current(store: Store, caller: Caller, watched: Watched) -> list[GrantUpdate]:
    """Returns each live grant, and a heartbeat with the revision that all of them are of."""
    with store.snapshot() as snapshot:
        sees = _sight(snapshot, caller, watched)
        # Revision 0: a stream that breaks among them begins again.
        current = [
            GrantUpdate(type=ControlEvent.CURRENT, revision=0, head=snapshot.head, grant=grant, at=snapshot.now)
            for grant in snapshot.current_grants()
            if sees(grant)
        ]
        return [*current, GrantUpdate(type=ControlEvent.HEARTBEAT, revision=snapshot.revision, head=snapshot.head)]


def _news(
    store: Store, caller: Caller, watched: Watched, last: int, *, at: Head
) -> tuple[list[GrantUpdate], int, Head]:
    """Returns a page of changes after the revision, up to which revision that is all, and where the store is.

    Raises InvalidField where that does not follow on `at`.
    """
    with store.snapshot() as snapshot:
        demand_history(snapshot, at)
        changes = snapshot.changes(after=last, limit=_PAGE) if snapshot.revision > last else []
        sees = _sight(snapshot, caller, watched) if changes else None
        shown = [
            GrantUpdate(
                type=change.type, revision=change.revision, head=snapshot.head, grant=change.grant, at=change.at
            )
            for change in changes
            if sees is not None and sees(change.grant)
        ]
        complete = len(changes) < _PAGE
        return shown, snapshot.revision if complete else changes[-1].revision, snapshot.head


def _sight(snapshot: Snapshot, caller: Caller, watched: Watched) -> Callable[[Grant], bool]:
    """Returns what says whether the caller is shown a grant, by the policies as they are now."""
    by = with_delegations(snapshot, caller)
    policies = {policy.name: policy for policy in snapshot.policies(deleted=True)}

    def sees(grant: Grant) -> bool:
        if watched.grant and grant.name != watched.grant:
            return False
        if watched.view is View.MINE:
            # Who names a grant means that one, whoever's it is.
            return grant.is_of(by.person) or (
                bool(watched.grant) and approval.visible(grant, policies.get(grant.policy), by)
            )
        return approval.visible(grant, policies.get(grant.policy), by)

    return sees
