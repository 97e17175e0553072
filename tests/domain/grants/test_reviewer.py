"""A step's condition that reads `reviewer` says who of its approvers may decide: nobody for whom it is not true."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from jit_service.domain.caller import Caller
from jit_service.domain.conditions import condition
from jit_service.domain.conditions.signal import Signals
from jit_service.domain.errors import InvalidField, NotApprover
from jit_service.domain.grants import approval, preview, quorum, request, terms
from jit_service.domain.grants.grant import Grant, GrantState, ReviewDecision
from jit_service.domain.grants.terms import Edits
from jit_service.domain.policies.policy import Policy, PrincipalSet, Step, normalize
from tests.domain.factories import (
    ALICE,
    BOB,
    HOUR,
    NOON,
    TICK,
    accepted,
    approve,
    approved,
    bob,
    caller,
    countered,
    dave,
    erin,
    extending,
    extension,
    in_place_of,
    pending,
    policy,
)

OWNERS = PrincipalSet(groups=("owners",))
MFA = '"mfa" in reviewer.claims.amr'
OTHER_TEAM = "!reviewer.groups.exists(group, group.startsWith('team-') && group in groups)"


def only(text: str, *, needed: int = 1, **changes: Any) -> Policy:
    """The ordinary policy, whose owners may decide only where the condition is true of them."""
    return policy(steps=(Step(approvers=OWNERS, condition=text, approvals_needed=needed),), **changes)


def with_mfa(by: Caller) -> Caller:
    return by._replace(claims={"amr": ["pwd", "mfa"]})


def refuses(under: Policy, by: Caller, grant: Grant | None = None, **more: Any) -> None:
    """Demands that nothing of a review is open to the caller."""
    waiting = grant or pending(under)
    acts: list[Callable[[], object]] = [
        lambda: approval.demand_reviewer(waiting, policy=under, by=by, now=NOON, **more),
        lambda: approval.approve(waiting, policy=under, by=by, comment="", now=NOON, **more),
        lambda: approval.deny(waiting, policy=under, by=by, comment="no", now=NOON, **more),
    ]
    if waiting.extension is None:
        edits = Edits(duration=HOUR / 2)
        acts.append(lambda: approval.counter(waiting, edits, policy=under, by=by, comment="", now=NOON, **more))
    for act in acts:
        with pytest.raises(NotApprover, match="may not decide step 1"):
            act()
    assert not approval.is_reviewable(waiting, policy=under, by=by, now=NOON, **more)


def test_only_with_mfa_may_it_be_decided() -> None:
    under = only(MFA)

    given = approve(pending(under), by=with_mfa(bob()), under=under)

    assert given.state(NOON) is GrantState.ACTIVE
    assert approval.is_reviewable(pending(under), policy=under, by=with_mfa(bob()), now=NOON)
    refuses(under, bob()._replace(claims={"amr": ["pwd"]}))


@pytest.mark.parametrize("claims", [{}, {"amr": None}, {"amr": "mfa"}, {"amr": 7}])
def test_what_cannot_be_judged_of_a_reviewer_is_a_no(claims: dict[str, Any]) -> None:
    refuses(only(MFA), bob()._replace(claims=claims))


def test_not_from_the_requesters_own_team() -> None:
    under = only(OTHER_TEAM)
    waiting = pending(under, by=caller(ALICE, "engineering", "team-red"))

    refuses(under, caller(BOB, "owners", "team-red"), waiting)
    assert approve(waiting, by=caller(BOB, "owners", "team-blue"), under=under).approved_at == NOON


def test_groups_that_a_reviewers_token_leaves_out_are_not_there() -> None:
    by_name = PrincipalSet(principals=(BOB,))
    under = policy(steps=(Step(approvers=by_name, condition=OTHER_TEAM),))

    refuses(under, caller(BOB)._replace(groups=None))


def test_nobody_is_told_of_a_condition_before_being_an_approver() -> None:
    with pytest.raises(NotApprover, match="is not an approver"):
        approval.demand_reviewer(pending(only(MFA)), policy=only(MFA), by=with_mfa(dave()), now=NOON)


def test_a_step_that_says_who_may_decide_is_needed_whoever_asks() -> None:
    """Also where the condition is false of the request alone: then nobody may, and it waits."""
    under = only(f'{MFA} && duration > duration("2h")')

    waiting = pending(under)

    assert (waiting.skipped, waiting.state(NOON)) == (frozenset(), GrantState.PENDING)
    refuses(under, with_mfa(bob()), waiting)
    assert approve(pending(under, duration=3 * HOUR), by=with_mfa(bob()), under=under).approved_at == NOON


def test_what_a_reviewer_gives_is_judged_as_well_as_what_was_asked_for() -> None:
    under = only('reviewer.claims.level >= 2 || duration > duration("90m")')
    junior, asked = bob()._replace(claims={"level": 1}), pending(under, duration=2 * HOUR)
    place = approval.demand_reviewer(asked, policy=under, by=junior, now=NOON)
    less = terms.edit(asked, Edits(duration=HOUR), now=NOON)

    with pytest.raises(NotApprover):
        approval.approve(less, policy=under, by=junior, comment="", now=NOON, place=place)
    with pytest.raises(NotApprover):
        countered(asked, by=junior, under=under, duration=HOUR)
    assert approve(asked, by=junior, under=under).approved_at == NOON


def test_signals_and_time_are_those_of_the_decision() -> None:
    under = only("reviewer.principal != '' && signals.window == 'open'")

    refuses(under, bob())
    refuses(under, bob(), signals=Signals(live={"window": "shut"}))
    given, _ = approval.approve(
        pending(under), policy=under, by=bob(), comment="", now=NOON, signals=Signals(live={"window": "open"})
    )
    assert given.approved_at == NOON


def test_an_approval_counts_on_by_what_was_true_of_its_reviewer_then() -> None:
    """Later neither the time nor the reviewer's token has to be what it was."""
    under = only(f'{MFA} && now < timestamp("2026-03-02T12:30:00Z") || reviewer.claims.chief', needed=2)
    first = approve(pending(under), by=with_mfa(bob()), under=under)

    second = approve(first, by=erin()._replace(claims={"chief": True}), under=under, at=NOON + HOUR)

    assert (first.state(NOON), second.approved_at) == (GrantState.PENDING, NOON + HOUR)
    assert [each.condition for each in second.reviews] == [under.steps[0].condition] * 2


