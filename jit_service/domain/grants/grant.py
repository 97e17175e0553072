"""Grants: one aggregate from the request to its end.

A grant is its facts. `state(now)` derives the state from them, so that nothing needs to run for access to end. A
transition takes `now`, and returns the new grant with the event that records it, or raises the fact for which it is
refused. Those of its end are here; those that reviewers decide are in `approval`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from jit_service.domain.audit.event import SERVICE, Event, EventType
from jit_service.domain.authentication import Authentication
from jit_service.domain.caller import Caller
from jit_service.domain.errors import NotYours, WrongState
from jit_service.domain.frozen import replace
from jit_service.domain.person import Account, Person
from jit_service.domain.policies.policy import Step


class GrantState(StrEnum):
    """The states of contract.md; the last six are final."""

    PENDING = "PENDING"
    SCHEDULED = "SCHEDULED"
    ACTIVE = "ACTIVE"
    EXPIRED = "EXPIRED"
    REVOKED = "REVOKED"
    RELEASED = "RELEASED"
    DENIED = "DENIED"
    WITHDRAWN = "WITHDRAWN"
    LAPSED = "LAPSED"


OPEN_STATES: Final = (GrantState.PENDING, GrantState.SCHEDULED, GrantState.ACTIVE)
"""The states of a grant that is not over, in the order in which it has them."""


class ReviewDecision(StrEnum):
    """What a reviewer decided."""

    APPROVED = "APPROVED"
    DENIED = "DENIED"


@dataclass(frozen=True, kw_only=True)
class Justification:
    """The requester's why."""

    text: str = ""
    ticket: str = ""


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What access is given, and when. No start: once approved."""

    resources: tuple[str, ...]
    actions: tuple[str, ...]
    duration: timedelta
    start_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Review:
    """One reviewer's decision; `step` counts from 0, `round` is 0 for the request and n for its n-th extension.

    `groups` are those that proved the right it was made by: the reviewer's then, or the delegator's; None where a token
    left them out. `escalated`: the right is only one after the step's timeout. `terms` are what an approval gave, where
    that changed them. `condition` is the step's, where that said who may decide: it was true of the reviewer then.
    `token_id` is the `jti` of the identity token that it came with; empty where that has none.
    `authentication` is what that token said of the log-in, kept only where the policy asked (`review_assurance`).
    """

    reviewer: str
    groups: frozenset[str] | None
    decision: ReviewDecision
    step: int
    comment: str
    at: datetime
    round: int = 0
    on_behalf_of: str = ""
    delegation: str = ""
    escalated: bool = False
    terms: Terms | None = None
    condition: str = ""
    account: Account | None = None
    holder_account: Account | None = None
    token_id: str = ""
    authentication: Authentication | None = None

    @property
    def holder(self) -> str:
        """Whose right it was made by."""
        return self.on_behalf_of or self.reviewer

    @property
    def by(self) -> Person:
        """Who made it."""
        return Person(self.reviewer, self.account)

    @property
    def right_of(self) -> Person:
        """Who holds the right that it was made by."""
        return Person(self.holder, self.holder_account)

    def uses_right_of(self, *people: Person) -> bool:
        """Returns whether one of them is in it, as the reviewer or the right's holder, under whatever name."""
        return any(person.is_same(one) for person in people for one in (self.by, self.right_of))


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What ends access before its time. Zero: no such bound.

    `since` is when they began to count, where the grant was running by then: more time was given under other limits.
    """

    max_uses: int = 0
    activation_window: timedelta = timedelta()
    idle_timeout: timedelta = timedelta()
    since: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Usage:
    """The checks that a grant with limits has allowed."""

    count: int = 0
    last_at: datetime | None = None


class ExtensionState(StrEnum):
    """How far a request for more time is."""

    PENDING = "PENDING"
    APPROVED = "APPROVED"
    DENIED = "DENIED"
    WITHDRAWN = "WITHDRAWN"
    LAPSED = "LAPSED"


@dataclass(frozen=True, kw_only=True)
class Extension:
    """A request for more time, the n-th of its grant (`round`). `decided` is None while nobody has decided.

    Groups (None: not known) and claims are those of its requester, who may be another than the grant's.
    `requested_duration` is what was asked for, where a reviewer gave less.
    """

    round: int
    requester: str
    requester_groups: frozenset[str] | None
    claims: dict[str, Any]
    source_address: str
    duration: timedelta
    justification: Justification
    created_at: datetime
    lapses_at: datetime
    expires_at: datetime
    decided: ExtensionState | None = None
    requester_account: Account | None = None
    requested_duration: timedelta | None = None


@dataclass(frozen=True, kw_only=True)
class UseReview:
    """How a break-glass use was reviewed."""

    reviewer: str
    comment: str
    at: datetime


@dataclass(frozen=True, kw_only=True)
class Emergency:
    """A break-glass use: its review is overdue from `review_due_at`, until there is one."""

    review_due_at: datetime
    review: UseReview | None = None


@dataclass(frozen=True, kw_only=True)
class End:
    """How somebody ended the grant: `state` is DENIED, WITHDRAWN, REVOKED or RELEASED."""

    state: GrantState
    at: datetime
    by: str
    comment: str


@dataclass(frozen=True, kw_only=True)
class Grant:
    """The facts of a grant.

    `requester_groups` are those that the requester's token gave at the request, None where it left them out; they are
    the subject's only where it asked for itself, and so are `claims`, of which those are kept that conditions may read
    (`conditions.kept_claims`).
    `skipped` are the steps, from 0, whose condition did not hold when it was last judged. `start_at` is the start that
    was asked for. The access runs over [starts_at, expires_at), which are None until it is approved; limits may bring
    expires_at forward, never past starts_at + duration. `request_expires_at` is when it lapses undecided: after
    request_ttl, or with the step that is waited for since `step_since`. `requested` is what was asked for, where a
    reviewer gave other terms; `offer` is the approval that a reviewer would give for other terms. `chain` are the
    grants it was passed on from, the first first. `warn_before` is how long before its end people are told. `revision`
    is the store's commit counter at the last change but its use, 0 before it is stored.
    """

    name: str
    requester: str
    requester_groups: frozenset[str] | None
    subject: str
    policy: str
    policy_revision: int
    steps: tuple[Step, ...]
    resources: tuple[str, ...]
    actions: tuple[str, ...]
    duration: timedelta
    justification: Justification
    created_at: datetime
    request_expires_at: datetime
    labels: dict[str, str] = field(default_factory=dict)
    start_at: datetime | None = None
    approved_at: datetime | None = None
    starts_at: datetime | None = None
    expires_at: datetime | None = None
    end: End | None = None
    reviews: tuple[Review, ...] = ()
    revision: int = 0
    skipped: frozenset[int] = frozenset()
    context: dict[str, Any] = field(default_factory=dict)
    claims: dict[str, Any] = field(default_factory=dict)
    source_address: str = ""
    check_condition: str = ""
    request_ttl: timedelta = timedelta()
    step_since: datetime | None = None
    requested: Terms | None = None
    offer: Review | None = None
    limits: Limits = Limits()
    usage: Usage = Usage()
    extension: Extension | None = None
    extension_count: int = 0
    emergency: Emergency | None = None
    chain: tuple[str, ...] = ()
    requester_account: Account | None = None
    warn_before: timedelta = timedelta()

    def state(self, now: datetime) -> GrantState:
        """Returns the state at `now`. Intervals are half-open: over when now >= expires_at."""
        if self.end is not None:
            return self.end.state
        return state_of(self.starts_at, self.expires_at, self.request_expires_at, now)

    def extension_state(self, now: datetime) -> ExtensionState | None:
        """Returns how far the latest request for more time is; one that outlives its grant has lapsed."""
        if self.extension is None:
            return None
        if self.extension.decided is not None:
            return self.extension.decided
        running = self.state(now) in (GrantState.SCHEDULED, GrantState.ACTIVE)
        return ExtensionState.PENDING if running and now < self.extension.expires_at else ExtensionState.LAPSED

    @property
    def terms(self) -> Terms:
        """What it gives."""
        return Terms(resources=self.resources, actions=self.actions, duration=self.duration, start_at=self.start_at)

    @property
    def round(self) -> int:
        """Which request was the latest: 0 the first, n the n-th for more time."""
        return self.extension.round if self.extension is not None else 0

    @property
    def round_reviews(self) -> tuple[Review, ...]:
        """The reviews of the latest request."""
        return tuple(review for review in self.reviews if review.round == self.round)

    @property
    def parent(self) -> str:
        """The grant that was passed on with this one; empty for a grant of its own."""
        return self.chain[-1] if self.chain else ""

    @property
    def is_metered(self) -> bool:
        """Whether the checks that it allows change it."""
        return self.limits != Limits()

    @property
    def is_used_up(self) -> bool:
        """Whether it has allowed as many checks as it may."""
        return bool(self.limits.max_uses) and self.usage.count >= self.limits.max_uses

    @property
    def use_count(self) -> int:
        """How many checks it has allowed, where that is counted."""
        return self.usage.count

    @property
    def latest_end(self) -> datetime | None:
        """When it ends at the latest; None until it is approved."""
        return self.starts_at and self.starts_at + self.duration

    @property
    def owes_review(self) -> bool:
        """Whether it is a break-glass use that nobody has reviewed."""
        return self.emergency is not None and self.emergency.review is None

    @property
    def subject_groups(self) -> frozenset[str] | None:
        """The groups that the subject's own token gave; None where that left them out, or somebody else asked."""
        return self.requester_groups if self.subject == self.requester else None

    @property
    def subject_claims(self) -> dict[str, Any] | None:
        """The claims of the subject's own token, as far as they are kept; None where somebody else asked for it."""
        return self.claims if self.subject == self.requester else None

    @property
    def held(self) -> timedelta | None:
        """How long it was usable before somebody ended it; None where it never was, or nobody did."""
        if self.end is None or self.starts_at is None or self.end.at <= self.starts_at:
            return None
        return self.end.at - self.starts_at

    @property
    def asker(self) -> Person:
        """Who asked for it."""
        return Person(self.requester, self.requester_account)

    @property
    def held_by(self) -> Person:
        """Who holds it, with the account where that was proved by asking for it."""
        return self.asker if self.subject == self.requester else Person(self.subject)

    def is_of(self, person: Person) -> bool:
        """Returns whether the person asked for it or holds it: by this name or account, exactly, since it permits."""
        return person.principal in (self.requester, self.subject) or person.has_account(self.requester_account)

    def is_held_by(self, person: Person) -> bool:
        """Returns whether the person holds it, under this name or by its account, exactly: it permits."""
        return person.principal == self.subject or person.has_account(self.held_by.account)

    def is_own_review(self, person: Person) -> bool:
        """Returns whether the person would review its own request or access, under whatever name, since it forbids."""
        return person.is_same(self.asker) or person.is_same(self.held_by)


