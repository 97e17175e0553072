"""The life of a grant: states by the clock, who may move it, and what each move leaves behind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from jit_service.domain.audit.event import SERVICE, EventType
from jit_service.domain.caller import Caller
from jit_service.domain.errors import (
    AlreadyReviewed,
    InvalidField,
    JitError,
    NotApprover,
    NotYours,
    SelfApproval,
    WrongState,
)
from jit_service.domain.grants import approval, quorum, request
from jit_service.domain.grants import grant as rules
from jit_service.domain.grants.grant import Grant, GrantState, Justification, ReviewDecision
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
    admin,
    alice,
    approve,
    approved,
    auditor,
    bob,
    caller,
    carol,
    dave,
    deny,
    erin,
    extending,
    extension,
    pending,
    policy,
    release,
    revoke,
    step,
    withdraw,
)

DEADLINE = NOON + 8 * HOUR
"""When a request of NOON under the factories' policy lapses."""

TWO_OF_OWNERS = policy(steps=(step("owners", needed=2),))
TWO_STEPS = policy(steps=(step("owners"), step("security")))
SELF_ALLOWED = policy(allow_self_approval=True, steps=(step("engineering", needed=2),))
FOR_BOT = policy(eligible=replace(policy().eligible, principals=(BOT,)))


def refused(fact: type[JitError], act: Callable[[], object]) -> JitError:
    with pytest.raises(fact) as raised:
        act()
    return raised.value


# States by the clock


def test_a_grant_ends_exactly_at_its_expiry() -> None:
    grant = approved(at=NOON, ttl=HOUR)

    assert grant.state(NOON + HOUR - TICK) is GrantState.ACTIVE
    assert grant.state(NOON + HOUR) is GrantState.EXPIRED


def test_a_scheduled_grant_starts_exactly_at_its_start() -> None:
    grant = approved(at=NOON, start_at=NOON + HOUR)

    assert grant.state(NOON + HOUR - TICK) is GrantState.SCHEDULED
    assert grant.state(NOON + HOUR) is GrantState.ACTIVE


def test_a_request_lapses_exactly_at_its_deadline() -> None:
    grant = pending(at=NOON)

    assert grant.state(DEADLINE - TICK) is GrantState.PENDING
    assert grant.state(DEADLINE) is GrantState.LAPSED


def test_an_approved_grant_outlives_the_deadline_of_its_request() -> None:
    grant = approve(pending(at=NOON, duration=2 * HOUR), at=DEADLINE - TICK)

    assert grant.state(DEADLINE) is GrantState.ACTIVE


def test_the_clock_of_the_access_starts_at_approval_not_at_the_request() -> None:
    grant = approve(pending(at=NOON, duration=HOUR), at=NOON + 3 * HOUR)

    assert (grant.starts_at, grant.expires_at) == (NOON + 3 * HOUR, NOON + 4 * HOUR)
    assert grant.approved_at == NOON + 3 * HOUR


def test_the_clock_of_the_access_starts_at_the_scheduled_start_where_that_is_later() -> None:
    grant = approve(pending(at=NOON, duration=HOUR, start_at=NOON + 5 * HOUR), at=NOON + 3 * HOUR)

    assert (grant.starts_at, grant.expires_at) == (NOON + 5 * HOUR, NOON + 6 * HOUR)
    assert grant.approved_at == NOON + 3 * HOUR


def test_a_start_that_has_passed_by_the_approval_gives_the_whole_duration_from_then() -> None:
    grant = approve(pending(at=NOON, duration=HOUR, start_at=NOON + HOUR), at=NOON + 2 * HOUR)

    assert (grant.starts_at, grant.expires_at) == (NOON + 2 * HOUR, NOON + 3 * HOUR)


def test_somebodys_end_stays_what_it_was_whatever_the_clock_says() -> None:
    ended = {
        GrantState.REVOKED: revoke(approved()),
        GrantState.RELEASED: release(approved()),
        GrantState.DENIED: deny(pending()),
        GrantState.WITHDRAWN: withdraw(pending()),
    }

    assert {state: grant.state(NOON + 1000 * HOUR) for state, grant in ended.items()} == {
        state: state for state in ended
    }


def test_a_grant_with_half_of_its_instants_is_no_access() -> None:
    """No transition leads there; a store that lost half a grant must not give the whole access."""
    halves = [replace(approved(), starts_at=None), replace(approved(), expires_at=None)]

    assert [half.state(NOON) for half in halves] == [GrantState.PENDING] * 2
    assert [half.state(DEADLINE) for half in halves] == [GrantState.LAPSED] * 2
    assert [rules.run_out_event(half, now=DEADLINE).type for half in halves] == [EventType.GRANT_LAPSED] * 2


# Requests


def test_without_steps_a_request_is_active_at_once() -> None:
    grant = pending(policy(steps=()), at=NOON, duration=HOUR)

    assert grant.state(NOON) is GrantState.ACTIVE
    assert (grant.approved_at, grant.starts_at, grant.expires_at) == (NOON, NOON, NOON + HOUR)


