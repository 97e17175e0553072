"""Audit events: what happened, to whom, and who did it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from jit_service.domain.authentication import authentication
from jit_service.domain.caller import Caller, Origin
from jit_service.domain.frozen import replace
from jit_service.domain.language.name import SERVICE

# Of a message that is too long, so many characters are kept.
_LEAST: Final = 256


class EventType(StrEnum):
    """What happened."""

    # Never recorded: what stands where somebody changed a record in the store so that it is none any more.
    UNREADABLE = "EVENT_TYPE_UNSPECIFIED"
    GRANT_REQUESTED = "GRANT_REQUESTED"
    GRANT_APPROVED = "GRANT_APPROVED"
    GRANT_DENIED = "GRANT_DENIED"
    GRANT_WITHDRAWN = "GRANT_WITHDRAWN"
    GRANT_REVOKED = "GRANT_REVOKED"
    GRANT_RELEASED = "GRANT_RELEASED"
    GRANT_EXPIRED = "GRANT_EXPIRED"
    GRANT_LAPSED = "GRANT_LAPSED"
    POLICY_CREATED = "POLICY_CREATED"
    POLICY_UPDATED = "POLICY_UPDATED"
    POLICY_DELETED = "POLICY_DELETED"
    ACCESS_CHECKED = "ACCESS_CHECKED"
    ACCESS_SEARCHED = "ACCESS_SEARCHED"
    CALL_REFUSED = "CALL_REFUSED"
    SIGNAL_SET = "SIGNAL_SET"
    SIGNAL_DELETED = "SIGNAL_DELETED"
    GRANTS_REVOKED = "GRANTS_REVOKED"
    BREAK_GLASS_USED = "BREAK_GLASS_USED"
    REVIEW_COMPLETED = "REVIEW_COMPLETED"
    GRANT_COUNTERED = "GRANT_COUNTERED"
    COUNTER_OFFER_ACCEPTED = "COUNTER_OFFER_ACCEPTED"
    COUNTER_OFFER_DECLINED = "COUNTER_OFFER_DECLINED"
    EXTENSION_REQUESTED = "EXTENSION_REQUESTED"
    EXTENSION_APPROVED = "EXTENSION_APPROVED"
    EXTENSION_DENIED = "EXTENSION_DENIED"
    EXTENSION_WITHDRAWN = "EXTENSION_WITHDRAWN"
    EXTENSION_LAPSED = "EXTENSION_LAPSED"
    DELEGATION_CREATED = "DELEGATION_CREATED"
    DELEGATION_DELETED = "DELEGATION_DELETED"
    POLICIES_PROPOSED = "POLICIES_PROPOSED"
    PROPOSAL_APPROVED = "PROPOSAL_APPROVED"
    PROPOSAL_REJECTED = "PROPOSAL_REJECTED"
    PROPOSAL_LAPSED = "PROPOSAL_LAPSED"
    TOKEN_ISSUED = "TOKEN_ISSUED"  # noqa: S105 (a name)
    TOKEN_REVOKED = "TOKEN_REVOKED"  # noqa: S105 (a name)
    SIGNING_KEY_ADDED = "SIGNING_KEY_ADDED"
    SIGNING_KEY_REMOVED = "SIGNING_KEY_REMOVED"
    REVIEW_OVERDUE = "REVIEW_OVERDUE"
    LOCK_CREATED = "LOCK_CREATED"
    LOCK_DELETED = "LOCK_DELETED"
    LOCK_EXPIRED = "LOCK_EXPIRED"
    GRANT_EXPIRES_SOON = "GRANT_EXPIRES_SOON"
    STEP_ESCALATED = "STEP_ESCALATED"
    AUDIT_PRUNED = "AUDIT_PRUNED"
    STORE_RESTORED = "STORE_RESTORED"
    GRANTS_PRUNED = "GRANTS_PRUNED"
    CHANGES_PRUNED = "CHANGES_PRUNED"
    STORE_RESEALED = "STORE_RESEALED"


SETTINGS: Final = frozenset(
    (
        EventType.POLICY_CREATED,
        EventType.POLICY_UPDATED,
        EventType.POLICY_DELETED,
        EventType.SIGNAL_SET,
        EventType.SIGNAL_DELETED,
    )
)
"""The changes of policies and signals, by which the past is answered."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """One act. Empty text and None mean that the act has no such side.

    `decision` is the state after a transition, ALLOWED or DENIED for a check, REFUSED for a refused call;
    `held` is how long a grant that ended had been usable; `revision` is the store's commit counter after the act.
    `groups` and `context` are those of whoever asked for access or checked it, so that it can be judged again; with
    `groups_left_out` its token said nothing of its groups.
    `repeat_count` is how many refused calls the record stands for, 0 for one alone.
    `context_of` is the `decision_id` of the record of the same batch that has this one's context too.
    `omitted_count` is how many values were left out, since the record would have been too long.
    `states` are the seals of the rows that the act changed, by the names of what they stand for; empty: it is gone.
    `sealing_key` is the id of the key that seals the store from here on, `replaced_key` of the one that did until now.
    `subject_source_ip` is what conditions saw of a check as the subject's address; the caller's is in `origin`.
    `acr`, `amr` and `logged_in_at` are what the token of whoever decided said of its log-in, in the record of a
    decision, and of one that was refused for that.
    """

    type: EventType
    at: datetime
    principal: str
    origin: Origin = Origin()
    subject: str = ""
    resources: tuple[str, ...] = ()
    actions: tuple[str, ...] = ()
    decision: str = ""
    reason: str = ""
    message: str = ""
    grant: str = ""
    policy: str = ""
    policy_revision: int = 0
    duration: timedelta | None = None
    held: timedelta | None = None
    decision_id: str = ""
    revision: int = 0
    signal: str = ""
    chain: tuple[str, ...] = ()
    delegation: str = ""
    proposal: str = ""
    groups: tuple[str, ...] = ()
    groups_left_out: bool = False
    context: dict[str, Any] = field(default_factory=dict)
    token_id: str = ""
    repeat_count: int = 0
    lock: str = ""
    subject_source_ip: str = ""
    context_of: str = ""
    omitted_count: int = 0
    acr: str = ""
    amr: tuple[str, ...] = ()
    logged_in_at: datetime | None = None
    states: dict[str, str] = field(default_factory=dict)
    sealing_key: str = ""
    replaced_key: str = ""

    @property
    def setting(self) -> str:
        """The name of the policy or signal that it changes; empty if it changes none."""
        return self.policy or self.signal if self.type in SETTINGS else ""


def group_fields(groups: frozenset[str] | None) -> dict[str, Any]:
    """Returns what an event says of the groups of its caller's token; None are left out of that."""
    return {"groups": tuple(sorted(groups or ())), "groups_left_out": groups is None}