def state_of(
    starts_at: datetime | None, expires_at: datetime | None, request_expires_at: datetime | None, now: datetime
) -> GrantState:
    """Returns the state at `now` of a grant that nobody has ended."""
    if starts_at is None or expires_at is None:
        waits = request_expires_at is not None and now < request_expires_at
        return GrantState.PENDING if waits else GrantState.LAPSED
    if now < starts_at:
        return GrantState.SCHEDULED
    return GrantState.ACTIVE if now < expires_at else GrantState.EXPIRED


def release(grant: Grant, *, by: Caller, comment: str, now: datetime) -> tuple[Grant, Event]:
    """Gives the access back before its time. Raises NotYours, WrongState."""
    if not grant.is_held_by(by.person):
        raise NotYours(f"{grant.name} is held by {grant.subject}, not by {by.principal}", grant=grant.name)
    demand_state(grant, now, GrantState.SCHEDULED, GrantState.ACTIVE)
    released = end(grant, GrantState.RELEASED, by=by, comment=comment, now=now)
    return released, event(EventType.GRANT_RELEASED, released, by=by, now=now, message=comment)


def revoke_with_parent(grant: Grant, *, parent: Grant, by: Caller, now: datetime) -> tuple[Grant, Event]:
    """Ends what was passed on, since what it was passed on from has ended."""
    comment = f"{parent.name} was {parent.state(now).lower()}, and this one came from it"
    revoked = end(grant, GrantState.REVOKED, by=by, comment=comment, now=now)
    return revoked, event(EventType.GRANT_REVOKED, revoked, by=by, now=now, message=comment)