def test_without_steps_a_request_with_a_later_start_is_scheduled() -> None:
    grant = pending(policy(steps=()), at=NOON, start_at=NOON + TICK)

    assert grant.state(NOON) is GrantState.SCHEDULED
    assert grant.state(NOON + TICK) is GrantState.ACTIVE


def test_with_steps_a_request_gives_nothing_before_its_approval() -> None:
    grant = pending()

    assert grant.state(NOON) is GrantState.PENDING
    assert (grant.approved_at, grant.starts_at, grant.expires_at) == (None, None, None)


def test_the_event_of_a_request_says_who_asks_for_what_and_why() -> None:
    judged = replace(pending(), justification=Justification(text="fix the totals", ticket="OPS-7"))

    grant, event = approval.open_request(judged, by=alice(), now=NOON)

    assert grant == judged
    assert (event.type, event.at, event.principal, event.origin) == (
        EventType.GRANT_REQUESTED,
        NOON,
        ALICE,
        alice().origin,
    )
    assert (event.subject, event.resources, event.actions) == (ALICE, ("database/orders/eu",), ("read",))
    assert (event.grant, event.policy, event.policy_revision) == ("grants/g7", "policies/orders", 3)
    assert (event.decision, event.message, event.duration) == ("PENDING", "[OPS-7] fix the totals", HOUR)
    assert event.held is None


def test_the_event_of_a_request_without_a_ticket_has_the_text_alone() -> None:
    judged = replace(pending(), justification=Justification(text="fix the totals"))

    assert approval.open_request(judged, by=alice(), now=NOON)[1].message == "fix the totals"


def test_the_event_of_a_request_approved_at_once_says_so() -> None:
    judged = replace(pending(), steps=())

    assert approval.open_request(judged, by=alice(), now=NOON)[1].decision == "ACTIVE"


# Approvals


def test_an_approval_by_an_approver_starts_the_access() -> None:
    grant, event = approval.approve(pending(), policy=policy(), by=bob(), comment="fine", now=NOON + TICK)

    assert grant.state(NOON + TICK) is GrantState.ACTIVE
    assert (event.type, event.at, event.principal) == (EventType.GRANT_APPROVED, NOON + TICK, BOB)
    assert (event.decision, event.message, event.grant) == ("ACTIVE", "fine", "grants/g7")


def test_an_approval_is_recorded_with_who_gave_it_and_what_proved_that_it_may() -> None:
    grant = approve(pending(TWO_STEPS), under=TWO_STEPS, at=NOON + TICK, comment="fine")

    (review,) = grant.reviews
    assert (review.reviewer, review.groups) == (BOB, frozenset({"engineering", "owners"}))
    assert (review.decision, review.step) == (ReviewDecision.APPROVED, 0)
    assert (review.comment, review.at) == ("fine", NOON + TICK)


def test_an_approval_at_the_deadline_is_too_late() -> None:
    grant = pending(at=NOON)

    assert approve(grant, at=DEADLINE - TICK).state(DEADLINE - TICK) is GrantState.ACTIVE
    refused(WrongState, lambda: approve(grant, at=DEADLINE))


def test_a_request_stays_pending_until_the_last_approval_needed() -> None:
    first = approve(pending(TWO_OF_OWNERS), under=TWO_OF_OWNERS, by=bob())
    second = approve(first, under=TWO_OF_OWNERS, by=erin())

    assert first.state(NOON) is GrantState.PENDING
    assert second.state(NOON) is GrantState.ACTIVE


def test_one_principal_counts_once() -> None:
    first = approve(pending(TWO_OF_OWNERS), under=TWO_OF_OWNERS)

    refused(AlreadyReviewed, lambda: approve(first, under=TWO_OF_OWNERS))


def test_one_principal_counts_once_in_whatever_letter_case() -> None:
    first = approve(pending(TWO_OF_OWNERS), under=TWO_OF_OWNERS)

    refused(AlreadyReviewed, lambda: approve(first, under=TWO_OF_OWNERS, by=caller("user:BOB@example.com", "owners")))


def test_one_principal_in_two_groups_fills_one_slot() -> None:
    under = policy(steps=(step("owners", "security", needed=2),))
    in_both = caller(BOB, "owners", "security")

    grant = approve(pending(under), under=under, by=in_both)

    assert quorum.approvals_missing(under.steps, grant.reviews) == [1]


def test_one_principal_who_approves_in_two_steps_counts_in_one() -> None:
    first = approve(pending(TWO_STEPS), under=TWO_STEPS, by=bob())

    refused(AlreadyReviewed, lambda: approve(first, under=TWO_STEPS, by=caller(BOB, "owners", "security")))


