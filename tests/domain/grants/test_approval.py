"""Reviewing beyond yes and no: edits, counter-offers, escalation, delegation, comments, and requests for more time."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from jit_service.domain.audit.event import EventType
from jit_service.domain.caller import Caller
from jit_service.domain.errors import (
    AlreadyReviewed,
    InvalidField,
    JitError,
    NotApprover,
    NotYours,
    SelfApproval,
    StaleEtag,
    WrongState,
)
from jit_service.domain.grants import approval, more_time, quorum, request
from jit_service.domain.grants.grant import ExtensionState, Grant, GrantState, Justification, ReviewDecision, Terms
from jit_service.domain.grants.terms import Edits
from jit_service.domain.language.etag import etag
from jit_service.domain.policies.policy import CommentRule, Policy, PrincipalSet, Step
from tests.domain.factories import (
    ALICE,
    BOB,
    BOT,
    CAROL,
    DAVE,
    ERIN,
    HOUR,
    NOON,
    TICK,
    accepted,
    alice,
    approve,
    approved,
    bob,
    caller,
    carol,
    countered,
    dave,
    edited,
    erin,
    extending,
    extension,
    in_place_of,
    pending,
    policy,
    revoke,
    step,
    withdraw,
)
from tests.domain.grants.test_grant import refused

MINUTE = timedelta(minutes=1)
TWO_OF_OWNERS = policy(steps=(step("owners", needed=2),))
TWO_STEPS = policy(steps=(step("owners"), step("security")))
FOR_BOT = policy(eligible=replace(policy().eligible, principals=(BOT,)))
# Owners have an hour, then the security team may decide as well.
ESCALATES = Step(
    approvers=PrincipalSet(groups=("owners",)), timeout=HOUR, escalate_to=PrincipalSet(groups=("security",))
)
ESCALATING = policy(steps=(ESCALATES,))
# Owners have an hour, then the request lapses.
LAPSING = policy(steps=(replace(ESCALATES, escalate_to=None),))
WIDE: dict[str, Any] = {"resources": ("database/orders/*",), "actions": ("read", "rows.*"), "duration": 2 * HOUR}


def fault(act: Any) -> str:
    error = refused(InvalidField, act)
    assert isinstance(error, InvalidField)
    return error.field


# Edits


def test_an_approver_gives_less_than_what_is_asked_for() -> None:
    grant = edited(
        pending(**WIDE),
        resources=("database/orders/eu",),
        actions=("rows.add",),
        duration=HOUR,
        start_at=NOON + HOUR,
    )

    assert grant.terms == Terms(
        resources=("database/orders/eu",), actions=("rows.add",), duration=HOUR, start_at=NOON + HOUR
    )
    assert (grant.starts_at, grant.expires_at) == (NOON + HOUR, NOON + 2 * HOUR)


def test_both_what_was_asked_for_and_what_is_given_are_kept() -> None:
    asked = pending(under := policy(steps=(step("owners", needed=2),)), **WIDE)

    first = edited(asked, under=under, duration=HOUR)
    second = edited(first, under=under, by=erin(), actions=("read",))

    assert first.requested == second.requested == asked.terms
    assert [review.terms for review in second.reviews] == [first.terms, second.terms]
    assert (second.duration, second.actions) == (HOUR, ("read",))


def test_an_approval_as_asked_keeps_one_version() -> None:
    grant = edited(pending(**WIDE))

    assert (grant.requested, grant.reviews[0].terms) == (None, None)


def test_edits_that_change_nothing_are_an_approval_as_asked() -> None:
    asked = pending(**WIDE)

    grant = edited(asked, duration=asked.duration, actions=asked.actions)

    assert (grant.requested, grant.reviews[0].terms) == (None, None)


@pytest.mark.parametrize("wider", ["database/orders/**", "database/orders/eu/x", "database/users"])
def test_an_edit_does_not_widen_the_resources(wider: str) -> None:
    assert fault(lambda: edited(pending(**WIDE), resources=("database/orders/eu", wider))) == "resources[1]"


def test_an_edit_does_not_widen_the_actions() -> None:
    assert fault(lambda: edited(pending(**WIDE), actions=("**",))) == "actions[0]"


def test_an_edit_is_no_longer_than_what_is_asked_for() -> None:
    assert edited(pending(**WIDE), duration=2 * HOUR).duration == 2 * HOUR
    assert fault(lambda: edited(pending(**WIDE), duration=2 * HOUR + TICK)) == "duration"


def test_an_edit_gives_some_time() -> None:
    assert edited(pending(**WIDE), duration=TICK).duration == TICK
    assert fault(lambda: edited(pending(**WIDE), duration=timedelta())) == "duration"


def test_an_edit_starts_no_sooner_than_now() -> None:
    assert edited(pending(), start_at=NOON).starts_at == NOON
    assert fault(lambda: edited(pending(), start_at=NOON - TICK)) == "start_time"


def test_an_edit_starts_no_sooner_than_what_is_asked_for() -> None:
    later = pending(start_at=NOON + HOUR)

    assert edited(later, start_at=NOON + HOUR).starts_at == NOON + HOUR
    assert fault(lambda: edited(later, start_at=NOON + HOUR - TICK)) == "start_time"


def test_an_edit_starts_at_most_thirty_days_ahead() -> None:
    ahead = NOON + request.MAX_LEAD

    assert edited(pending(), start_at=ahead).starts_at == ahead
    assert fault(lambda: edited(pending(), start_at=ahead + TICK)) == "start_time"


def test_a_second_edit_narrows_the_first() -> None:
    first = edited(pending(TWO_OF_OWNERS, **WIDE), under=TWO_OF_OWNERS, duration=HOUR)

    assert fault(lambda: edited(first, under=TWO_OF_OWNERS, by=erin(), duration=HOUR + TICK)) == "duration"


def test_edits_are_brought_to_canonical_form() -> None:
    assert fault(lambda: edited(pending(**WIDE), resources=("database/../users",))) == "resources[0]"
    assert edited(pending(**WIDE), actions=("read", "read")).actions == ("read",)


# Comments


COMMENTED = policy(review_comment=CommentRule(required_to_approve=True, required_to_deny=True, pattern="[A-Z]+-[0-9]+"))


def test_a_comment_that_is_required_must_say_something() -> None:
    assert fault(lambda: approve(pending(), under=COMMENTED, comment=" \n")) == "comment"
    assert fault(lambda: approval.deny(pending(), policy=COMMENTED, by=bob(), comment="", now=NOON)) == "comment"
    assert fault(lambda: countered(pending(), under=COMMENTED, duration=MINUTE)) == "comment"
    assert approve(pending(), under=COMMENTED, comment="OPS-7").state(NOON) is GrantState.ACTIVE


def test_approving_and_denying_have_rules_of_their_own() -> None:
    to_approve = policy(review_comment=CommentRule(required_to_approve=True))
    to_deny = policy(review_comment=CommentRule(required_to_deny=True))

    assert approval.deny(pending(), policy=to_approve, by=bob(), comment="", now=NOON)[0].end
    assert approve(pending(), under=to_deny).state(NOON) is GrantState.ACTIVE
    assert fault(lambda: approve(pending(), under=to_approve)) == "comment"
    assert fault(lambda: approval.deny(pending(), policy=to_deny, by=bob(), comment="", now=NOON)) == "comment"


def test_a_pattern_binds_the_whole_comment() -> None:
    error = refused(InvalidField, lambda: approve(pending(), under=COMMENTED, comment="see OPS-7"))

    assert error.message == (
        "comment: does not match [A-Z]+-[0-9]+ from its first character to its last, as policies/orders asks for"
    )


def test_a_pattern_asks_for_no_comment() -> None:
    optional = policy(review_comment=CommentRule(pattern="[A-Z]+-[0-9]+"))

    assert approve(pending(), under=optional).state(NOON) is GrantState.ACTIVE
    assert fault(lambda: approve(pending(), under=optional, comment="fine")) == "comment"


def test_who_may_not_review_learns_nothing_of_the_comment_rule() -> None:
    refused(NotApprover, lambda: approve(pending(), under=COMMENTED, by=dave()))


# Counter-offers


def test_an_offer_leaves_the_request_as_it_was() -> None:
    asked = pending(**WIDE)

    offered, event = approval.counter(
        asked, Edits(duration=HOUR), policy=policy(), by=bob(), comment="an hour will do", now=NOON
    )

    assert (offered.terms, offered.state(NOON), offered.reviews) == (asked.terms, GrantState.PENDING, ())
    assert offered.offer is not None
    assert (offered.offer.reviewer, offered.offer.terms) == (BOB, replace(asked.terms, duration=HOUR))
    assert (event.type, event.principal, event.duration, event.decision, event.message) == (
        EventType.GRANT_COUNTERED,
        BOB,
        HOUR,
        "PENDING",
        "an hour will do",
    )


def test_an_offer_is_less_than_what_is_asked_for() -> None:
    asked = pending(**WIDE)

    assert fault(lambda: countered(asked, duration=3 * HOUR)) == "duration"
    assert fault(lambda: countered(asked, resources=("database/**",))) == "resources[0]"
    assert fault(lambda: countered(asked)) == "duration"
    assert fault(lambda: countered(asked, duration=asked.duration)) == "duration"


def test_an_accepted_offer_is_its_makers_approval() -> None:
    offered = countered(pending(**WIDE), duration=HOUR)
    taken = approval.with_offered_terms(offered, by=alice(), now=NOON + TICK)

    grant, event = approval.accept(taken, policy=policy(), by=alice(), comment="fine", now=NOON + TICK)

    assert grant.state(NOON + TICK) is GrantState.ACTIVE
    assert (grant.duration, grant.requested, grant.offer) == (HOUR, offered.terms, None)
    (review,) = grant.reviews
    assert (review.reviewer, review.decision, review.at) == (BOB, ReviewDecision.APPROVED, NOON + TICK)
    assert (event.type, event.principal, event.decision, event.message) == (
        EventType.COUNTER_OFFER_ACCEPTED,
        ALICE,
        "ACTIVE",
        "fine",
    )


def test_an_offer_is_gone_once_the_request_is_decided() -> None:
    offered = countered(pending(**WIDE), duration=HOUR)
    assert offered.offer is not None

    assert approve(offered).offer is None
    assert withdraw(offered).offer is None


def test_an_accepted_offer_counts_for_one_approval_of_those_needed() -> None:
    offered = countered(pending(TWO_OF_OWNERS, **WIDE), under=TWO_OF_OWNERS, duration=HOUR)

    grant = accepted(offered, under=TWO_OF_OWNERS)

    assert grant.state(NOON) is GrantState.PENDING
    assert approve(grant, under=TWO_OF_OWNERS, by=erin()).state(NOON) is GrantState.ACTIVE


def test_an_offer_is_accepted_once() -> None:
    taken = accepted(countered(pending(TWO_OF_OWNERS, **WIDE), under=TWO_OF_OWNERS, duration=HOUR), under=TWO_OF_OWNERS)

    refused(WrongState, lambda: accepted(taken, under=TWO_OF_OWNERS))
    refused(AlreadyReviewed, lambda: countered(taken, under=TWO_OF_OWNERS, duration=MINUTE))


def test_an_offer_of_who_has_approved_meanwhile_is_no_second_approval() -> None:
    offered = countered(pending(TWO_OF_OWNERS, **WIDE), under=TWO_OF_OWNERS, duration=HOUR)
    approved_too = approve(offered, under=TWO_OF_OWNERS)

    refused(AlreadyReviewed, lambda: accepted(approved_too, under=TWO_OF_OWNERS))


def test_an_offer_is_not_accepted_once_its_maker_is_no_approver() -> None:
    offered = countered(pending(**WIDE), duration=HOUR)

    refused(NotApprover, lambda: accepted(offered, under=policy(steps=(step("security"),))))
    refused(NotApprover, lambda: accepted(offered, under=policy(steps=())))
    refused(NotApprover, lambda: accepted(countered(offered, duration=MINUTE), under=policy(steps=(step("security"),))))


def test_an_offer_for_a_step_that_is_gone_is_not_accepted() -> None:
    first = approve(pending(TWO_STEPS, **WIDE), under=TWO_STEPS)
    offered = countered(first, under=TWO_STEPS, by=carol(), duration=HOUR)

    refused(NotApprover, lambda: accepted(offered, under=policy(steps=(step("owners", "security", needed=2),))))


def test_a_new_offer_takes_the_place_of_an_earlier_one() -> None:
    offered = countered(countered(pending(**WIDE), duration=HOUR), by=erin(), duration=MINUTE)

    grant = accepted(offered)

    assert (grant.duration, grant.reviews[0].reviewer) == (MINUTE, ERIN)


def test_an_edit_by_another_reviewer_ends_the_offer() -> None:
    offered = countered(pending(TWO_OF_OWNERS, **WIDE), under=TWO_OF_OWNERS, duration=HOUR)

    changed = edited(offered, under=TWO_OF_OWNERS, by=erin(), duration=MINUTE)

    refused(WrongState, lambda: accepted(changed, under=TWO_OF_OWNERS))


def test_a_declined_offer_leaves_the_request_as_it_was_asked_for() -> None:
    asked = pending(**WIDE)

    grant, event = approval.decline(countered(asked, duration=HOUR), by=alice(), comment="too short", now=NOON)

    assert grant == asked
    assert (event.type, event.decision, event.message) == (EventType.COUNTER_OFFER_DECLINED, "PENDING", "too short")
    refused(WrongState, lambda: approval.decline(grant, by=alice(), comment="", now=NOON))
    refused(WrongState, lambda: accepted(grant))


def test_an_offer_is_answered_by_who_asked_or_would_hold_it() -> None:
    offered = countered(pending(FOR_BOT, subject=BOT, **WIDE), under=FOR_BOT, duration=HOUR)

    refused(NotYours, lambda: accepted(offered, under=FOR_BOT, by=bob()))
    refused(NotYours, lambda: approval.decline(offered, by=dave(), comment="", now=NOON))
    assert accepted(offered, under=FOR_BOT, by=alice()).state(NOON) is GrantState.ACTIVE
    assert accepted(offered, under=FOR_BOT, by=caller(BOT)).state(NOON) is GrantState.ACTIVE


def test_an_offer_ends_exactly_with_the_request() -> None:
    offered = countered(pending(**WIDE), duration=HOUR)

    assert accepted(offered, at=NOON + 8 * HOUR - TICK).reviews
    refused(WrongState, lambda: accepted(offered, at=NOON + 8 * HOUR))
    refused(WrongState, lambda: approval.decline(withdraw(offered), by=alice(), comment="", now=NOON))


def test_an_offered_start_that_has_passed_is_now() -> None:
    offered = countered(pending(), start_at=NOON + HOUR)

    assert accepted(offered, at=NOON + 2 * HOUR).starts_at == NOON + 2 * HOUR
    assert accepted(offered, at=NOON).starts_at == NOON + HOUR


def test_an_offer_gives_its_reviewer_no_second_vote() -> None:
    offered = countered(pending(TWO_OF_OWNERS, **WIDE), under=TWO_OF_OWNERS, duration=HOUR)

    assert quorum.approvals_missing(TWO_OF_OWNERS.steps, offered.reviews) == [2]


def test_who_may_not_approve_may_not_offer() -> None:
    refused(NotApprover, lambda: countered(pending(), by=dave(), duration=MINUTE))
    refused(SelfApproval, lambda: countered(pending(by=bob()), by=bob(), duration=MINUTE))
    refused(WrongState, lambda: countered(pending(), at=NOON + 8 * HOUR, duration=MINUTE))


def test_accepting_an_offer_for_an_earlier_step_does_not_lengthen_the_next_one() -> None:
    under = policy(steps=(step("owners", needed=1), replace(LAPSING.steps[0], approvers=PrincipalSet(groups=("sec",)))))
    offered = countered(pending(under, **WIDE), under=under, duration=HOUR)
    passed = approve(offered, under=under, by=erin(), at=NOON)

    taken = accepted(passed, under=under, at=NOON + HOUR / 2)

    assert (taken.step_since, taken.request_expires_at) == (NOON, NOON + HOUR)


# Escalation and step timeouts


def test_a_step_escalates_exactly_at_its_timeout() -> None:
    grant = pending(ESCALATING, at=NOON)

    refused(NotApprover, lambda: approve(grant, under=ESCALATING, by=carol(), at=NOON + HOUR - TICK))
    assert approve(grant, under=ESCALATING, by=carol(), at=NOON + HOUR).state(NOON + HOUR) is GrantState.ACTIVE


def test_after_an_escalation_the_first_approvers_may_still_decide() -> None:
    grant = approve(pending(ESCALATING), under=ESCALATING, by=bob(), at=NOON + 2 * HOUR)

    assert grant.state(NOON + 2 * HOUR) is GrantState.ACTIVE
    assert not grant.reviews[0].escalated


def test_an_escalated_approval_is_recorded_as_one_and_stands() -> None:
    under = policy(steps=(replace(ESCALATES, approvals_needed=2),))
    first = approve(pending(under), under=under, by=carol(), at=NOON + HOUR)

    second = approve(first, under=under, by=bob(), at=NOON + HOUR)

    assert first.reviews[0].escalated
    assert (first.state(NOON + HOUR), second.state(NOON + HOUR)) == (GrantState.PENDING, GrantState.ACTIVE)


def test_who_escalation_lets_in_does_not_pass_for_a_first_approver() -> None:
    under = policy(steps=(replace(ESCALATES, approvals_needed=2),))
    (review,) = approve(pending(under), under=under, by=carol(), at=NOON + HOUR).reviews

    assert quorum.approvals_missing(under.steps, [review]) == [1]
    assert quorum.approvals_missing(under.steps, [replace(review, escalated=False)]) == [2]
    assert quorum.approvals_missing([replace(under.steps[0], escalate_to=None)], [review]) == [2]


def test_a_later_steps_clock_starts_when_the_step_before_it_is_passed() -> None:
    under = policy(steps=(step("owners"), replace(ESCALATES, approvers=PrincipalSet(groups=("leads",)))))
    first = approve(pending(under, at=NOON), under=under, at=NOON + HOUR)

    assert quorum.step_due_at(first) == NOON + 2 * HOUR
    refused(NotApprover, lambda: approve(first, under=under, by=carol(), at=NOON + 2 * HOUR - TICK))
    assert approve(first, under=under, by=carol(), at=NOON + 2 * HOUR).starts_at == NOON + 2 * HOUR


def test_an_approval_that_does_not_pass_the_step_leaves_its_clock() -> None:
    under = policy(steps=(replace(ESCALATES, approvals_needed=2),))

    first = approve(pending(under, at=NOON), under=under, at=NOON + HOUR / 2)

    assert quorum.step_due_at(first) == NOON + HOUR


def test_a_step_without_an_escalation_lapses_exactly_at_its_timeout() -> None:
    grant = pending(LAPSING, at=NOON)

    assert grant.request_expires_at == NOON + HOUR
    assert approve(grant, under=LAPSING, at=NOON + HOUR - TICK).starts_at
    refused(WrongState, lambda: approve(grant, under=LAPSING, at=NOON + HOUR))


def test_a_step_lapses_no_later_than_the_request() -> None:
    under = replace(LAPSING, request_ttl=HOUR / 2)

    assert pending(under).request_expires_at == NOON + HOUR / 2


def test_each_step_has_its_own_time() -> None:
    under = policy(steps=(LAPSING.steps[0], step("security")))

    first = approve(pending(under, at=NOON), under=under, at=NOON + HOUR / 2)

    assert first.request_expires_at == NOON + 8 * HOUR
    assert quorum.step_due_at(first) is None


def test_only_a_step_that_is_waited_for_is_due() -> None:
    assert quorum.step_due_at(pending(ESCALATING)) == NOON + HOUR
    assert quorum.step_due_at(pending()) is None
    assert quorum.step_due_at(pending(policy(steps=()))) is None


def test_denials_count_from_both_sides_of_an_escalation() -> None:
    under = policy(steps=(replace(ESCALATES, denials_needed=2),))
    later = NOON + HOUR

    first = approval.deny(pending(under), policy=under, by=bob(), comment="", now=NOON)[0]
    second = approval.deny(first, policy=under, by=carol(), comment="", now=later)[0]

    refused(NotApprover, lambda: approval.deny(first, policy=under, by=carol(), comment="", now=later - TICK))
    assert (first.state(later), second.state(later)) == (GrantState.PENDING, GrantState.DENIED)


def test_an_escalated_denial_does_not_count_once_nothing_escalates() -> None:
    under = policy(steps=(replace(ESCALATES, denials_needed=2),))
    first = approval.deny(pending(under), policy=under, by=carol(), comment="", now=NOON + HOUR)[0]
    no_more = policy(steps=(replace(ESCALATES, denials_needed=2, timeout=timedelta(), escalate_to=None),))

    second = approval.deny(first, policy=no_more, by=bob(), comment="", now=NOON + HOUR)[0]

    assert second.state(NOON + HOUR) is GrantState.PENDING


# Delegation


def test_a_delegate_approves_by_the_delegators_right() -> None:
    grant, event = approval.approve(pending(), policy=policy(), by=in_place_of(dave(), bob()), comment="", now=NOON)

    (review,) = grant.reviews
    assert grant.state(NOON) is GrantState.ACTIVE
    assert (review.reviewer, review.on_behalf_of, review.delegation) == (DAVE, BOB, "delegations/d0")
    assert (review.groups, event.principal, event.delegation) == (bob().groups, DAVE, "delegations/d0")


def test_a_right_is_delegated_for_its_policies_only() -> None:
    refused(NotApprover, lambda: approve(pending(), by=in_place_of(dave(), bob(), policies=["policies/users"])))
    assert approve(pending(), by=in_place_of(dave(), bob(), policies=["policies/orders"])).starts_at


def test_a_right_that_the_delegator_has_not_is_none() -> None:
    refused(NotApprover, lambda: approve(pending(), by=in_place_of(dave(), carol())))


def test_the_requester_does_not_approve_in_anothers_place() -> None:
    own = in_place_of(alice(), bob())

    error = refused(SelfApproval, lambda: approve(pending(by=alice()), by=own))

    assert error.message == f"{ALICE} asked for or would hold grants/g7, so may not review it"
    refused(SelfApproval, lambda: approve(pending(by=own), by=own))
    refused(SelfApproval, lambda: approval.deny(pending(), policy=policy(), by=own, comment="", now=NOON))


def test_nobody_approves_in_place_of_the_requester() -> None:
    grant = pending(by=bob())

    error = refused(SelfApproval, lambda: approve(grant, by=in_place_of(dave(), bob())))

    assert error.message == f"{DAVE} could review grants/g7 only in place of whoever asked for or holds it"
    refused(SelfApproval, lambda: approve(grant, by=in_place_of(dave(), caller("user:BOB@example.com", "owners"))))
    refused(
        SelfApproval,
        lambda: approve(pending(FOR_BOT, subject=BOT), under=FOR_BOT, by=in_place_of(dave(), caller(BOT, "owners"))),
    )


def test_in_place_of_the_requester_and_of_another_the_others_right_counts() -> None:
    grant = approve(pending(by=bob()), by=in_place_of(dave(), bob(), erin()))

    assert grant.reviews[0].on_behalf_of == ERIN


def test_where_self_approval_is_allowed_a_delegate_may_review_in_place_of_the_requester() -> None:
    under = policy(allow_self_approval=True)

    assert approve(pending(under, by=bob()), under=under, by=in_place_of(dave(), bob())).starts_at


def test_one_right_counts_once_in_whoevers_hands() -> None:
    in_bobs_place = in_place_of(dave(), bob())
    by_bob = approve(pending(TWO_OF_OWNERS), under=TWO_OF_OWNERS, by=bob())
    by_dave = approve(pending(TWO_OF_OWNERS), under=TWO_OF_OWNERS, by=in_bobs_place)
    another = in_place_of(caller(CAROL), bob())

    error = refused(AlreadyReviewed, lambda: approve(by_bob, under=TWO_OF_OWNERS, by=in_bobs_place))

    assert error.message == f"grants/g7 has already been reviewed for {BOB}; one principal counts once"
    refused(AlreadyReviewed, lambda: approve(by_dave, under=TWO_OF_OWNERS, by=bob()))
    refused(AlreadyReviewed, lambda: approve(by_dave, under=TWO_OF_OWNERS, by=another))


def test_one_person_counts_once_with_however_many_rights() -> None:
    both = in_place_of(erin(), bob())

    first = approve(pending(TWO_OF_OWNERS), under=TWO_OF_OWNERS, by=both)

    assert (first.reviews[0].holder, first.state(NOON)) == (ERIN, GrantState.PENDING)
    refused(AlreadyReviewed, lambda: approve(first, under=TWO_OF_OWNERS, by=both))


def test_a_delegate_of_two_uses_the_right_that_is_not_used_up() -> None:
    by_bob = approve(pending(TWO_OF_OWNERS), under=TWO_OF_OWNERS, by=bob())

    grant = approve(by_bob, under=TWO_OF_OWNERS, by=in_place_of(dave(), bob(), erin()))

    assert (grant.reviews[-1].on_behalf_of, grant.state(NOON)) == (ERIN, GrantState.ACTIVE)


def test_a_delegates_approval_counts_while_the_delegator_is_an_approver() -> None:
    (review,) = approve(pending(), by=in_place_of(dave(), bob())).reviews

    assert quorum.approvals_missing([step("owners", needed=2)], [review]) == [1]
    assert quorum.approvals_missing([step("owners", needed=2)], [review, replace(review, reviewer=CAROL)]) == [1]
    assert quorum.approvals_missing([step(principals=(DAVE,))], [review]) == [1]


def test_a_policy_may_forbid_to_review_in_anothers_place() -> None:
    forbids = policy(forbid_delegation=True)
    approved_in_place = approve(pending(), by=in_place_of(dave(), bob()), under=TWO_OF_OWNERS)

    refused(NotApprover, lambda: approve(pending(), by=in_place_of(dave(), bob()), under=forbids))
    assert approve(pending(), by=in_place_of(bob(), erin()), under=forbids).reviews[0].delegation == ""
    again = approve(approved_in_place, by=erin(), under=replace(TWO_OF_OWNERS, forbid_delegation=True))
    assert again.state(NOON) is GrantState.PENDING


def test_an_offer_in_anothers_place_is_not_accepted_where_that_is_forbidden() -> None:
    offered = countered(pending(), by=in_place_of(dave(), bob()), duration=HOUR / 2)

    assert accepted(offered, delegations=["delegations/d0"]).state(NOON) is GrantState.ACTIVE
    refused(
        NotApprover, lambda: accepted(offered, delegations=["delegations/d0"], under=policy(forbid_delegation=True))
    )


def test_a_delegate_of_the_waiting_step_is_needed() -> None:
    refused(NotApprover, lambda: approve(pending(TWO_STEPS), under=TWO_STEPS, by=in_place_of(dave(), carol())))


def test_a_delegate_after_an_escalation_stands_for_who_it_lets_in() -> None:
    by = in_place_of(dave(), carol())

    refused(NotApprover, lambda: approve(pending(ESCALATING), under=ESCALATING, by=by, at=NOON + HOUR - TICK))
    assert approve(pending(ESCALATING), under=ESCALATING, by=by, at=NOON + HOUR).reviews[0].escalated


def test_a_delegate_sees_denies_and_revokes_what_the_delegator_could() -> None:
    by = in_place_of(dave(), bob())

    assert approval.is_visible(pending(), policy(), by)
    assert approval.is_reviewable(pending(), policy=policy(), by=by, now=NOON)
    assert not approval.is_reviewable(pending(by=bob()), policy=policy(), by=by, now=NOON)
    assert revoke(approved(), by=by).end
    denied, event = approval.deny(pending(), policy=policy(), by=by, comment="", now=NOON)
    assert (denied.state(NOON), event.delegation) == (GrantState.DENIED, "delegations/d0")


def test_denials_by_one_right_count_once() -> None:
    under = policy(steps=(replace(step("owners"), denials_needed=2),))
    first = approval.deny(pending(under), policy=under, by=bob(), comment="", now=NOON)[0]

    refused(
        AlreadyReviewed,
        lambda: approval.deny(first, policy=under, by=in_place_of(dave(), bob()), comment="", now=NOON),
    )


def test_a_delegates_offer_is_one_by_the_delegators_right() -> None:
    offered = countered(pending(**WIDE), by=in_place_of(dave(), bob()), duration=HOUR)
    of_dave = policy(steps=(step(principals=(DAVE,)),))

    grant = accepted(offered, delegations=["delegations/d0"])

    assert (grant.reviews[0].reviewer, grant.reviews[0].on_behalf_of) == (DAVE, BOB)
    refused(NotApprover, lambda: accepted(offered, under=of_dave, delegations=["delegations/d0"]))


def test_a_delegates_offer_ends_with_the_delegation() -> None:
    offered = countered(pending(**WIDE), by=in_place_of(dave(), bob()), duration=HOUR)

    refused(NotApprover, lambda: accepted(offered))
    refused(NotApprover, lambda: accepted(offered, delegations=["delegations/d1"]))


def test_a_reviewer_gives_and_offers_no_duration_that_the_policy_does_not_give() -> None:
    under = policy(min_duration=HOUR)
    asked = pending(under, **WIDE)

    for act in (edited, countered):
        assert fault(lambda act=act: act(asked, under=under, duration=HOUR - TICK)) == "duration"
        assert act(asked, under=under, duration=HOUR)
    assert edited(asked, under=policy(min_duration=3 * HOUR), actions=("read",)).duration == 2 * HOUR


# More time


def more_pending(under: Policy | None = None, *, at: Any = NOON, more: timedelta = HOUR) -> Grant:
    return extension(approved(), more, under=under, at=at)


def test_access_runs_on_while_more_time_is_asked_for() -> None:
    grant = more_pending()

    assert grant.state(NOON + HOUR - TICK) is GrantState.ACTIVE
    assert grant.state(NOON + HOUR) is GrantState.EXPIRED
    assert grant.extension_state(NOON) is ExtensionState.PENDING


def test_the_event_of_a_request_for_more_time_says_how_much_and_why() -> None:
    why = Justification(text="not done", ticket="OPS-8")
    wanted = more_time.with_extension(
        approved(),
        more_time.MoreTime(duration=HOUR / 2, justification=why),
        policy=extending(),
        by=alice(),
        now=NOON + TICK,
    )

    _, event = approval.open_extension(wanted, policy=extending(), by=alice(), now=NOON + TICK)

    assert (event.type, event.message, event.duration) == (
        EventType.EXTENSION_REQUESTED,
        "[OPS-8] not done",
        HOUR / 2,
    )
    assert (event.decision, event.groups) == ("ACTIVE", ("engineering",))


def test_more_time_follows_without_a_gap() -> None:
    before = more_pending()

    grant, event = approval.approve(before, policy=extending(), by=bob(), comment="go on", now=NOON + HOUR - TICK)

    assert (grant.starts_at, grant.expires_at) == (NOON, NOON + 2 * HOUR)
    assert (grant.duration, grant.extension_count) == (2 * HOUR, 1)
    assert grant.extension_state(NOON + HOUR) is ExtensionState.APPROVED
    assert all(grant.state(NOON + HOUR + off) is GrantState.ACTIVE for off in (-TICK, timedelta(), TICK))
    assert (event.type, event.duration, event.message) == (EventType.EXTENSION_APPROVED, 2 * HOUR, "go on")


def test_more_time_for_access_that_has_not_started_is_added_to_it() -> None:
    scheduled = extension(approved(start_at=NOON + HOUR))

    assert approve(scheduled, under=extending()).expires_at == NOON + 3 * HOUR


def test_without_steps_more_time_is_given_at_once() -> None:
    under = extending(steps=())
    grant = extension(approved(), under=under, at=NOON + HOUR / 2)

    assert (grant.extension_state(NOON), grant.expires_at) == (ExtensionState.APPROVED, NOON + 2 * HOUR)


def test_the_approvals_of_the_request_do_not_count_for_more_time() -> None:
    under = extending(steps=(step("owners", needed=2),))
    given = approve(approve(pending(under), under=under), under=under, by=erin())
    asked = extension(given, under=under)

    first = approve(asked, under=under, by=bob())

    assert asked.extension_state(NOON) is ExtensionState.PENDING
    assert (first.extension_state(NOON), first.expires_at) == (ExtensionState.PENDING, NOON + HOUR)
    assert approve(first, under=under, by=erin()).expires_at == NOON + 2 * HOUR
    assert [review.round for review in first.reviews] == [0, 0, 1]


def test_the_approvals_of_an_earlier_extension_do_not_count_for_the_next() -> None:
    first = approve(more_pending(), under=extending())

    second = extension(first)

    assert (second.round, second.extension_state(NOON)) == (2, ExtensionState.PENDING)
    assert second.expires_at == NOON + 2 * HOUR
    assert approve(second, under=extending()).expires_at == NOON + 3 * HOUR


def test_one_principal_counts_once_for_more_time_too() -> None:
    under = extending(steps=(step("owners", needed=2),))
    first = approve(extension(approved(), under=under), under=under)

    refused(AlreadyReviewed, lambda: approve(first, under=under))


def test_the_requester_does_not_approve_more_time() -> None:
    grant = extension(approve(pending(by=bob()), by=erin()), by=bob())

    refused(SelfApproval, lambda: approve(grant, under=extending(), by=bob()))


def test_an_approver_gives_less_time_than_asked_for() -> None:
    grant = edited(more_pending(), under=extending(), duration=MINUTE)

    assert grant.expires_at == NOON + HOUR + MINUTE
    assert grant.reviews[-1].terms is not None
    assert grant.reviews[-1].terms.duration == MINUTE
    assert grant.extension is not None
    assert (grant.extension.requested_duration, grant.extension.duration) == (HOUR, MINUTE)


def test_more_time_given_as_asked_keeps_one_version() -> None:
    grant = edited(more_pending(), under=extending(), duration=HOUR)

    assert grant.extension is not None
    assert (grant.extension.requested_duration, grant.reviews[-1].terms) == (None, None)


def test_an_approver_gives_no_more_time_than_asked_for() -> None:
    assert edited(more_pending(), under=extending(), duration=HOUR).expires_at == NOON + 2 * HOUR
    assert fault(lambda: edited(more_pending(), under=extending(), duration=HOUR + TICK)) == "duration"
    assert fault(lambda: edited(more_pending(), under=extending(), duration=timedelta())) == "duration"


@pytest.mark.parametrize(
    "edits", [{"resources": ("database/orders/eu",)}, {"actions": ("read",)}, {"start_at": NOON + HOUR}]
)
def test_an_approval_of_more_time_changes_nothing_else(edits: dict[str, Any]) -> None:
    assert fault(lambda: edited(more_pending(), under=extending(), **edits)) == "duration"


def test_more_time_is_not_bargained_for() -> None:
    refused(WrongState, lambda: countered(more_pending(), under=extending(), duration=MINUTE))


def test_a_denial_of_more_time_leaves_the_access() -> None:
    denied, event = approval.deny(more_pending(), policy=extending(), by=bob(), comment="no", now=NOON)

    assert (denied.state(NOON), denied.extension_state(NOON)) == (GrantState.ACTIVE, ExtensionState.DENIED)
    assert (denied.expires_at, denied.extension_count) == (NOON + HOUR, 0)
    assert (event.type, event.decision) == (EventType.EXTENSION_DENIED, "ACTIVE")
    refused(WrongState, lambda: approve(denied, under=extending(), by=erin()))


def test_more_time_takes_as_many_denials_as_a_request() -> None:
    under = extending(steps=(replace(step("owners"), denials_needed=2),))
    asked = extension(approved(), under=under)

    first = approval.deny(asked, policy=under, by=bob(), comment="", now=NOON)[0]
    second = approval.deny(first, policy=under, by=erin(), comment="", now=NOON)[0]

    assert (first.extension_state(NOON), second.extension_state(NOON)) == (
        ExtensionState.PENDING,
        ExtensionState.DENIED,
    )


def test_a_request_for_more_time_is_withdrawn_by_who_asked() -> None:
    grant, event = approval.withdraw(more_pending(), by=alice(), comment="done", now=NOON)

    assert (grant.state(NOON), grant.extension_state(NOON)) == (GrantState.ACTIVE, ExtensionState.WITHDRAWN)
    assert (event.type, event.decision, event.message) == (EventType.EXTENSION_WITHDRAWN, "ACTIVE", "done")
    refused(NotYours, lambda: withdraw(more_pending(), by=bob()))
    refused(WrongState, lambda: withdraw(grant))


def test_a_request_for_more_time_lapses_exactly_when_the_access_ends() -> None:
    grant = more_pending()

    assert approve(grant, under=extending(), at=NOON + HOUR - TICK).extension_count == 1
    assert grant.extension_state(NOON + HOUR) is ExtensionState.LAPSED
    refused(WrongState, lambda: approve(grant, under=extending(), at=NOON + HOUR))
    refused(WrongState, lambda: withdraw(grant, at=NOON + HOUR))


def test_a_request_for_more_time_lapses_with_its_own_deadline() -> None:
    under = extending(request_ttl=MINUTE)
    grant = extension(approved(), under=under)

    assert grant.extension_state(NOON + MINUTE - TICK) is ExtensionState.PENDING
    assert grant.extension_state(NOON + MINUTE) is ExtensionState.LAPSED
    refused(WrongState, lambda: approve(grant, under=under, at=NOON + MINUTE))


def test_a_request_for_more_time_lapses_with_its_step() -> None:
    under = extending(steps=LAPSING.steps, max_duration=4 * HOUR)
    grant = extension(approved(ttl=4 * HOUR), under=extending(most=8 * HOUR, steps=LAPSING.steps), at=NOON + MINUTE)

    assert grant.extension_state(NOON + MINUTE + HOUR - TICK) is ExtensionState.PENDING
    refused(WrongState, lambda: approve(grant, under=under, at=NOON + MINUTE + HOUR))


def test_a_request_for_more_time_escalates_too() -> None:
    under = extending(most=8 * HOUR, steps=ESCALATING.steps)
    grant = extension(approved(ttl=4 * HOUR), under=under, at=NOON + MINUTE)
    due = NOON + MINUTE + HOUR

    refused(NotApprover, lambda: approve(grant, under=under, by=carol(), at=due - TICK))
    assert approve(grant, under=under, by=carol(), at=due).expires_at == NOON + 5 * HOUR


def test_a_lapse_of_a_request_for_more_time_is_recorded_once() -> None:
    grant = more_pending()

    lapsed, event = approval.lapse_extension(grant, now=NOON + HOUR)

    assert lapsed.extension is not None
    assert lapsed.extension.decided is ExtensionState.LAPSED
    assert (event.type, event.message) == (EventType.EXTENSION_LAPSED, "nobody decided in time")
    refused(WrongState, lambda: approval.lapse_extension(grant, now=NOON + HOUR - TICK))
    refused(WrongState, lambda: approval.lapse_extension(approved(), now=NOON + HOUR))


def test_a_request_for_more_time_ends_with_its_grant() -> None:
    over = revoke(more_pending())

    assert over.extension_state(NOON) is ExtensionState.LAPSED
    refused(WrongState, lambda: approve(over, under=extending()))


# The order of refusals


@pytest.mark.parametrize(
    ("fact", "grant", "by"),
    [
        (SelfApproval, pending(by=bob()), in_place_of(bob(), erin())),
        (SelfApproval, withdraw(pending(by=bob()), by=bob()), bob()),
        (NotApprover, withdraw(pending()), dave()),
        (SelfApproval, withdraw(pending(by=bob()), by=bob()), in_place_of(dave(), bob())),
        (WrongState, withdraw(approve(pending(TWO_OF_OWNERS), under=TWO_OF_OWNERS)), bob()),
        (AlreadyReviewed, approve(pending(TWO_OF_OWNERS), under=TWO_OF_OWNERS), bob()),
    ],
)
def test_who_may_comes_before_what_is(fact: type[JitError], grant: Grant, by: Caller) -> None:
    under = replace(TWO_OF_OWNERS, review_comment=CommentRule(required_to_approve=True))

    refused(fact, lambda: approve(grant, under=under, by=by))


# What a decision names


def test_a_decision_on_the_first_request_never_lands_on_more_time() -> None:
    """Seen: bob's late yes to ten minutes became a yes to nine days more, which he had never seen."""
    error = refused(InvalidField, lambda: approval.demand_shown(more_pending(), extension_round=0, etag="", now=NOON))

    assert error.message == (
        "extension_round: is required, or the etag that was read: request 1 for more time of grants/g7 waits"
    )