def revoke_as_misfit(grant: Grant, *, why: str, by: Caller, now: datetime) -> tuple[Grant, Event]:
    """Ends what whoever changed the policies would not let anybody have any more."""
    comment = f"the policies were changed: {why}"
    revoked = end(grant, GrantState.REVOKED, by=by, comment=comment, now=now)
    return revoked, event(EventType.GRANT_REVOKED, revoked, by=by, now=now, message=comment)


def with_use(grant: Grant, *, now: datetime, until: datetime | None = None) -> Grant:
    """Counts a check that the grant allows at `now`. It ends by `until`, the end of what it was passed on from."""
    counted = replace(grant, usage=Usage(count=grant.usage.count + 1, last_at=now))
    return with_expiry(counted, until=until)


def run_out_event(grant: Grant, *, now: datetime) -> Event:
    """Returns the event of a grant whose time ran out: EXPIRED or LAPSED. Raises WrongState for any other."""
    demand_state(grant, now, GrantState.EXPIRED, GrantState.LAPSED)
    service = Caller(principal=SERVICE)
    if grant.expires_at is None or grant.starts_at is None:
        return event(EventType.GRANT_LAPSED, grant, by=service, now=now, message="nobody decided in time")
    early = grant.latest_end is not None and grant.expires_at < grant.latest_end
    message = "it was not used in time" if early else "its time ran out"
    expired = event(EventType.GRANT_EXPIRED, grant, by=service, now=now, message=message)
    return replace(expired, held=grant.expires_at - grant.starts_at)