def test_reviews_of_one_principal_count_once_even_where_there_are_two() -> None:
    """A lost race could leave two rows; the store's UNIQUE constraint is the first guard, this the second."""
    (review,) = approve(pending(TWO_OF_OWNERS), under=TWO_OF_OWNERS).reviews
    again = replace(review, reviewer="user:Bob@example.com")

    assert quorum.approvals_missing(TWO_OF_OWNERS.steps, [review, review]) == [1]
    assert quorum.approvals_missing(TWO_OF_OWNERS.steps, [review, again]) == [1]


def test_a_review_by_the_principal_in_other_letter_case_counts_once() -> None:
    under = policy(steps=(step(principals=(BOB, "user:Bob@example.com"), needed=2),))
    (review,) = approve(pending(under), under=under).reviews

    assert quorum.approvals_missing(under.steps, [review, replace(review, reviewer="user:Bob@example.com")]) == [1]


def test_more_approvals_than_needed_leave_none_missing() -> None:
    grant = approve(approve(pending(TWO_OF_OWNERS), under=TWO_OF_OWNERS), under=TWO_OF_OWNERS, by=erin())

    assert quorum.approvals_missing((step("owners"),), grant.reviews) == [0]


def test_steps_are_decided_in_their_order() -> None:
    grant = pending(TWO_STEPS)

    refused(NotApprover, lambda: approve(grant, under=TWO_STEPS, by=carol()))
    first = approve(grant, under=TWO_STEPS, by=bob())
    assert first.state(NOON) is GrantState.PENDING
    refused(NotApprover, lambda: approve(first, under=TWO_STEPS, by=erin()))
    assert approve(first, under=TWO_STEPS, by=carol()).state(NOON) is GrantState.ACTIVE


def test_an_approval_counts_for_the_step_it_was_given_in() -> None:
    first = approve(pending(TWO_STEPS), under=TWO_STEPS, by=caller(BOB, "owners", "security"))

    assert quorum.approvals_missing(TWO_STEPS.steps, first.reviews) == [0, 1]


def test_who_is_no_approver_cannot_approve() -> None:
    refused(NotApprover, lambda: approve(pending(), by=dave()))
    refused(NotApprover, lambda: approve(pending(), by=admin()))


def test_an_approver_named_as_a_principal_approves() -> None:
    under = policy(steps=(step(principals=(CAROL,)),))

    assert approve(pending(under), under=under, by=carol()).state(NOON) is GrantState.ACTIVE


def test_approvers_names_compare_letter_by_letter() -> None:
    under = policy(steps=(step("Owners", principals=("user:Carol@example.com",)),))

    refused(NotApprover, lambda: approve(pending(under), under=under, by=carol()))
    refused(NotApprover, lambda: approve(pending(under), under=under, by=bob()))


# Self-approval


def test_requester_cannot_approve_own_request() -> None:
    refused(SelfApproval, lambda: approve(pending(by=bob()), by=bob()))


def test_requester_cannot_approve_own_request_in_other_letter_case() -> None:
    refused(SelfApproval, lambda: approve(pending(by=bob()), by=caller("user:BoB@Example.com", "owners")))


def test_requester_cannot_approve_own_request_in_compatibility_letters() -> None:
    refused(SelfApproval, lambda: approve(pending(by=bob()), by=caller("user:bob@examplｅ.com", "owners")))


def test_requester_cannot_deny_own_request() -> None:
    refused(SelfApproval, lambda: deny(pending(by=bob()), by=bob()))


def test_who_would_hold_the_access_cannot_approve_it() -> None:
    grant = pending(FOR_BOT, subject=BOT)

    refused(SelfApproval, lambda: approve(grant, under=FOR_BOT, by=caller(BOT, "owners")))
    refused(SelfApproval, lambda: approve(grant, under=FOR_BOT, by=caller(ALICE, "owners")))


def test_a_policy_that_allows_it_lets_the_requester_approve_once() -> None:
    first = approve(pending(SELF_ALLOWED), under=SELF_ALLOWED, by=alice())

    assert first.state(NOON) is GrantState.PENDING
    refused(AlreadyReviewed, lambda: approve(first, under=SELF_ALLOWED, by=alice()))
    assert approve(first, under=SELF_ALLOWED, by=bob()).state(NOON) is GrantState.ACTIVE


def test_self_approval_allowed_makes_nobody_an_approver() -> None:
    under = policy(allow_self_approval=True)

    refused(NotApprover, lambda: approve(pending(under), under=under, by=alice()))


def test_the_requesters_approval_no_longer_counts_once_the_policy_forbids_it() -> None:
    first = approve(pending(SELF_ALLOWED), under=SELF_ALLOWED, by=alice())
    forbidden = replace(SELF_ALLOWED, allow_self_approval=False)

    second = approve(first, under=forbidden, by=bob())
    third = approve(second, under=forbidden, by=caller(CAROL, "engineering"))

    assert second.state(NOON) is GrantState.PENDING
    assert third.state(NOON) is GrantState.ACTIVE


