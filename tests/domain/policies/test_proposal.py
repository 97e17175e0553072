"""Dual control: a change of policies waits for another admin, and holds only for the policies that it was made for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from jit_service.domain.audit.event import SERVICE, EventType
from jit_service.domain.caller import Caller, Role
from jit_service.domain.errors import InvalidField, SelfApproval, StalePlan, WrongState
from jit_service.domain.policies import diff, proposal
from jit_service.domain.policies.diff import PolicyChange, PolicyDraft
from jit_service.domain.policies.policy import Policy
from jit_service.domain.policies.proposal import TTL, Proposal, ProposalState
from tests.domain.factories import HOUR, NOON, TICK, admin, caller, policy

STORED = policy(revision=5, created_at=NOON, updated_at=NOON)
LATER = NOON + HOUR


def root() -> Caller:
    """Another admin."""
    return caller("user:root@example.com", roles=[Role.ADMIN])


def changes(*wanted: Policy, stored: tuple[Policy, ...] = (STORED,)) -> tuple[PolicyChange, ...]:
    return tuple(diff.difference(stored, [PolicyDraft(policy=one) for one in wanted], prune=False))


def waiting(*wanted: Policy, comment: str = "more rows") -> Proposal:
    return proposal.propose(
        changes(*(wanted or (policy(priority=7),))),
        comment=comment,
        proposal_name="policyProposals/p1",
        by=admin(),
        now=NOON,
    )[0]


def approve(made: Proposal, *, by: Caller | None = None, current: Policy | None = STORED) -> Proposal:
    there = {current.name: current} if current is not None else {}
    return proposal.approve(made, current=there, by=by or root(), comment="fine", now=LATER)[0]


def test_a_proposal_waits_three_days_and_no_longer() -> None:
    made = waiting()

    assert timedelta(days=3) == TTL
    assert made.expires_at == NOON + TTL
    assert made.state(NOON + TTL - TICK) is ProposalState.PENDING
    assert made.state(NOON + TTL) is ProposalState.LAPSED


def test_a_proposal_says_who_wants_what_and_why() -> None:
    made = waiting()

    assert (made.name, made.proposer, made.comment) == ("policyProposals/p1", admin().principal, "more rows")
    assert (made.created_at, made.changes) == (NOON, changes(policy(priority=7)))
    assert (made.verdict, made.revision) == (None, 0)


def test_another_admin_approves() -> None:
    decided = approve(waiting())

    assert decided.state(LATER) is ProposalState.APPROVED
    assert decided.state(NOON + 2 * TTL) is ProposalState.APPROVED
    assert decided.verdict == proposal.Verdict(
        state=ProposalState.APPROVED, by=root().principal, at=LATER, comment="fine"
    )


@pytest.mark.parametrize("spelling", ["user:admin@example.com", "user:ADMIN@example.com", "user:ａdmin@example.com"])
def test_who_proposed_cannot_approve_in_whatever_letters(spelling: str) -> None:
    with pytest.raises(SelfApproval, match="another admin"):
        approve(waiting(), by=caller(spelling, roles=[Role.ADMIN]))


def test_who_proposed_may_reject() -> None:
    decided, _ = proposal.reject(waiting(), by=admin(), comment="a mistake", now=LATER)

    assert decided.state(LATER) is ProposalState.REJECTED
    assert decided.verdict == proposal.Verdict(
        state=ProposalState.REJECTED, by=admin().principal, at=LATER, comment="a mistake"
    )


@pytest.mark.parametrize(
    ("make", "is_"),
    [
        (lambda: approve(waiting()), "APPROVED"),
        (lambda: proposal.reject(waiting(), by=root(), comment="", now=NOON)[0], "REJECTED"),
        (lambda: replace(waiting(), expires_at=LATER), "LAPSED"),
    ],
)
def test_what_is_decided_or_lapsed_is_decided_no_more(make: Callable[[], Proposal], is_: str) -> None:
    with pytest.raises(WrongState, match=f"policyProposals/p1 is {is_}, not PENDING"):
        approve(make())
    with pytest.raises(WrongState, match=f"policyProposals/p1 is {is_}, not PENDING") as refused:
        proposal.reject(make(), by=root(), comment="", now=LATER)
    assert refused.value.metadata["state"] == is_


@pytest.mark.parametrize(
    "current",
    [None, replace(STORED, revision=6), replace(STORED, revision=4), replace(STORED, deleted_at=NOON)],
    ids=["unknown", "changed", "older", "deleted"],
)
def test_a_proposal_is_stale_once_its_policy_is_not_as_it_found_it(current: Policy | None) -> None:
    with pytest.raises(StalePlan, match="policies/orders has changed"):
        approve(waiting(), current=current)


def test_a_proposal_of_a_new_policy_is_stale_once_somebody_made_one_of_that_name() -> None:
    made = waiting(policy(name="policies/new"))
    there = replace(STORED, name="policies/new")

    assert approve(made, current=None).verdict is not None
    assert approve(made, current=replace(there, deleted_at=NOON)).verdict is not None
    with pytest.raises(StalePlan, match="policies/new"):
        approve(made, current=there)


def test_every_policy_of_a_proposal_must_be_as_it_found_it() -> None:
    made = waiting(policy(priority=7), policy(name="policies/new"))

    with pytest.raises(StalePlan, match="policies/new"):
        proposal.approve(
            made,
            current={STORED.name: STORED, "policies/new": replace(STORED, name="policies/new")},
            by=root(),
            comment="",
            now=LATER,
        )


def test_nobody_lapses_what_still_waits_or_is_decided() -> None:
    made = waiting()

    with pytest.raises(WrongState, match="policyProposals/p1 is PENDING, not LAPSED"):
        proposal.lapse_event(made, now=NOON + TTL - TICK)
    with pytest.raises(WrongState, match="policyProposals/p1 is APPROVED, not LAPSED"):
        proposal.lapse_event(approve(made), now=NOON + TTL)
    told = proposal.lapse_event(made, now=NOON + TTL)
    assert (told.type, told.principal, told.decision) == (EventType.PROPOSAL_LAPSED, SERVICE, "LAPSED")
    assert (told.message, told.at, told.proposal) == ("nobody decided in time", NOON + TTL, "policyProposals/p1")


def test_each_step_of_a_proposal_leaves_its_event() -> None:
    made, first = proposal.propose(
        changes(policy(priority=7)), comment="why", proposal_name="policyProposals/p1", by=admin(), now=NOON
    )
    _, second = proposal.approve(made, current={STORED.name: STORED}, by=root(), comment="fine", now=LATER)
    _, third = proposal.reject(made, by=root(), comment="no", now=LATER)

    events = (first, second, third)
    assert [told.type for told in events] == [
        EventType.POLICIES_PROPOSED,
        EventType.PROPOSAL_APPROVED,
        EventType.PROPOSAL_REJECTED,
    ]
    assert [told.message for told in events] == ["why", "fine", "no"]
    assert [told.decision for told in events] == ["PENDING", "APPROVED", "REJECTED"]
    assert [told.principal for told in events] == [admin().principal, root().principal, root().principal]
    assert [told.at for told in events] == [NOON, LATER, LATER]
    assert {(told.policy, told.proposal, told.origin) for told in events} == {
        (STORED.name, "policyProposals/p1", admin().origin)
    }


def test_the_event_of_a_verdict_says_how_whoever_gave_it_had_logged_in() -> None:
    by = root()._replace(claims={"acr": "phr", "amr": ["mfa"], "auth_time": NOON.timestamp()})

    approved = proposal.approve(waiting(), current={STORED.name: STORED}, by=by, comment="", now=LATER)[1]
    rejected = proposal.reject(waiting(), by=by, comment="", now=LATER)[1]

    shown = [(told.acr, told.amr, told.logged_in_at) for told in (approved, rejected)]
    assert shown == [("phr", ("mfa",), NOON)] * 2


def test_the_event_of_several_changes_names_no_single_policy() -> None:
    made = waiting(policy(priority=7), policy(name="policies/new"))

    assert proposal.reject(made, by=root(), comment="", now=LATER)[1].policy == ""


def test_comments_are_free_text() -> None:
    with pytest.raises(InvalidField, match="comment"):
        waiting(comment="\x00")
    with pytest.raises(InvalidField, match="comment"):
        proposal.reject(waiting(), by=root(), comment="\x00", now=LATER)


def test_two_proposals_of_the_same_changes_want_the_same() -> None:
    one = waiting()

    assert one.wants_the_same_as(replace(waiting(), name="policyProposals/p2", comment="again"))
    assert not one.wants_the_same_as(waiting(policy(priority=8)))
    assert not one.wants_the_same_as(replace(one, end_misfits=not one.end_misfits))


def test_a_proposal_ends_misfits_only_where_that_was_asked_for() -> None:
    def proposed(**more: bool) -> Proposal:
        wanted = changes(policy(priority=7))
        return proposal.propose(wanted, comment="", proposal_name="policyProposals/p1", by=admin(), now=NOON, **more)[0]

    assert (proposed().end_misfits, proposed(end_misfits=True).end_misfits) == (False, True)


def test_a_proposed_policy_that_somebody_made_meanwhile_is_not_overwritten() -> None:
    new = waiting(policy(name="policies/new"))
    there = {"policies/new": policy(name="policies/new", revision=1)}

    with pytest.raises(StalePlan):
        proposal.approve(new, current=there, by=root(), comment="", now=NOON)