def start(grant: Grant, now: datetime) -> Grant:
    """Starts the clock of the access: at approval, or at the start that was asked for if that is later."""
    return with_expiry(replace(grant, approved_at=now, starts_at=max(now, grant.start_at or now), offer=None))


def with_expiry(grant: Grant, *, until: datetime | None = None) -> Grant:
    """Sets when a started grant ends: after its duration, or before that as its limits say, and by `until`."""
    if grant.starts_at is None:
        raise AssertionError("a grant that has not started does not end")
    ends = [grant.starts_at + grant.duration]
    begun_at = max(grant.starts_at, grant.limits.since or grant.starts_at)
    if grant.limits.activation_window and grant.usage.last_at is None:
        ends.append(begun_at + grant.limits.activation_window)
    if grant.limits.idle_timeout:
        ends.append(max(grant.usage.last_at or begun_at, begun_at) + grant.limits.idle_timeout)
    return replace(grant, expires_at=min(*ends, until or ends[0]))


def end(grant: Grant, state: GrantState, *, by: Caller, comment: str, now: datetime) -> Grant:
    """Returns the grant ended by somebody."""
    return replace(grant, offer=None, end=End(state=state, at=now, by=by.principal, comment=comment))


def demand_state(grant: Grant, now: datetime, *needed: GrantState) -> None:
    """Raises WrongState unless the grant is in one of the states."""
    state = grant.state(now)
    if state not in needed:
        raise WrongState(f"{grant.name} is {state}, not {' or '.join(needed)}", grant=grant.name, state=state)


def event(type_: EventType, grant: Grant, *, by: Caller, now: datetime, message: str) -> Event:
    """Returns the event of a transition, `grant` being what it led to."""
    return Event(
        type=type_,
        at=now,
        principal=by.principal,
        origin=by.origin,
        subject=grant.subject,
        resources=grant.resources,
        actions=grant.actions,
        decision=grant.state(now),
        message=message,
        grant=grant.name,
        policy=grant.policy,
        policy_revision=grant.policy_revision,
        duration=grant.duration,
        held=grant.held,
        chain=grant.chain,
    )