def test_the_requesters_approval_of_a_step_is_asked_for_anew_once_the_policy_forbids_it() -> None:
    under = policy(allow_self_approval=True, steps=(step("engineering"), step("security")))
    first = approve(pending(under), under=under, by=alice())
    forbidden = replace(under, allow_self_approval=False)

    refused(NotApprover, lambda: approve(first, under=forbidden, by=carol()))


# Approvals while the policy changes


def test_an_approval_by_a_removed_approver_no_longer_counts() -> None:
    under = policy(steps=(step("owners", principals=(CAROL,), needed=2),))
    first = approve(pending(under), under=under, by=carol())
    without_carol = policy(steps=(step("owners", needed=2),))

    second = approve(first, under=without_carol, by=bob())

    assert second.state(NOON) is GrantState.PENDING
    assert approve(second, under=without_carol, by=erin()).state(NOON) is GrantState.ACTIVE


def test_an_approval_counts_by_the_groups_that_were_proved_when_it_was_given() -> None:
    first = approve(pending(TWO_OF_OWNERS), under=TWO_OF_OWNERS, by=bob())

    assert approve(first, under=TWO_OF_OWNERS, by=erin()).state(NOON) is GrantState.ACTIVE
    assert quorum.approvals_missing((step("security", needed=2),), first.reviews) == [2]


def test_an_approval_of_a_step_that_is_gone_counts_nowhere() -> None:
    under = policy(steps=(step("security"), step("owners")))
    grant = approve(approve(pending(under), under=under, by=carol()), under=under, by=bob())

    assert quorum.approvals_missing((step("owners"),), grant.reviews) == [1]


def test_more_approvals_needed_since_the_request_must_all_be_given() -> None:
    grant = pending(policy())

    first = approve(grant, under=TWO_OF_OWNERS, by=bob())

    assert first.state(NOON) is GrantState.PENDING
    assert approve(first, under=TWO_OF_OWNERS, by=erin()).state(NOON) is GrantState.ACTIVE


def test_fewer_approvals_needed_than_given_still_take_one_more_to_start() -> None:
    """Nothing starts by itself when a policy changes: only an approval starts access."""
    first = approve(pending(TWO_OF_OWNERS), under=TWO_OF_OWNERS, by=bob())

    assert first.state(NOON + HOUR) is GrantState.PENDING
    assert approve(first, under=policy(), by=erin(), at=NOON + HOUR).state(NOON + HOUR) is GrantState.ACTIVE


def test_the_last_step_decides_where_none_is_missing() -> None:
    under = policy(steps=(step("owners"), step("security", needed=2)))
    first = approve(approve(pending(under), under=under, by=bob()), under=under, by=carol())

    refused(NotApprover, lambda: approve(first, under=TWO_STEPS, by=erin()))
    done = approve(first, under=TWO_STEPS, by=caller(ERIN, "security"))
    assert (done.state(NOON), done.reviews[-1].step) == (GrantState.ACTIVE, 1)


def test_a_policy_without_steps_any_more_has_no_approvers() -> None:
    refused(NotApprover, lambda: approve(pending(), under=policy(steps=())))


def test_a_grant_keeps_the_steps_and_revision_of_the_policy_it_was_last_reviewed_by() -> None:
    now = policy(steps=(step("owners", needed=2),), revision=9)

    grant, event = approval.approve(pending(), policy=now, by=bob(), comment="", now=NOON)

    assert (grant.steps, grant.policy_revision) == (now.steps, 9)
    assert event.policy_revision == 9


# Denials


def test_a_denial_ends_the_request() -> None:
    grant, event = approval.deny(pending(), policy=policy(), by=bob(), comment="no need", now=NOON + TICK)

    assert grant.state(NOON + TICK) is GrantState.DENIED
    assert grant.end is not None
    assert (grant.end.at, grant.end.by, grant.end.comment) == (NOON + TICK, BOB, "no need")
    assert (grant.reviews[-1].decision, grant.reviews[-1].reviewer) == (ReviewDecision.DENIED, BOB)
    assert (event.type, event.principal, event.decision, event.message) == (
        EventType.GRANT_DENIED,
        BOB,
        "DENIED",
        "no need",
    )


def test_a_denial_at_the_deadline_is_too_late() -> None:
    assert deny(pending(), at=DEADLINE - TICK).state(DEADLINE - TICK) is GrantState.DENIED
    refused(WrongState, lambda: deny(pending(), at=DEADLINE))


def test_who_has_approved_cannot_deny() -> None:
    first = approve(pending(TWO_OF_OWNERS), under=TWO_OF_OWNERS)

    refused(
        AlreadyReviewed,
        lambda: approval.deny(first, policy=TWO_OF_OWNERS, by=bob(), comment="changed my mind", now=NOON),
    )


def test_who_is_no_approver_cannot_deny() -> None:
    refused(NotApprover, lambda: deny(pending(), by=dave()))