def test_an_approval_by_another_condition_does_not_count_for_this_one() -> None:
    before, now = only("", needed=2), only(MFA, needed=2)
    first = approve(pending(before), by=bob(), under=before)

    second = approve(first, by=with_mfa(erin()), under=now)

    assert (first.reviews[0].condition, second.approved_at) == ("", None)
    assert quorum.approvals_missing(now.steps, second.reviews) == [1]
    # And an offer that was made before is none any more.
    with pytest.raises(NotApprover, match="not an approver of"):
        accepted(countered(pending(only("")), by=bob(), under=only(""), duration=HOUR / 2), under=only(MFA))


def test_an_offer_is_taken_as_what_was_true_of_its_reviewer() -> None:
    under = only(MFA)
    offered = countered(pending(under), by=with_mfa(bob()), under=under, duration=HOUR / 2)

    assert accepted(offered, under=under).approved_at is not None


def test_denials_are_of_those_who_may_decide() -> None:
    under = only(MFA)

    denied, _ = approval.deny(pending(under), policy=under, by=with_mfa(bob()), comment="no", now=NOON)

    assert denied.state(NOON) is GrantState.DENIED
    assert (denied.reviews[0].decision, denied.reviews[0].condition) == (ReviewDecision.DENIED, MFA)


def test_who_acts_for_another_is_the_one_who_is_judged() -> None:
    """The right is the delegator's; the claims are of whoever uses it."""
    under = only(MFA)
    acting = in_place_of(dave(), with_mfa(bob()))

    refuses(under, acting)
    given = approve(pending(under), by=with_mfa(acting), under=under)
    assert (given.reviews[0].reviewer, given.reviews[0].on_behalf_of) == (dave().principal, BOB)
    only_bob = only(f"reviewer.principal == '{BOB}'")
    refuses(only_bob, acting)