def test_a_decision_on_more_time_is_on_the_round_that_was_shown() -> None:
    again = extension(withdraw(more_pending()), under=extending())

    approval.demand_shown(again, extension_round=2, etag="", now=NOON)
    error = refused(StaleEtag, lambda: approval.demand_shown(again, extension_round=1, etag="", now=NOON))

    assert error.message == (
        "extension_round is 1, and what waits for a decision at grants/g7 is request 2 for more time"
    )
    assert error.metadata == {"etag": etag("grants/g7", again.revision)}


def test_a_decision_on_more_time_never_lands_on_the_first_request() -> None:
    error = refused(StaleEtag, lambda: approval.demand_shown(pending(), extension_round=1, etag="", now=NOON))

    assert error.message == "extension_round is 1, and what waits for a decision at grants/g7 is the first request"
    approval.demand_shown(pending(), extension_round=0, etag="", now=NOON)


def test_the_etag_that_was_read_names_all_of_the_grant() -> None:
    approval.demand_shown(more_pending(), extension_round=0, etag="e", now=NOON)
    refused(StaleEtag, lambda: approval.demand_shown(more_pending(), extension_round=2, etag="e", now=NOON))


# Facts that no transition leaves behind


def test_a_grant_without_an_extension_gets_none() -> None:
    for act in (
        lambda: approval.open_extension(approved(), policy=extending(), by=alice(), now=NOON),
        lambda: approval._close_extension(approved(), ExtensionState.DENIED),
    ):
        with pytest.raises(AssertionError, match="no extension was asked for"):
            act()