def test_a_denial_is_no_approval() -> None:
    denied = deny(pending())

    assert quorum.approvals_missing(policy().steps, denied.reviews) == [1]


# Endings by those who asked, hold, or review


def test_the_requester_withdraws() -> None:
    grant, event = approval.withdraw(pending(), by=alice(), comment="solved", now=NOON + TICK)

    assert grant.state(NOON + TICK) is GrantState.WITHDRAWN
    assert grant.end is not None
    assert (grant.end.at, grant.end.by, grant.end.comment) == (NOON + TICK, ALICE, "solved")
    assert (event.type, event.principal, event.decision, event.message) == (
        EventType.GRANT_WITHDRAWN,
        ALICE,
        "WITHDRAWN",
        "solved",
    )


def test_who_would_hold_the_access_withdraws() -> None:
    assert withdraw(pending(FOR_BOT, subject=BOT), by=caller(BOT)).state(NOON) is GrantState.WITHDRAWN


def test_nobody_else_withdraws() -> None:
    refused(NotYours, lambda: withdraw(pending(), by=bob()))
    refused(NotYours, lambda: withdraw(pending(), by=admin()))


def test_a_name_in_other_letter_case_is_somebody_else_where_it_would_permit() -> None:
    """Names compare byte for byte (I16). Folding may only refuse, as in self-approval, never permit."""
    lookalike = caller("user:Alice@example.com")

    refused(NotYours, lambda: withdraw(pending(), by=lookalike))
    refused(NotYours, lambda: release(approved(), by=lookalike))
    refused(NotApprover, lambda: revoke(approved(), by=lookalike))
    assert not approval.is_visible(approved(), policy(), lookalike)


def test_a_withdrawal_at_the_deadline_is_too_late() -> None:
    assert withdraw(pending(), at=DEADLINE - TICK).state(DEADLINE - TICK) is GrantState.WITHDRAWN
    refused(WrongState, lambda: withdraw(pending(), at=DEADLINE))


def test_the_holder_releases() -> None:
    grant, event = rules.release(approved(), by=alice(), comment="done", now=NOON + TICK)

    assert grant.state(NOON + TICK) is GrantState.RELEASED
    assert grant.end is not None
    assert (grant.end.at, grant.end.by, grant.end.comment) == (NOON + TICK, ALICE, "done")
    assert (event.type, event.principal, event.decision, event.held) == (
        EventType.GRANT_RELEASED,
        ALICE,
        "RELEASED",
        TICK,
    )
    assert (event.at, event.message) == (NOON + TICK, "done")


def test_the_requester_does_not_release_what_another_holds() -> None:
    grant = approve(pending(FOR_BOT, subject=BOT), under=FOR_BOT)

    refused(NotYours, lambda: release(grant, by=alice()))
    assert release(grant, by=caller(BOT)).state(NOON) is GrantState.RELEASED


def test_a_release_at_the_expiry_is_too_late() -> None:
    assert release(approved(), at=NOON + HOUR - TICK).state(NOON + HOUR) is GrantState.RELEASED
    refused(WrongState, lambda: release(approved(), at=NOON + HOUR))


def test_an_approver_revokes() -> None:
    grant, event = approval.revoke(approved(), policy=policy(), by=erin(), comment="incident", now=NOON + HOUR / 2)

    assert grant.state(NOON + HOUR / 2) is GrantState.REVOKED
    assert grant.end is not None
    assert (grant.end.at, grant.end.by, grant.end.comment) == (NOON + HOUR / 2, ERIN, "incident")
    assert (event.type, event.principal, event.decision, event.message) == (
        EventType.GRANT_REVOKED,
        ERIN,
        "REVOKED",
        "incident",
    )
    assert event.held == HOUR / 2


@pytest.mark.parametrize("by", [admin(), alice(), bob(), erin()], ids=lambda by: by.principal)
def test_admins_requester_and_reviewers_revoke(by: Caller) -> None:
    assert revoke(approved(), by=by).state(NOON) is GrantState.REVOKED


def test_requester_and_holder_both_revoke_where_they_differ() -> None:
    grant = approve(pending(FOR_BOT, subject=BOT), under=FOR_BOT)

    assert revoke(grant, by=alice()).state(NOON) is GrantState.REVOKED
    assert revoke(grant, by=caller(BOT)).state(NOON) is GrantState.REVOKED


@pytest.mark.parametrize("by", [carol(), dave(), auditor()], ids=lambda by: by.principal)
def test_nobody_else_revokes(by: Caller) -> None:
    refused(NotApprover, lambda: revoke(approved(), by=by))


def test_who_approved_may_revoke_even_when_no_longer_an_approver() -> None:
    without_bob = policy(steps=(step("security"),))

    revoked, _ = approval.revoke(approved(), policy=without_bob, by=caller(BOB), comment="mistake", now=NOON)

    assert revoked.state(NOON) is GrantState.REVOKED