def log_in_fields(by: Caller, *, now: datetime) -> dict[str, Any]:
    """Returns what the record of a decision says of how its caller had logged in, whatever the policy asks.

    Who audits decisions wants to know it of those that came before the policy asked, too.
    """
    shown = authentication(by.claims, now=now)
    return {"acr": shown.acr, "amr": shown.amr, "logged_in_at": shown.at}


def shorten(event: Event, fits: Callable[[Event], bool]) -> Event:
    """Returns the event with as little left out as makes it fit, and how much that is (invariant I33).

    First what the caller asserted, then its groups, then the ends of the lists of resources and actions, then the end
    of the message, then the methods of the log-in.
    """
    for leave_out in (_without_context, _without_groups):
        if fits(event):
            return event
        event = leave_out(event)
    while not fits(event) and len(event.resources) + len(event.actions) > 2:
        event = _with_half(event)
    if fits(event):
        return event
    event = replace(event, message=event.message[:_LEAST], omitted_count=event.omitted_count + 1)
    return event if fits(event) else replace(event, amr=(), omitted_count=event.omitted_count + len(event.amr))


def _without_context(event: Event) -> Event:
    return replace(event, context={}, omitted_count=event.omitted_count + len(event.context))


def _without_groups(event: Event) -> Event:
    return replace(event, groups=(), omitted_count=event.omitted_count + len(event.groups))


def _with_half(event: Event) -> Event:
    """Returns the event with half of its resources and actions, at least one of each that there is."""
    resources = event.resources[: (len(event.resources) + 1) // 2]
    actions = event.actions[: (len(event.actions) + 1) // 2]
    left = len(event.resources) + len(event.actions) - len(resources) - len(actions)
    return replace(event, resources=resources, actions=actions, omitted_count=event.omitted_count + left)


@dataclass(frozen=True, kw_only=True)
class RecordedEvent:
    """An event in its place in the log: `seq` counts from 1 without gaps, `hash` is the chain's up to here."""

    seq: int
    hash: bytes
    event: Event


__all__ = ["SERVICE", "Event", "EventType", "RecordedEvent", "group_fields", "log_in_fields"]
