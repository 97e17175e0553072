"""Where a policy asks for a stronger or newer log-in, nothing is given without one, and anything may be refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from jit_service.domain.audit.event import Event
from jit_service.domain.caller import Caller
from jit_service.domain.errors import NotApprover, ReviewAssuranceRequired
from jit_service.domain.grants import approval, break_glass, quorum, reviewing
from jit_service.domain.grants.grant import Grant, GrantState, Justification
from jit_service.domain.grants.reviewing import ReviewRules
from jit_service.domain.grants.terms import Edits
from jit_service.domain.policies.assurance import ReviewAssurance
from jit_service.domain.policies.policy import BreakGlassRule, Policy, PrincipalSet
from tests.domain.factories import (
    HOUR,
    NOON,
    accepted,
    admin,
    alice,
    approve,
    bob,
    countered,
    dave,
    deny,
    erin,
    extending,
    extension,
    in_place_of,
    pending,
    policy,
    step,
)

MINUTE = timedelta(minutes=1)
STRONG = ReviewAssurance(acr=("phr",), max_age=5 * MINUTE)
UNDER = policy(review_assurance=STRONG)
TWO = policy(steps=(step("owners", needed=2),), review_assurance=STRONG)


def strong(by: Caller, *, ago: timedelta = timedelta()) -> Caller:
    return by._replace(claims={"acr": "phr", "auth_time": (NOON - ago).timestamp()})


def demanded(act: Callable[[], object]) -> ReviewAssuranceRequired:
    with pytest.raises(ReviewAssuranceRequired) as refused:
        act()
    return refused.value


def test_an_approval_after_such_a_log_in_counts() -> None:
    assert approve(pending(UNDER), by=strong(bob()), under=UNDER).state(NOON) is GrantState.ACTIVE


def test_an_approval_without_one_is_refused_with_what_to_ask_the_provider_for() -> None:
    refused = demanded(lambda: approve(pending(UNDER), under=UNDER))

    assert refused.metadata == {
        "grant": "grants/g7",
        "policy": "policies/orders",
        "acr_values": "phr",
        "max_age": "300",
    }
    assert "its acr must be phr, and it has no acr; its auth_time must be less than 300 s ago" in refused.message


def test_an_old_log_in_is_refused() -> None:
    waiting = pending(UNDER)

    assert demanded(lambda: approve(waiting, by=strong(bob(), ago=5 * MINUTE), under=UNDER))
    assert approve(waiting, by=strong(bob(), ago=5 * MINUTE - MINUTE), under=UNDER).approved_at == NOON


def test_a_denial_needs_no_such_log_in() -> None:
    denied = approval.deny(pending(UNDER), policy=UNDER, by=bob(), comment="no", now=NOON)[0]

    assert denied.state(NOON) is GrantState.DENIED


def test_a_counter_offer_needs_it_as_an_approval_does() -> None:
    def offer(by: Caller) -> Grant:
        given = Edits(duration=HOUR / 2)
        return approval.counter(pending(UNDER), given, policy=UNDER, by=by, comment="", now=NOON)[0]

    assert demanded(lambda: offer(bob()))
    offered = offer(strong(bob()))
    # It was fresh when the offer was made, however long the requester takes.
    assert accepted(offered, under=UNDER, at=NOON + HOUR).approved_at == NOON + HOUR


def test_an_offer_of_before_the_policy_asked_cannot_be_accepted() -> None:
    offered = countered(pending(), duration=HOUR / 2)

    with pytest.raises(NotApprover, match="had not logged in for the offer as policies/orders asks"):
        accepted(offered, under=UNDER)


def test_more_time_needs_it_too() -> None:
    under = extending(review_assurance=STRONG)
    asked = extension(approve(pending(under), by=strong(bob()), under=under), under=under)

    assert demanded(lambda: approve(asked, under=under))
    assert approve(asked, by=strong(bob()), under=under).extension_count == 1


def test_it_is_asked_of_whoever_decides_and_not_of_whose_right_it_is() -> None:
    waiting = pending(UNDER)

    assert demanded(lambda: approve(waiting, by=in_place_of(dave(), bob()), under=UNDER))
    assert approve(waiting, by=strong(in_place_of(dave(), bob())), under=UNDER).approved_at == NOON


def test_who_may_not_approve_anyway_is_not_told_what_log_in_it_takes() -> None:
    with pytest.raises(NotApprover):
        approve(pending(UNDER), by=dave(), under=UNDER)


def test_what_waits_for_a_log_in_stays_in_the_inbox() -> None:
    assert approval.is_reviewable(pending(UNDER), policy=UNDER, by=bob(), now=NOON)


def test_approvals_of_before_the_policy_asked_count_no_more() -> None:
    before = replace(TWO, review_assurance=None)
    first = approve(pending(before), by=bob(), under=before)

    second = approve(first, by=strong(erin()), under=TWO)

    assert first.reviews[0].authentication is None
    assert second.approved_at is None
    counting = quorum.counting_reviews(second, TWO, approval.NO_LOCKS)
    assert [review.reviewer for review in counting] == [erin().principal]


def test_approvals_count_on_where_the_policy_asks_for_less_by_now() -> None:
    first = approve(pending(TWO), by=strong(bob()), under=TWO)
    looser = replace(TWO, review_assurance=ReviewAssurance(acr=("phr", "pwd")))

    assert approve(first, by=erin()._replace(claims={"acr": "pwd"}), under=looser).approved_at == NOON


def test_denials_count_whatever_the_policy_asks() -> None:
    under = policy(steps=(replace(step("owners"), denials_needed=2),), review_assurance=STRONG)
    first = approval.deny(pending(under), policy=under, by=bob(), comment="no", now=NOON)[0]

    second = approval.deny(first, policy=under, by=erin(), comment="no", now=NOON)[0]

    assert second.state(NOON) is GrantState.DENIED


def test_nothing_of_a_log_in_is_kept_where_no_policy_asks() -> None:
    assert approve(pending(), by=strong(bob())).reviews[0].authentication is None
    assert deny(pending(), by=strong(bob())).reviews[0].authentication is None


@pytest.mark.parametrize("by", [bob(), admin()])
def test_the_review_of_a_break_glass_use_needs_it(by: Caller) -> None:
    rule = BreakGlassRule(eligible=PrincipalSet(groups=("engineering",)), max_duration=HOUR, review_within=HOUR)
    under = policy(review_assurance=STRONG, break_glass=rule)
    used = pending(under, break_glass=True, duration=HOUR, justification=Justification(text="fire"))

    def review(who: Caller) -> Grant:
        return break_glass.complete_review(used, policy=under, by=who, comment="seen", now=NOON)[0]

    assert demanded(lambda: review(by))
    assert not review(strong(by)).owes_review


def test_terms_that_the_policy_does_not_give_are_told_before_a_log_in_is_asked_for() -> None:
    narrowed: Policy = replace(UNDER, resources=("http/**",))
    rules: dict[str, Any] = {"rules": ReviewRules(policy=narrowed, policies=[narrowed]), "comment": "", "now": NOON}

    with pytest.raises(Exception, match="can no longer pass"):
        reviewing.approve(pending(UNDER), by=bob(), **rules)


def shown(event: Event) -> tuple[object, ...]:
    return event.acr, event.amr, event.logged_in_at


SHOWN = ("phr", (), NOON)


@pytest.mark.parametrize("under", [UNDER, policy()], ids=["asked for", "not asked for"])
def test_the_record_of_each_decision_says_how_whoever_decided_had_logged_in(under: Policy) -> None:
    by, waiting = strong(bob()), pending(under)
    rule: dict[str, Any] = {"policy": under, "by": by, "now": NOON}

    approved = approval.approve(waiting, comment="yes", **rule)[1]
    denied = approval.deny(waiting, comment="no", **rule)[1]
    countered = approval.counter(waiting, Edits(duration=HOUR / 2), comment="less", **rule)[1]

    assert shown(approved) == shown(denied) == shown(countered) == SHOWN


def test_the_record_of_a_decision_on_more_time_says_it_too() -> None:
    under = extending()
    asked = extension(approve(pending(under), under=under), under=under)
    rule: dict[str, Any] = {"policy": under, "by": strong(bob()), "now": NOON, "comment": ""}

    given, denied = approval.approve(asked, **rule)[1], approval.deny(asked, **rule)[1]

    assert shown(given) == shown(denied) == SHOWN


def test_the_record_of_an_offer_that_is_taken_says_nothing_of_the_requesters_log_in() -> None:
    offered = approval.counter(
        pending(), Edits(duration=HOUR / 2), policy=policy(), by=strong(bob()), comment="", now=NOON
    )[0]

    taken = approval.accept(offered, policy=policy(), by=strong(alice()), comment="", now=NOON)[1]

    assert shown(taken) == ("", (), None)


def test_the_record_of_the_review_of_an_emergency_says_it_too() -> None:
    rule = BreakGlassRule(eligible=PrincipalSet(groups=("engineering",)), max_duration=HOUR, review_within=HOUR)
    under = policy(break_glass=rule)
    used = pending(under, break_glass=True, duration=HOUR, justification=Justification(text="fire"))

    assert (
        shown(break_glass.complete_review(used, policy=under, by=strong(bob()), comment="seen", now=NOON)[1]) == SHOWN
    )