def test_without_its_policy_a_grant_is_revoked_by_its_own_people_only() -> None:
    refused(NotApprover, lambda: approval.revoke(approved(), policy=None, by=erin(), comment="over", now=NOON))
    assert approval.revoke(approved(), policy=None, by=admin(), comment="over", now=NOON)[0].state(NOON) == "REVOKED"


def test_a_revocation_says_why() -> None:
    refused(InvalidField, lambda: revoke(approved(), comment=""))
    refused(InvalidField, lambda: revoke(approved(), comment=" \n\t"))


def test_who_may_not_revoke_learns_nothing_of_the_state_or_the_fields() -> None:
    refused(NotApprover, lambda: revoke(pending(), by=dave(), comment=""))


def test_a_revocation_at_the_expiry_is_too_late() -> None:
    assert revoke(approved(), at=NOON + HOUR - TICK).state(NOON + HOUR) is GrantState.REVOKED
    refused(WrongState, lambda: revoke(approved(), at=NOON + HOUR))


def test_scheduled_access_can_be_revoked_and_released() -> None:
    scheduled = approved(start_at=NOON + HOUR)

    assert revoke(scheduled).state(NOON + HOUR) is GrantState.REVOKED
    assert release(scheduled).state(NOON + HOUR) is GrantState.RELEASED


# Transitions that are not drawn


STATES = {
    GrantState.PENDING: pending(),
    GrantState.SCHEDULED: approved(start_at=NOON + HOUR),
    GrantState.ACTIVE: approved(),
    GrantState.EXPIRED: approved(at=NOON - HOUR),
    GrantState.REVOKED: revoke(approved()),
    GrantState.RELEASED: release(approved()),
    GrantState.DENIED: deny(pending()),
    GrantState.WITHDRAWN: withdraw(pending()),
    GrantState.LAPSED: pending(at=NOON - 8 * HOUR),
}
ACTS: dict[str, tuple[Callable[[Grant], object], frozenset[GrantState]]] = {
    "approve": (lambda grant: approve(grant, by=erin()), frozenset({GrantState.PENDING})),
    "deny": (lambda grant: deny(grant, by=erin()), frozenset({GrantState.PENDING})),
    "withdraw": (withdraw, frozenset({GrantState.PENDING})),
    "release": (release, frozenset({GrantState.SCHEDULED, GrantState.ACTIVE})),
    "revoke": (revoke, frozenset({GrantState.SCHEDULED, GrantState.ACTIVE})),
    "run_out": (lambda grant: rules.run_out_event(grant, now=NOON), frozenset({GrantState.EXPIRED, GrantState.LAPSED})),
}


def test_the_examples_are_in_the_states_they_stand_for() -> None:
    assert {state: grant.state(NOON) for state, grant in STATES.items()} == {state: state for state in GrantState}


def demand_only_drawn_transitions(act: str, state: GrantState) -> None:
    transition, drawn = ACTS[act]
    if state in drawn:
        transition(STATES[state])
        return
    error = refused(WrongState, lambda: transition(STATES[state]))
    assert error.metadata == {"grant": "grants/g7", "state": state.value}
    assert error.message.startswith(f"grants/g7 is {state}, not ")


@pytest.mark.parametrize("state", GrantState)
@pytest.mark.parametrize("act", ACTS)
def test_only_the_drawn_transitions_happen(act: str, state: GrantState) -> None:
    demand_only_drawn_transitions(act, state)


def test_pending_is_withdrawn_or_denied_not_revoked_or_released() -> None:
    refused(WrongState, lambda: revoke(pending()))
    refused(WrongState, lambda: release(pending()))


def test_access_is_revoked_or_released_not_withdrawn_or_denied() -> None:
    refused(WrongState, lambda: withdraw(approved()))
    refused(WrongState, lambda: deny(approved(), by=erin()))


# What is left behind


def test_held_is_the_time_from_start_to_the_early_end() -> None:
    assert revoke(approved(at=NOON), at=NOON + TICK).held == TICK
    assert release(approved(at=NOON, start_at=NOON + HOUR), at=NOON + HOUR + TICK).held == TICK


def test_what_was_never_usable_was_not_held() -> None:
    assert pending().held is None
    assert deny(pending()).held is None
    assert revoke(approved(at=NOON), at=NOON).held is None
    assert revoke(approved(start_at=NOON + HOUR), at=NOON + HOUR - TICK).held is None


def test_what_nobody_ended_has_no_held_time_of_its_own() -> None:
    assert approved().held is None


def test_the_event_of_an_expiry_says_how_long_it_was_held() -> None:
    grant = approve(pending(at=NOON, duration=HOUR), at=NOON + HOUR)

    event = rules.run_out_event(grant, now=NOON + 5 * HOUR)

    assert (event.type, event.principal, event.decision) == (EventType.GRANT_EXPIRED, SERVICE, "EXPIRED")
    assert (event.held, event.duration, event.at) == (HOUR, HOUR, NOON + 5 * HOUR)
    assert (event.grant, event.message) == ("grants/g7", "its time ran out")


