"""Proposals: under dual control a change of policies waits for another admin."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from jit_service.domain.audit.event import SERVICE, Event, EventType, log_in_fields
from jit_service.domain.caller import Caller
from jit_service.domain.errors import SelfApproval, StalePlan, WrongState
from jit_service.domain.language import name
from jit_service.domain.person import Account, Person
from jit_service.domain.policies.diff import PolicyChange
from jit_service.domain.policies.policy import Policy

TTL: Final = timedelta(days=3)
"""A proposal that nobody decides lapses after it."""


class ProposalState(StrEnum):
    """How far a proposal is; the last three are final."""

    PENDING = "PENDING"
    APPROVED = "APPROVED"
    REJECTED = "REJECTED"
    LAPSED = "LAPSED"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Who decided: `state` is APPROVED or REJECTED."""

    state: ProposalState
    by: str
    at: datetime
    comment: str


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """The changes that `proposer` wants, each with the policy before it. `revision` is 0 before it is stored.

    `end_misfits`: live grants that would not be given any more end with it.
    """

    name: str
    proposer: str
    comment: str
    changes: tuple[PolicyChange, ...]
    created_at: datetime
    expires_at: datetime
    verdict: Verdict | None = None
    revision: int = 0
    proposer_account: Account | None = None
    end_misfits: bool = False

    def wants_the_same_as(self, other: Proposal) -> bool:
        """Returns whether it would have the same effect."""
        return (self.changes, self.end_misfits) == (other.changes, other.end_misfits)

    def state(self, now: datetime) -> ProposalState:
        """Returns the state at `now`; half-open: lapsed when now >= expires_at."""
        if self.verdict is not None:
            return self.verdict.state
        return ProposalState.PENDING if now < self.expires_at else ProposalState.LAPSED


def propose(
    changes: tuple[PolicyChange, ...],
    *,
    comment: str,
    proposal_name: str,
    by: Caller,
    now: datetime,
    end_misfits: bool = False,
) -> tuple[Proposal, Event]:
    """Returns the proposal. Raises InvalidField."""
    proposal = Proposal(
        name=proposal_name,
        proposer=by.principal,
        proposer_account=by.account,
        comment=name.free_text(comment, "comment"),
        changes=changes,
        created_at=now,
        expires_at=now + TTL,
        end_misfits=end_misfits,
    )
    return proposal, _event(EventType.POLICIES_PROPOSED, proposal, by=by, now=now, message=proposal.comment)


def approve(
    proposal: Proposal, *, current: dict[str, Policy], by: Caller, comment: str, now: datetime
) -> tuple[Proposal, Event]:
    """Lets the changes happen. `current` are the stored policies, deleted ones too.

    Raises SelfApproval, WrongState, StalePlan where a policy is not as the proposal found it, InvalidField.
    """
    if by.person.is_same(Person(proposal.proposer, proposal.proposer_account)):
        raise SelfApproval(f"{by.principal} made {proposal.name}; another admin must approve it")
    _demand_pending(proposal, now)
    for change in proposal.changes:
        _demand_unchanged(proposal, change, current.get(change.name))
    return _decide(proposal, ProposalState.APPROVED, EventType.PROPOSAL_APPROVED, by=by, comment=comment, now=now)


def reject(proposal: Proposal, *, by: Caller, comment: str, now: datetime) -> tuple[Proposal, Event]:
    """Ends the proposal without effect. Raises WrongState, InvalidField."""
    _demand_pending(proposal, now)
    return _decide(proposal, ProposalState.REJECTED, EventType.PROPOSAL_REJECTED, by=by, comment=comment, now=now)


def lapse_event(proposal: Proposal, *, now: datetime) -> Event:
    """Returns the event of a proposal that nobody decided. Raises WrongState for any other."""
    if proposal.state(now) is not ProposalState.LAPSED:
        raise WrongState(f"{proposal.name} is {proposal.state(now)}, not LAPSED")
    service = Caller(principal=SERVICE)
    return _event(EventType.PROPOSAL_LAPSED, proposal, by=service, now=now, message="nobody decided in time")


def _demand_pending(proposal: Proposal, now: datetime) -> None:
    state = proposal.state(now)
    if state is not ProposalState.PENDING:
        raise WrongState(f"{proposal.name} is {state}, not PENDING", state=state)


def _demand_unchanged(proposal: Proposal, change: PolicyChange, current: Policy | None) -> None:
    there = current if current is not None and current.deleted_at is None else None
    found, expected = (policy.revision if policy is not None else 0 for policy in (there, change.before))
    if found != expected:
        raise StalePlan(f"{change.name} has changed since {proposal.name} was made; propose it again")


def _decide(
    proposal: Proposal, state: ProposalState, type_: EventType, *, by: Caller, comment: str, now: datetime
) -> tuple[Proposal, Event]:
    verdict = Verdict(state=state, by=by.principal, at=now, comment=name.free_text(comment, "comment"))
    decided = replace(proposal, verdict=verdict)
    recorded = _event(type_, decided, by=by, now=now, message=verdict.comment)
    return decided, replace(recorded, **log_in_fields(by, now=now))


def _event(type_: EventType, proposal: Proposal, *, by: Caller, now: datetime, message: str) -> Event:
    policies = [change.name for change in proposal.changes]
    return Event(
        type=type_,
        at=now,
        principal=by.principal,
        origin=by.origin,
        decision=proposal.state(now),
        message=message,
        policy=policies[0] if len(policies) == 1 else "",
        proposal=proposal.name,
    )