def test_more_time_is_decided_by_whom_the_condition_lets() -> None:
    under = replace(extending(), steps=only(MFA).steps)
    more = extension(approved(), HOUR, under=under)

    refuses(under, bob(), more)
    given, _ = approval.approve(more, policy=under, by=with_mfa(bob()), comment="", now=NOON)
    assert given.duration == 2 * HOUR


def test_of_more_time_the_condition_sees_who_asked_for_that() -> None:
    under = replace(extending(), steps=only('reviewer.principal != principal && duration == duration("1800s")').steps)
    more = extension(approved(), HOUR / 2, under=under)

    assert approval.is_reviewable(more, policy=under, by=bob(), now=NOON)


def test_a_dry_run_shows_the_step_with_what_its_reviewers_must_meet() -> None:
    shown = preview.preview(pending(only(MFA)), allow_self_approval=False)

    assert [(each.step.judges_reviewer, each.step.condition) for each in shown.steps] == [(True, MFA)]


@pytest.mark.parametrize("field", ["request_condition", "check_condition"])
@pytest.mark.parametrize("text", [MFA, "has(reviewer.groups)", "reviewer.principal == subject || true"])
def test_only_a_steps_condition_may_read_the_reviewer(field: str, text: str) -> None:
    with pytest.raises(InvalidField, match="reads reviewer, whom only the condition of a step knows") as refused:
        normalize(policy(**{field: text}))
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("text", "reads"),
    [
        (MFA, True),
        ("size(reviewer) == 3", True),
        ("context.reviewer == 'bob'", False),
        ("subject == 'reviewer'", False),
        ("[1].exists(reviewer, reviewer == 1)", False),
        ("", False),
    ],
)
def test_a_condition_reads_the_reviewer_where_it_is_none_without(text: str, reads: bool) -> None:
    assert condition.reads_reviewer(text) is reads
    assert normalize(only(text)).steps[0].judges_reviewer is reads
    if not reads:
        assert normalize(policy(check_condition=text)).check_condition == text


def test_a_step_that_does_not_read_it_goes_on_saying_whether_it_is_needed() -> None:
    under = only("duration > duration('2h')")

    assert pending(under).state(NOON) is GrantState.ACTIVE
    assert request.refresh_steps(
        pending(under), policy=under, policies=[under], now=NOON + TICK, signals=Signals()
    ) == (pending(under))


def test_a_reviewers_condition_outlasts_its_escalation() -> None:
    later = Step(
        approvers=PrincipalSet(principals=("user:nobody@example.com",)),
        condition=MFA,
        timeout=timedelta(hours=1),
        escalate_to=OWNERS,
    )
    under = policy(steps=(later,))
    waiting = pending(under)

    with pytest.raises(NotApprover, match="may not decide"):
        approval.approve(waiting, policy=under, by=bob(), comment="", now=NOON + HOUR)
    assert approve(waiting, by=with_mfa(bob()), under=under, at=NOON + HOUR).approved_at == NOON + HOUR


def test_every_decision_is_judged_by_the_signals_and_the_time_of_it() -> None:
    under = only('signals.open && now < timestamp("2026-03-02T13:00:00Z") && reviewer.principal != ""')
    half = Edits(duration=HOUR / 2)
    acts: list[Callable[..., object]] = [
        lambda **given: approval.approve(pending(under), policy=under, by=bob(), comment="", **given),
        lambda **given: approval.deny(pending(under), policy=under, by=bob(), comment="", **given),
        lambda **given: approval.counter(pending(under), half, policy=under, by=bob(), comment="", **given),
    ]

    for act in acts:
        assert act(now=NOON, signals=Signals(live={"open": True}))
        for given in ({"now": NOON, "signals": Signals(live={"open": False})}, {"now": NOON}):
            with pytest.raises(NotApprover):
                act(**given)
        with pytest.raises(NotApprover):
            act(now=NOON + HOUR, signals=Signals(live={"open": True}))
    assert approval.is_reviewable(
        pending(under), policy=under, by=bob(), now=NOON, signals=Signals(live={"open": True})
    )
    assert not approval.is_reviewable(pending(under), policy=under, by=bob(), now=NOON)