def test_the_event_of_a_lapse_has_no_held_time() -> None:
    event = rules.run_out_event(pending(at=NOON), now=DEADLINE)

    assert (event.type, event.principal, event.decision) == (EventType.GRANT_LAPSED, SERVICE, "LAPSED")
    assert (event.held, event.grant, event.message) == (None, "grants/g7", "nobody decided in time")


def test_time_runs_out_exactly_at_expiry_and_deadline() -> None:
    refused(WrongState, lambda: rules.run_out_event(approved(), now=NOON + HOUR - TICK))
    refused(WrongState, lambda: rules.run_out_event(pending(), now=DEADLINE - TICK))
    assert rules.run_out_event(approved(), now=NOON + HOUR).type is EventType.GRANT_EXPIRED
    assert rules.run_out_event(pending(), now=DEADLINE).type is EventType.GRANT_LAPSED


def test_a_transition_leaves_the_grant_it_started_from_as_it_was() -> None:
    grant = pending()
    before = replace(grant)

    approve(grant)
    deny(grant)
    withdraw(grant)

    assert grant == before


# Limits


MINUTE = HOUR / 60
BY_IDLENESS = policy(idle_timeout=10 * MINUTE, steps=())
BY_ACTIVATION = policy(activation_window=10 * MINUTE, steps=())


def test_access_that_is_not_used_within_its_activation_window_is_over() -> None:
    grant = pending(BY_ACTIVATION)

    assert grant.state(NOON + 10 * MINUTE - TICK) is GrantState.ACTIVE
    assert grant.state(NOON + 10 * MINUTE) is GrantState.EXPIRED


def test_access_that_was_used_once_outlives_its_activation_window() -> None:
    grant = rules.with_use(pending(BY_ACTIVATION), now=NOON + 10 * MINUTE - TICK)

    assert grant.expires_at == NOON + HOUR


def test_an_activation_window_starts_with_the_access() -> None:
    grant = pending(BY_ACTIVATION, start_at=NOON + HOUR)

    assert grant.expires_at == NOON + HOUR + 10 * MINUTE


def test_access_that_is_not_used_for_its_idle_timeout_is_over() -> None:
    grant = pending(BY_IDLENESS)

    assert grant.state(NOON + 10 * MINUTE - TICK) is GrantState.ACTIVE
    assert grant.state(NOON + 10 * MINUTE) is GrantState.EXPIRED


def test_each_use_starts_the_idle_timeout_anew() -> None:
    once = rules.with_use(pending(BY_IDLENESS), now=NOON + 5 * MINUTE)
    twice = rules.with_use(once, now=NOON + 15 * MINUTE - TICK)

    assert (once.expires_at, twice.expires_at) == (NOON + 15 * MINUTE, NOON + 25 * MINUTE - TICK)


def test_limits_never_lengthen_access() -> None:
    longest = policy(idle_timeout=4 * HOUR, activation_window=4 * HOUR, steps=())

    grant = pending(longest)

    assert grant.expires_at == NOON + HOUR
    assert rules.with_use(grant, now=NOON + HOUR - TICK).expires_at == NOON + HOUR


def test_more_time_does_not_undo_the_idle_timeout() -> None:
    grant = extension(pending(BY_IDLENESS), under=extending(idle_timeout=10 * MINUTE, steps=()))

    assert (grant.duration, grant.expires_at) == (2 * HOUR, NOON + 10 * MINUTE)


def test_a_use_is_counted_with_its_instant() -> None:
    grant = rules.with_use(rules.with_use(pending(policy(max_uses=2, steps=())), now=NOON), now=NOON + TICK)

    assert (grant.usage.count, grant.usage.last_at, grant.is_used_up) == (2, NOON + TICK, True)
    assert not rules.with_use(approved(), now=NOON).is_used_up


def test_a_use_does_not_outlive_what_the_access_was_passed_on_from() -> None:
    grant = rules.with_use(pending(BY_IDLENESS), now=NOON, until=NOON + MINUTE)

    assert grant.expires_at == NOON + MINUTE


def test_a_request_asks_for_no_more_uses_than_the_policy_gives() -> None:
    three, unlimited = policy(max_uses=3, steps=()), policy(steps=())

    assert [pending(three, max_uses=uses).limits.max_uses for uses in (0, 2, 3, 4)] == [3, 2, 3, 3]
    assert [pending(unlimited, max_uses=uses).limits.max_uses for uses in (0, 2)] == [0, 2]


def test_limits_are_those_of_the_policy_at_the_approval() -> None:
    grant = pending(max_uses=5)
    stricter = policy(max_uses=2, idle_timeout=MINUTE, activation_window=TICK)

    judged = request.judge_again(grant, policy=stricter, policies=[stricter], now=NOON)

    assert judged.limits == rules.Limits(max_uses=2, idle_timeout=MINUTE, activation_window=TICK)


