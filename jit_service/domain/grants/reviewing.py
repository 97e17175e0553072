"""The order in which the rules of a review are asked, for each decision on a request.

Whether the caller may decide at all comes before everything else: whoever may not learns nothing more of the request.
What a reviewer gives is judged as if it had been asked for, by the policies, signals and locks as they are now. The
rules themselves are in `approval` and `request`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from jit_service.domain.audit.event import Event
from jit_service.domain.caller import Caller
from jit_service.domain.conditions.signal import NO_SIGNALS, Signals
from jit_service.domain.grants import approval, more_time, preview, request, terms
from jit_service.domain.grants.grant import Grant
from jit_service.domain.grants.lock import NO_LOCKS, Locks, demand_unlocked_people
from jit_service.domain.grants.more_time import MoreTime
from jit_service.domain.grants.terms import AS_ASKED, Edits
from jit_service.domain.policies.policy import Policy


@dataclass(frozen=True, kw_only=True)
class ReviewRules:
    """What a request is judged by now: the current revision of its policy, all policies, the signals and the locks."""

    policy: Policy
    policies: Sequence[Policy]
    signals: Signals = NO_SIGNALS
    locks: Locks = NO_LOCKS


@dataclass(frozen=True, kw_only=True)
class Shown:
    """The request that a reviewer was shown: the grant's etag, and the round of the request for more time, if any."""

    etag: str = ""
    extension_round: int = 0


FIRST: Final = Shown()
"""What a decision is about that names nothing: the first request."""


def approve(
    grant: Grant,
    edits: Edits = AS_ASKED,
    *,
    rules: ReviewRules,
    by: Caller,
    comment: str,
    now: datetime,
    shown: Shown = FIRST,
) -> tuple[Grant, Event]:
    """Counts an approval of the waiting request, with the edits if any.

    Raises Locked, PolicyNoLongerAllows, and what the rules of `approval` raise.
    """
    waiting = _refreshed(grant, rules, now=now)
    place = approval.demand_reviewer(
        waiting, policy=rules.policy, by=by, now=now, locks=rules.locks, signals=rules.signals
    )
    approval.demand_shown(grant, extension_round=shown.extension_round, etag=shown.etag, now=now)
    edited = terms.apply_edits(grant, edits, policy=rules.policy, now=now)
    return approval.approve(
        _judge_again(edited, rules, now=now),
        policy=rules.policy,
        by=by,
        comment=comment,
        now=now,
        given=terms.changed_terms(grant, edited),
        place=place,
        locks=rules.locks,
        signals=rules.signals,
    )


def deny(
    grant: Grant,
    *,
    rules: ReviewRules,
    by: Caller,
    comment: str,
    now: datetime,
    shown: Shown = FIRST,
) -> tuple[Grant, Event]:
    """Counts a denial of the waiting request. Nothing is judged again: a request that could not pass can be denied.

    Raises what the rules of `approval` raise.
    """
    waiting = _refreshed(grant, rules, now=now)
    approval.demand_reviewer(waiting, policy=rules.policy, by=by, now=now, locks=rules.locks, signals=rules.signals)
    approval.demand_shown(grant, extension_round=shown.extension_round, etag=shown.etag, now=now)
    return approval.deny(
        waiting, policy=rules.policy, by=by, comment=comment, now=now, locks=rules.locks, signals=rules.signals
    )


def counter(
    grant: Grant, edits: Edits, *, rules: ReviewRules, by: Caller, comment: str, now: datetime
) -> tuple[Grant, Event]:
    """Offers other terms, unless they could not be accepted now.

    Raises Locked, PolicyNoLongerAllows, and what `approval.counter` raises.
    """
    offered = approval.counter(
        _refreshed(grant, rules, now=now),
        edits,
        policy=rules.policy,
        by=by,
        comment=comment,
        now=now,
        locks=rules.locks,
        signals=rules.signals,
    )
    _judge_again(terms.edit(grant, edits, now=now), rules, now=now)
    return offered


def accept(
    grant: Grant, *, rules: ReviewRules, by: Caller, comment: str, now: datetime, delegations: Collection[str] = ()
) -> tuple[Grant, Event]:
    """Takes the offered terms, judged again. `delegations` are those that whoever made the offer can use now.

    Raises Locked, PolicyNoLongerAllows, and what `approval.accept` raises.
    """
    offered = approval.with_offered_terms(grant, by=by, now=now)
    return approval.accept(
        _judge_again(offered, rules, now=now),
        policy=rules.policy,
        by=by,
        comment=comment,
        now=now,
        delegations=delegations,
        locks=rules.locks,
    )


def extend(grant: Grant, more: MoreTime, *, rules: ReviewRules, by: Caller, now: datetime) -> tuple[Grant, Event]:
    """Asks for more time. Raises Locked, Unsatisfiable, and what `with_extension` and `judge_extension` raise."""
    asked = more_time.with_extension(grant, more_time.normalize_more(more), policy=rules.policy, by=by, now=now)
    judged = request.judge_extension(
        asked, policy=rules.policy, policies=rules.policies, now=now, signals=rules.signals
    )
    demand_unlocked_people(rules.locks, judged)
    preview.demand_satisfiable(judged, rules.policy)
    return approval.open_extension(judged, policy=rules.policy, by=by, now=now)


def _refreshed(grant: Grant, rules: ReviewRules, *, now: datetime) -> Grant:
    return request.refresh_steps(grant, policy=rules.policy, policies=rules.policies, now=now, signals=rules.signals)


def _judge_again(grant: Grant, rules: ReviewRules, *, now: datetime) -> Grant:
    """Policies, signals, locks and the time may have changed since the request."""
    demand_unlocked_people(rules.locks, grant)
    return request.judge_again(grant, policy=rules.policy, policies=rules.policies, now=now, signals=rules.signals)
