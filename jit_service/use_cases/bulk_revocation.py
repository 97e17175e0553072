"""Ending many grants, in two phases: first the plan, then that very plan or nothing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from pydantic import TypeAdapter

from jit_service.domain.audit.event import Event, EventType
from jit_service.domain.caller import Caller
from jit_service.domain.errors import InvalidField, StalePlan
from jit_service.domain.grants import approval as rules
from jit_service.domain.grants.grant import Grant, GrantState, revoke_with_parent
from jit_service.domain.language import name
from jit_service.storage import Snapshot, Store, query
from jit_service.use_cases.grants import end_below
from jit_service.use_cases.idempotency import answered_before, remember
from jitaccess.naming.pattern import reaches_into


@dataclass(frozen=True, kw_only=True)
class GrantSelector:
    """Which live grants: those that match everything that is given. At least one thing must be."""

    subject: str = ""
    policy: str = ""
    resource: str = ""
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class RevocationPlan:
    """The grants at `at`, by name, and the id that names exactly them; `executed` once they have ended.

    Those that match, and those that end with them since they were passed on from them.
    """

    id: str
    grants: tuple[Grant, ...]
    at: datetime
    executed: bool = False


_PLANS = TypeAdapter(RevocationPlan)
_TOGETHER: Final = 200


def normalize(selector: GrantSelector) -> GrantSelector:
    """Returns the selector in canonical form, or raises InvalidField."""
    if selector == GrantSelector():
        raise InvalidField("subject", "is empty, and so are policy, resource and labels; give at least one of them")
    return GrantSelector(
        subject=name.principal(selector.subject, "subject") if selector.subject else "",
        policy=name.policy_name(selector.policy, "policy") if selector.policy else "",
        resource=_prefix(selector.resource) if selector.resource else "",
        labels=name.labels(selector.labels),
    )


def _prefix(text: str) -> str:
    """Returns the pattern whose names are meant, with everything below them; the type alone is one too."""
    return name.resource_pattern(f"{text.removesuffix('/**')}/x", "resource").removesuffix("/x")


def plan(store: Store, selector: GrantSelector) -> RevocationPlan:
    """Answers which grants would end. Raises InvalidField."""
    with store.snapshot() as snapshot:
        return _plan(snapshot, normalize(selector))


def execute(store: Store, caller: Caller, selector: GrantSelector, *, plan_id: str, comment: str) -> RevocationPlan:
    """Ends the grants of the plan, all or none, with a record for each and one for the act.

    Raises StalePlan where the set is not the planned one any more, InvalidField, RequestIdReused.
    """
    with store.transaction() as tx:
        if (earlier := answered_before(tx, caller, _PLANS)) is not None:
            return earlier[0]
        if not comment.strip():
            raise InvalidField("comment", "is required: say why the access ends")
        current = _plan(tx, normalize(selector))
        if current.id != plan_id:
            raise StalePlan(f"the plan is stale: {len(current.grants)} grants match now; ask for a new plan")
        tops: list[Grant] = []
        ended: list[Grant] = []
        for grant in _tops(current.grants):
            revoked, event = rules.revoke(grant, policy=None, by=caller, comment=comment, now=tx.now)
            tops.append(tx.save_grant(revoked, event))
            below = tx.live_children(grant.name)
            ended += [revoke_with_parent(child, parent=tops[-1], by=caller, now=tx.now)[0] for child in below]
        ended = sorted([*tops, *ended], key=lambda grant: grant.name)
        tx.record(_act(caller, ended, selector, comment=comment, now=tx.now))
        done = RevocationPlan(id=plan_id, grants=tuple(ended), at=tx.now, executed=True)
        remember(tx, caller, _PLANS, done)
    end_below(store, tops, by=caller)
    return done


def end_all(store: Store, by: Caller, *, comment: str, report: Callable[[int, int], None]) -> int:
    """Ends every scheduled or active grant, each with its record, in transactions of a few. Returns their number.

    `report` is called with how many have ended, and how many there were.
    """
    with store.snapshot() as snapshot:
        names = [grant.name for grant in snapshot.live_grants_of(query.grants_matching())]
    ended = 0
    for begin in range(0, len(names), _TOGETHER):
        with store.transaction() as tx:
            found = (tx.grant(each) for each in names[begin : begin + _TOGETHER])
            for grant in found:
                if grant is not None and grant.state(tx.now) in (GrantState.SCHEDULED, GrantState.ACTIVE):
                    tx.save_grant(*rules.revoke(grant, policy=None, by=by, comment=comment, now=tx.now))
                    ended += 1
        report(begin, len(names))
    return ended


def _plan(snapshot: Snapshot, selector: GrantSelector) -> RevocationPlan:
    scope = query.grants_matching(subject=selector.subject, policy=selector.policy, labels=selector.labels)
    matching = [
        grant
        for grant in snapshot.live_grants_of(scope)
        if not selector.resource or any(reaches_into(pattern, selector.resource) for pattern in grant.resources)
    ]
    ending = {grant.name: grant for top in _tops(matching) for grant in (top, *snapshot.live_children(top.name))}
    grants = tuple(ending[name] for name in sorted(ending))
    named = json.dumps([grant.name for grant in grants])
    return RevocationPlan(id=hashlib.sha256(named.encode()).hexdigest()[:32], grants=grants, at=snapshot.now)


def _tops(grants: Sequence[Grant]) -> list[Grant]:
    """Returns those that do not end with another of them."""
    names = {grant.name for grant in grants}
    return [grant for grant in grants if names.isdisjoint(grant.chain)]


def _act(caller: Caller, ended: Sequence[Grant], selector: GrantSelector, *, comment: str, now: datetime) -> Event:
    return Event(
        type=EventType.GRANTS_REVOKED,
        at=now,
        principal=caller.principal,
        origin=caller.origin,
        subject=selector.subject,
        resources=(selector.resource,) if selector.resource else (),
        decision="REVOKED",
        message=f"{len(ended)} grants: {comment}",
        policy=selector.policy,
    )
