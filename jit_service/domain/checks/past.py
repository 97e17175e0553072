"""What was known at a past instant, from what is recorded, and what no record has.

A commit has the instant at which its transaction began, and these never go back (invariant I13). So the state at an
instant is the one after the last commit that is not later.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Final

from jit_service.domain.audit.event import Event, EventType
from jit_service.domain.caller import Caller
from jit_service.domain.checks.decision import Decision, Question
from jit_service.domain.checks.evidence import Candidate, Evidence
from jit_service.domain.conditions import condition
from jit_service.domain.errors import InvalidField
from jit_service.domain.frozen import replace
from jit_service.domain.grants.grant import GrantState
from jit_service.domain.grants.lock import Lock, Locks
from jit_service.domain.policies.policy import Policy
from jitaccess.naming import rfc3339
from jitaccess.naming.pattern import action_covered, resource_covered

MAX_NOTES: Final = 20
"""How many things an answer names that no record has."""
_TAKEN: Final = {
    "context": "what was asserted then is not on record; the context of this call was taken",
    "principal": "who asked then is not on record; whoever asks now was taken",
    "groups": "the groups of later tokens are not on record; those proved by the request for the grant were taken",
}
"""By what a condition may read and no record has: what was taken instead."""


def demand_on_record(instant: datetime, *, begins_at: datetime | None, now: datetime) -> None:
    """Raises InvalidField unless the record has the instant: it is over, and not before the first event."""
    if instant > now:
        raise InvalidField("read_time", f"is {rfc3339.exact(instant)}; it must not be after now, {rfc3339.exact(now)}")
    if begins_at is None:
        raise InvalidField("read_time", f"is {rfc3339.exact(instant)}; nothing is on record yet")
    if instant < begins_at:
        begins = rfc3339.exact(begins_at)
        raise InvalidField("read_time", f"is {rfc3339.exact(instant)}; the record begins at {begins}")


def locks_at(locks: Iterable[Lock], instant: datetime) -> Locks:
    """Returns those of the locks that stood at the instant. One that was lifted since is as it was before."""
    created = (lock for lock in locks if lock.created_at <= instant)
    known = (
        replace(lock, deleted_at=None) if lock.deleted_at is not None and instant < lock.deleted_at else lock
        for lock in created
    )
    return Locks(lock for lock in known if lock.stands(instant))


def not_on_record(asked: Question, grants: Iterable[Candidate], evidence: Evidence[Candidate]) -> Iterator[str]:
    """Yields what the answer by these grants depends on and no record has, and what was taken instead.

    A side that the question leaves out is any.
    """
    active = [grant for grant in grants if grant.state(evidence.now) is GrantState.ACTIVE]
    for grant in active:
        for variable, taken in _TAKEN.items():
            if condition.mentions(grant.check_condition, variable):
                yield f"the condition of {grant.name} reads {variable}: {taken}"
    # Groups that nobody proved may be any to what forbids, so nothing is taken for them.
    for subject in dict.fromkeys(grant.subject for grant in active if grant.subject_groups is not None):
        later = f"{subject}'s groups after the request are not on record; those of the request were taken"
        for policy in evidence.policies:
            if policy.eligible.groups and _is_about(policy, asked):
                yield f"{policy.name} denies groups: {later}"
        for lock in evidence.locks:
            if lock.target.group:
                yield f"{lock.name} was on a group: {later}"


def bounded(notes: Iterable[str]) -> tuple[str, ...]:
    """Returns each note once, in order; after MAX_NOTES only how many more there are."""
    each = tuple(dict.fromkeys(notes))
    more = len(each) - MAX_NOTES
    return each if more <= 0 else (*each[:MAX_NOTES], f"and {more} more")


def past_check_event(
    by: Caller, asked: Question, decision: Decision, *, about: datetime, at: datetime, decision_id: str, revision: int
) -> Event:
    """Returns what is recorded of an answer about a past instant.

    It is a search, without decision and reason: nobody may take it for a check, which let somebody do something.
    """
    grant = decision.grant
    answer = "allowed then" if decision.allowed else f"not allowed then, {decision.reason}"
    return Event(
        type=EventType.ACCESS_SEARCHED,
        at=at,
        principal=by.principal,
        origin=by.origin,
        subject=asked.subject,
        resources=(asked.resource,),
        actions=(asked.action,),
        message=f"as of {rfc3339.exact(about)}: {answer}: {decision.message}",
        grant=grant.name if grant else "",
        decision_id=decision_id,
        revision=revision,
        context=dict(asked.context),
        subject_source_ip=asked.source_address,
    )


def _is_about(policy: Policy, asked: Question) -> bool:
    return (not asked.action or action_covered(asked.action, policy.actions)) and (
        not asked.resource or resource_covered(asked.resource, policy.resources)
    )