def test_only_what_has_limits_is_metered() -> None:
    assert not approved().is_metered
    assert all(pending(under).is_metered for under in (BY_IDLENESS, BY_ACTIVATION, policy(max_uses=1)))


def test_the_event_of_an_expiry_says_where_it_was_for_want_of_use() -> None:
    unused, over = pending(BY_IDLENESS), pending(policy(steps=()))

    early, late = (rules.run_out_event(grant, now=NOON + HOUR) for grant in (unused, over))

    assert (early.message, early.held) == ("it was not used in time", 10 * MINUTE)
    assert (late.message, late.held) == ("its time ran out", HOUR)


def test_what_has_not_started_has_no_end() -> None:
    """No transition asks for it."""
    with pytest.raises(AssertionError, match="has not started"):
        rules.with_expiry(pending())
    assert pending().latest_end is None


# Who sees and who could approve


def test_a_grant_is_seen_by_its_people_its_reviewers_auditors_and_admins() -> None:
    grant = pending(FOR_BOT, subject=BOT)

    seen_by = [alice(), caller(BOT), bob(), erin(), admin(), auditor()]

    assert [approval.is_visible(grant, FOR_BOT, by) for by in seen_by] == [True] * 6
    assert [approval.is_visible(grant, FOR_BOT, by) for by in (carol(), dave())] == [False, False]


def test_a_past_reviewer_still_sees_the_grant() -> None:
    assert approval.is_visible(approved(), None, caller(BOB))
    assert not approval.is_visible(approved(), None, erin())


def test_reviewable_is_what_one_could_approve_now() -> None:
    first = approve(pending(TWO_OF_OWNERS), under=TWO_OF_OWNERS, by=bob())

    def could(by: Caller, grant: Grant = first) -> bool:
        return approval.is_reviewable(grant, policy=TWO_OF_OWNERS, by=by, now=NOON)

    assert could(erin())
    assert not could(bob()), "has already"
    assert not could(dave()), "is no approver"
    assert not could(caller(ALICE, "owners")), "asked for it"
    assert not could(erin(), withdraw(first)), "is over"


def test_reviewable_ends_exactly_at_the_deadline() -> None:
    assert approval.is_reviewable(pending(), policy=policy(), by=bob(), now=DEADLINE - TICK)
    assert not approval.is_reviewable(pending(), policy=policy(), by=bob(), now=DEADLINE)


# What a refusal says


def test_refusals_name_the_grant_what_is_and_what_was_needed() -> None:
    grant, first = pending(TWO_STEPS), approve(pending(TWO_OF_OWNERS), under=TWO_OF_OWNERS)

    said = {
        "grants/g7 is PENDING, not SCHEDULED or ACTIVE": refused(WrongState, lambda: revoke(grant)),
        f"grants/g7 was asked for by {ALICE}, not by {BOB}": refused(NotYours, lambda: withdraw(grant, by=bob())),
        f"grants/g7 is held by {ALICE}, not by {BOB}": refused(NotYours, lambda: release(grant, by=bob())),
        f"{DAVE} is not an approver of policies/orders": refused(NotApprover, lambda: approve(grant, by=dave())),
        f"{DAVE} is not an approver of policies/orders, nor an admin or responder": refused(
            NotApprover, lambda: revoke(grant, by=dave())
        ),
        f"grants/g7 waits for step 1 of policies/orders, whose approvers do not have {CAROL}": refused(
            NotApprover, lambda: approve(grant, under=TWO_STEPS, by=carol())
        ),
        f"{ALICE} asked for or would hold grants/g7, so may not review it": refused(
            SelfApproval, lambda: approve(grant, by=alice())
        ),
        f"{BOB} has already reviewed grants/g7; one principal counts once": refused(
            AlreadyReviewed, lambda: approve(first, under=TWO_OF_OWNERS)
        ),
        "comment: is required: say why the access ends": refused(InvalidField, lambda: revoke(grant, comment="")),
    }

    assert [error.message for error in said.values()] == list(said)


def test_refusals_of_who_may_not_tell_programs_the_grant() -> None:
    grant = pending(TWO_STEPS)

    errors = [
        refused(NotYours, lambda: withdraw(grant, by=bob())),
        refused(NotYours, lambda: release(grant, by=bob())),
        refused(NotApprover, lambda: revoke(grant, by=dave())),
        refused(NotApprover, lambda: approve(grant, by=dave())),
        refused(NotApprover, lambda: approve(grant, under=TWO_STEPS, by=carol())),
    ]

    assert [error.metadata for error in errors] == [{"grant": "grants/g7"}] * 5


def test_groups_are_proved_by_the_subject_alone() -> None:
    own = approved()

    assert own.subject_groups == own.requester_groups != frozenset()
    assert replace(own, subject=BOB).subject_groups is None