def test_an_accepted_offer_of_less_gives_that_and_no_more() -> None:
    """Else whoever takes less would have what was refused to it."""
    offered = countered(pending(**WIDE), resources=("database/orders/eu",), actions=("read",))

    grant = accepted(offered)

    assert (grant.resources, grant.actions, grant.duration) == (("database/orders/eu",), ("read",), 2 * HOUR)


def test_a_step_escalates_to_the_rights_of_named_people_too() -> None:
    under = policy(steps=(replace(ESCALATES, escalate_to=PrincipalSet(principals=(CAROL,))),))

    assert approve(pending(under), under=under, by=caller(CAROL), at=NOON + HOUR).reviews[0].escalated
    refused(NotApprover, lambda: approve(pending(under), under=under, by=caller(DAVE), at=NOON + HOUR))


def test_a_request_whose_step_has_no_clock_is_never_due() -> None:
    assert quorum.step_due_at(replace(pending(ESCALATING), step_since=None)) is None


def test_the_current_step_is_the_first_that_is_needed() -> None:
    assert quorum.current_step(replace(pending(TWO_STEPS), skipped=frozenset({0}))) == 1


def test_a_malformed_action_of_an_edit_is_named() -> None:
    assert fault(lambda: edited(pending(), actions=("no spaces",))) == "actions[0]"
