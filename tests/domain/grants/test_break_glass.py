"""Break-glass: who may take access at once, for how long, and the review that this owes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from jit_service.domain.audit.event import EventType
from jit_service.domain.caller import Caller, Role
from jit_service.domain.errors import (
    AlreadyReviewed,
    DeniedByPolicy,
    InvalidField,
    JitError,
    NotApprover,
    NotEligible,
    ReviewOverdue,
    SelfApproval,
    TooManyUnreviewed,
    WrongState,
)
from jit_service.domain.grants import approval, break_glass, request
from jit_service.domain.grants.grant import Grant, GrantState, Justification
from jit_service.domain.policies.policy import JustificationRule, Policy, PrincipalSet, normalize
from tests.domain.factories import (
    BOB,
    BOT,
    DAVE,
    HOUR,
    NOON,
    TICK,
    admin,
    alice,
    approved,
    ask,
    bob,
    breakable,
    caller,
    carol,
    dave,
    deny_policy,
    erin,
    in_place_of,
    named,
    policy,
    release,
)
from tests.domain.grants.test_grant import refused

FIRE = Justification(text="the shop is down")


def on_call() -> Caller:
    return caller(DAVE, "on-call")


def broken(under: Policy | None = None, *others: Policy, by: Caller | None = None, **asked: Any) -> Grant:
    """Access that somebody took in an emergency."""
    by, under = by or on_call(), under or breakable()
    wanted = ask(**({"subject": by.principal, "break_glass": True, "justification": FIRE} | asked))
    judged = request.judge_request(wanted, policies=[under, *others], by=by, grant_name="grants/g7", now=NOON)
    return approval.open_request(judged, by=by, now=NOON)[0]


def fault(**asked: Any) -> str:
    error = refused(InvalidField, lambda: broken(**asked))
    assert isinstance(error, InvalidField)
    return error.field


def reviewed(grant: Grant, *, by: Caller | None = None, under: Policy | None = None, comment: str = "seen") -> Grant:
    return break_glass.complete_review(grant, policy=under or breakable(), by=by or bob(), comment=comment, now=NOON)[0]


# Taking


def test_in_an_emergency_access_is_active_at_once() -> None:
    grant = broken(duration=HOUR)

    assert (grant.state(NOON), grant.expires_at) == (GrantState.ACTIVE, NOON + HOUR)
    assert (grant.steps, grant.reviews) == ((), ())


def test_only_who_is_eligible_for_emergencies_breaks_the_glass() -> None:
    refused(NotEligible, lambda: broken(by=alice()))
    refused(NotEligible, lambda: broken(by=dave()))
    error = refused(NotEligible, lambda: broken(policy()))

    assert error.message == (f"no policy lets {DAVE} ask for in an emergency read on database/orders/eu for {DAVE}")


def test_who_is_eligible_for_emergencies_only_does_not_ask_otherwise() -> None:
    refused(NotEligible, lambda: broken(break_glass=False))


def test_one_breaks_the_glass_for_oneself() -> None:
    names_bot = breakable(eligible=PrincipalSet(principals=(BOT,), groups=("engineering",)))

    refused(NotEligible, lambda: broken(names_bot, subject=BOT))


def test_an_emergency_is_covered_by_its_policy_and_beaten_by_a_deny() -> None:
    refused(NotEligible, lambda: broken(resources=("database/users",)))
    refused(NotEligible, lambda: broken(breakable(disabled=True)))
    refused(DeniedByPolicy, lambda: broken(None, deny_policy(eligible=PrincipalSet(groups=("on-call",)))))


def test_an_emergency_lasts_no_longer_than_its_rule_says() -> None:
    assert broken(duration=2 * HOUR).duration == 2 * HOUR
    assert fault(duration=2 * HOUR + TICK) == "duration"


def test_without_a_duration_an_emergency_lasts_the_default_or_the_longest_of_its_rule() -> None:
    assert broken().duration == HOUR
    assert broken(breakable(default_duration=3 * HOUR)).duration == 2 * HOUR
    assert broken(breakable(default_duration=timedelta())).duration == 2 * HOUR


def test_an_emergency_says_what_it_is() -> None:
    assert fault(justification=Justification(text=" ")) == "justification.text"
    assert fault(under=breakable(justification=JustificationRule(ticket_required=True))) == "justification.ticket"


def test_an_emergency_is_now() -> None:
    assert fault(start_at=NOON) == "start_time"


def test_an_emergency_is_recorded_as_one() -> None:
    judged = broken()

    _, event = approval.open_request(judged, by=on_call(), now=NOON)

    assert (event.type, event.decision, event.message) == (EventType.BREAK_GLASS_USED, "ACTIVE", FIRE.text)


# The review it owes


def test_a_use_owes_a_review_from_the_moment_it_is_taken() -> None:
    grant = broken()

    assert grant.owes_review
    assert grant.emergency is not None
    assert grant.emergency.review_due_at == NOON + 24 * HOUR
    assert release(grant, by=on_call()).owes_review
    assert not approved().owes_review


def test_an_approver_completes_the_review() -> None:
    grant, event = break_glass.complete_review(
        broken(), policy=breakable(), by=bob(), comment="justified", now=NOON + TICK
    )

    assert not grant.owes_review
    assert grant.emergency is not None
    assert grant.emergency.review is not None
    assert (grant.emergency.review.reviewer, grant.emergency.review.comment, grant.emergency.review.at) == (
        BOB,
        "justified",
        NOON + TICK,
    )
    assert (event.type, event.principal, event.message) == (EventType.REVIEW_COMPLETED, BOB, "justified")
    assert grant.state(NOON) is GrantState.ACTIVE


@pytest.mark.parametrize("by", [admin(), bob(), erin(), in_place_of(carol(), bob())], ids=lambda by: by.principal)
def test_admins_approvers_and_their_delegates_review_a_use(by: Caller) -> None:
    assert not reviewed(broken(), by=by).owes_review


def test_the_review_of_a_use_that_was_ended_does_not_tell_again_how_long_it_was_held() -> None:
    used = release(broken(), by=on_call(), at=NOON + TICK)

    _, event = break_glass.complete_review(used, policy=breakable(), by=bob(), comment="seen", now=NOON + HOUR)

    assert (used.held, event.held) == (TICK, None)


def test_nobody_else_reviews_a_use() -> None:
    refused(NotApprover, lambda: reviewed(broken(), by=carol()))
    refused(NotApprover, lambda: reviewed(broken(), by=in_place_of(carol(), bob(), policies=["policies/users"])))
    refused(
        NotApprover,
        lambda: break_glass.complete_review(broken(), policy=None, by=bob(), comment="seen", now=NOON),
    )


def test_nobody_reviews_its_own_use_whatever_the_policy_says() -> None:
    under = breakable(allow_self_approval=True)
    taken = broken(under, by=caller(BOB, "on-call", "owners"))

    refused(SelfApproval, lambda: reviewed(taken, under=under))
    refused(SelfApproval, lambda: reviewed(taken, under=under, by=caller("user:BOB@example.com", "owners")))
    refused(SelfApproval, lambda: reviewed(taken, under=under, by=bob()._replace(roles=frozenset({Role.ADMIN}))))
    refused(SelfApproval, lambda: reviewed(taken, under=under, by=in_place_of(bob(), erin())))


def test_nobody_reviews_a_use_in_place_of_who_took_it() -> None:
    taken = broken(by=caller(BOB, "on-call", "owners"))

    refused(SelfApproval, lambda: reviewed(taken, by=in_place_of(dave(), bob())))
    assert not reviewed(taken, by=in_place_of(dave(), bob(), erin())).owes_review


def test_a_review_of_a_use_says_what_was_found() -> None:
    error = refused(InvalidField, lambda: reviewed(broken(), comment=" \n"))

    assert error.message == "comment: is required: say what was found"


def test_a_use_is_reviewed_once() -> None:
    error = refused(AlreadyReviewed, lambda: reviewed(reviewed(broken()), by=erin()))

    assert error.message == f"the use of grants/g7 was reviewed by {BOB}"


def test_what_was_not_taken_in_an_emergency_owes_no_review() -> None:
    refused(WrongState, lambda: reviewed(approved(), by=erin()))


def test_who_may_not_review_a_use_learns_nothing_of_it() -> None:
    refused(NotApprover, lambda: reviewed(approved(), by=carol(), comment=""))


# Overdue reviews


def test_two_uses_may_wait_for_their_review_and_no_third_is_taken() -> None:
    """Seen: twenty in a row, none of them reviewed, since each had a month for it."""
    one, two = named(broken(), "grants/a"), named(broken(), "grants/b")

    break_glass.demand_no_debt(DAVE, [one], most=2, now=NOON)
    error = refused(TooManyUnreviewed, lambda: break_glass.demand_no_debt(DAVE, [one, two], most=2, now=NOON))

    assert error.message == f"2 uses of {DAVE} wait for their review, and at most 2 may: grants/a, grants/b"


def test_one_overdue_review_is_enough() -> None:
    owed = [broken()]

    break_glass.demand_no_debt(DAVE, owed, most=2, now=NOON + 24 * HOUR - TICK)
    refused(ReviewOverdue, lambda: break_glass.demand_no_debt(DAVE, owed, most=2, now=NOON + 24 * HOUR))


def test_a_policy_says_how_many_uses_may_wait() -> None:
    rule = breakable().break_glass
    assert rule is not None

    assert [replace(rule, max_unreviewed=most).most_unreviewed for most in (0, 1, 5)] == [2, 1, 5]
    for most in (0, 20):
        assert normalize(breakable(break_glass=replace(rule, max_unreviewed=most)))
    for most in (-1, 21):
        error = refused(
            InvalidField, lambda most=most: normalize(breakable(break_glass=replace(rule, max_unreviewed=most)))
        )
        assert error.message == f"break_glass.max_unreviewed: is {most}; 0 to 20 are allowed, and 0 is 2"


def test_a_review_is_overdue_exactly_when_it_was_due() -> None:
    grant = broken()
    assert grant.emergency is not None
    due = grant.emergency.review_due_at

    refused(WrongState, lambda: break_glass.review_overdue_event(grant, now=due - TICK))
    event = break_glass.review_overdue_event(grant, now=due)

    assert (event.type, event.principal) == (EventType.REVIEW_OVERDUE, "service:jit-service")
    assert (event.grant, event.subject, event.policy) == (grant.name, DAVE, grant.policy)
    assert due.isoformat() in event.message
    assert event.held is None


def test_only_a_review_that_is_owed_is_overdue() -> None:
    grant = broken()
    assert grant.emergency is not None
    due = grant.emergency.review_due_at

    refused(WrongState, lambda: break_glass.review_overdue_event(reviewed(grant), now=due))
    refused(WrongState, lambda: break_glass.review_overdue_event(approved(), now=due))


# What a refusal says


TAKEN = broken()
DUE = (NOON + 24 * HOUR).isoformat()


@pytest.mark.parametrize(
    ("fact", "act", "message", "metadata"),
    [
        (
            SelfApproval,
            lambda: reviewed(broken(by=caller(BOB, "on-call", "owners"))),
            f"{BOB} took grants/g7, so may not review its use",
            {},
        ),
        (
            SelfApproval,
            lambda: reviewed(broken(by=caller(BOB, "on-call", "owners")), by=in_place_of(dave(), bob())),
            f"{DAVE} could review grants/g7 only in place of whoever took it",
            {},
        ),
        (
            NotApprover,
            lambda: reviewed(TAKEN, by=carol()),
            "user:carol@example.com is not an approver of policies/orders, nor an admin",
            {"grant": "grants/g7"},
        ),
        (
            WrongState,
            lambda: reviewed(approved(), by=erin()),
            "grants/g7 was not taken in an emergency, so it owes no review",
            {"grant": "grants/g7"},
        ),
        (
            ReviewOverdue,
            lambda: break_glass.demand_no_debt(
                DAVE, [named(TAKEN, "grants/a"), named(TAKEN, "grants/b")], most=2, now=NOON + 24 * HOUR
            ),
            f"{DAVE} owes the review of grants/a, grants/b",
            {"subject": DAVE, "grant": "grants/a"},
        ),
        (
            TooManyUnreviewed,
            lambda: break_glass.demand_no_debt(
                DAVE, [named(TAKEN, "grants/a"), named(TAKEN, "grants/b")], most=1, now=NOON
            ),
            f"2 uses of {DAVE} wait for their review, and at most 1 may: grants/a, grants/b",
            {"subject": DAVE, "grant": "grants/a"},
        ),
        (
            WrongState,
            lambda: break_glass.review_overdue_event(approved(), now=NOON),
            "grants/g7 owes no review",
            {"grant": "grants/g7"},
        ),
        (
            WrongState,
            lambda: break_glass.review_overdue_event(TAKEN, now=NOON),
            f"grants/g7 owes its review only by {DUE}",
            {"grant": "grants/g7"},
        ),
    ],
)
def test_a_refusal_says_what_is_and_what_was_needed(
    fact: type[JitError], act: Callable[[], object], message: str, metadata: dict[str, str]
) -> None:
    error = refused(fact, act)

    assert (error.message, error.metadata) == (message, metadata)


def test_the_record_of_an_overdue_review_does_not_tell_how_long_it_was_held() -> None:
    ended = release(TAKEN, by=on_call(), at=NOON + TICK)

    assert (ended.held, break_glass.review_overdue_event(ended, now=NOON + 24 * HOUR).held) == (TICK, None)
