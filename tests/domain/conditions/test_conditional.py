"""Conditions at work: in requests, at approvals and in checks; and what a request already has."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from jit_service.domain.caller import Caller
from jit_service.domain.checks.decision import Question, Reason, decide, judge_conditions
from jit_service.domain.checks.evidence import Evidence
from jit_service.domain.conditions.condition import Verdict
from jit_service.domain.conditions.kept_claims import keep
from jit_service.domain.conditions.signal import Signals
from jit_service.domain.errors import (
    ConditionError,
    ConditionNotMet,
    InvalidField,
    NotApprover,
    PolicyNoLongerAllows,
)
from jit_service.domain.grants import approval, coverage, quorum, request, terms
from jit_service.domain.grants.grant import Grant, GrantState
from jit_service.domain.grants.terms import Edits
from jit_service.domain.policies.policy import Policy, PrincipalSet, Step, normalize
from tests.domain.factories import (
    ALICE,
    BOT,
    HOUR,
    NOON,
    TICK,
    alice,
    approved,
    ask,
    caller,
    deny_policy,
    pending,
    policy,
    question,
)

ON = Signals(live={"window": True})
STALE = Signals(stale=frozenset({"window"}))


def judged(under: Policy, *, signals: Signals = ON, **changes: Any) -> Grant:
    return request.judge_request(
        ask(**changes), policies=[under], by=alice(), grant_name="grants/g", now=NOON, signals=signals
    )


def test_a_request_whose_condition_is_false_or_fails_is_refused() -> None:
    assert judged(policy(request_condition="signals.window"))

    with pytest.raises(ConditionNotMet):
        judged(policy(request_condition="!signals.window"))
    for signals in (STALE, Signals()):
        with pytest.raises(ConditionError):
            judged(policy(request_condition="signals.window"), signals=signals)


def test_claims_are_kept_only_where_conditions_may_read_them() -> None:
    by = alice()._replace(claims={"amr": ["mfa"]})

    def claims(under: Policy, **changes: Any) -> dict[str, Any]:
        given = request.judge_request(ask(**changes), policies=[under], by=by, grant_name="grants/g", now=NOON)
        return given.claims

    bot = PrincipalSet(groups=("engineering",), principals=("service:bot",))
    assert claims(policy(check_condition='"mfa" in claims.amr')) == keep({"amr": ["mfa"]}, frozenset({"amr"}))
    assert claims(policy()) == {}
    assert claims(policy(check_condition='"mfa" in claims.amr', eligible=bot), subject="service:bot") == {}


def test_an_approval_judges_the_conditions_again() -> None:
    step = Step(approvers=PrincipalSet(groups=("database-owners",)))
    extra = Step(approvers=PrincipalSet(groups=("security",)), condition="has(signals.window)")
    under = policy(request_condition="size(signals) >= 0", steps=(step, extra))
    pending = judged(under, signals=Signals())
    assert pending.skipped == {1}

    again = request.judge_again(pending, policy=under, policies=[under], now=NOON, signals=ON)

    assert again.skipped == frozenset()
    closed = replace(under, request_condition="!has(signals.window)")
    with pytest.raises(PolicyNoLongerAllows, match="request_condition"):
        request.judge_again(pending, policy=closed, policies=[closed], now=NOON, signals=ON)


OWNERS, SECURITY = PrincipalSet(groups=("owners",)), PrincipalSet(groups=("security",))
BEN = Caller(principal="user:ben@example.com", groups=frozenset({"owners"}))


def approved_for_half(under: Policy) -> Grant:
    """Returns the request for an hour as ben, an owner, approves it for half of that."""
    asked = judged(under, duration=HOUR)
    place = approval.demand_reviewer(asked, policy=under, by=BEN, now=NOON)
    edited = terms.edit(asked, Edits(duration=HOUR / 2), now=NOON)
    again = request.judge_again(edited, policy=under, policies=[under], now=NOON)
    return approval.approve(again, policy=under, by=BEN, comment="", now=NOON, place=place)[0]


def test_who_edits_so_that_its_own_step_is_not_needed_has_approved_all_the_same() -> None:
    owners = Step(approvers=OWNERS, condition='duration > duration("30m")')

    assert approved_for_half(policy(steps=(owners,))).approved_at == NOON
    both = approved_for_half(policy(steps=(owners, Step(approvers=SECURITY))))
    assert (both.approved_at, len(both.reviews), both.skipped) == (None, 1, {0})


def test_an_edit_that_needs_an_earlier_step_first_is_refused() -> None:
    short = Step(approvers=SECURITY, condition='duration <= duration("30m")')

    with pytest.raises(NotApprover, match="would wait for step 1"):
        approved_for_half(policy(steps=(short, Step(approvers=OWNERS))))


def active(check_condition: str) -> Grant:
    given, _ = approval.open_request(judged(policy(steps=(), check_condition=check_condition)), by=alice(), now=NOON)
    return given


def reason(given: Grant, *, signals: Signals = ON, **changes: Any) -> Reason:
    question = Question(
        **(
            {"subject": given.subject, "action": "read", "resource": "database/orders/eu", "principal": "service:gw"}
            | changes
        )
    )
    return decide(question, grants=[given], evidence=Evidence(policies=(), now=NOON, signals=signals)).reason


ONCALL = policy(steps=(), check_condition='"oncall" in groups')


def given_to(*groups: str) -> Grant:
    """Alice's access while she is on call, as she asked for it with these groups."""
    return pending(ONCALL, by=caller(ALICE, "engineering", *groups))


@pytest.mark.parametrize(
    ("then", "now", "reason"),
    [
        ({"oncall"}, {"oncall"}, Reason.ALLOWED),
        ({"oncall"}, set(), Reason.CONDITION_NOT_MET),
        (set(), {"oncall"}, Reason.CONDITION_NOT_MET),
        ({"oncall"}, {"other"}, Reason.CONDITION_NOT_MET),
        ({"oncall", "old"}, {"oncall", "new"}, Reason.ALLOWED),
        # Whoever asks about another proves none.
        ({"oncall"}, None, Reason.ALLOWED),
        ({"other"}, None, Reason.CONDITION_NOT_MET),
    ],
)
def test_a_group_permits_only_where_each_proof_has_it(then: set[str], now: set[str] | None, reason: Reason) -> None:
    """She was in it when she asked for access; she must be in it still, where she proves her groups again."""
    grant = given_to(*then)
    asked = question(groups=None if now is None else frozenset({"engineering", *now}))

    decision = decide(asked, grants=[grant], evidence=Evidence(policies=[], now=NOON))

    assert (decision.allowed, decision.reason) == (reason is Reason.ALLOWED, reason)
    judged = judge_conditions([grant], asked, NOON, Signals())
    assert [judgement.verdict is Verdict.MET for _, judgement in judged] == [reason is Reason.ALLOWED]


def test_where_somebody_else_asked_for_it_the_groups_of_the_call_permit() -> None:
    both = replace(ONCALL, eligible=PrincipalSet(principals=(BOT, ALICE)))
    grant = pending(both, by=caller(BOT), subject=ALICE)

    def reason(groups: frozenset[str] | None) -> Reason:
        return decide(question(groups=groups), grants=[grant], evidence=Evidence(policies=[], now=NOON)).reason

    assert reason(frozenset({"oncall"})) is Reason.ALLOWED
    assert reason(frozenset()) is Reason.CONDITION_NOT_MET
    assert reason(None) is Reason.CONDITION_ERROR


def test_a_deny_goes_on_by_all_groups_that_were_ever_proved() -> None:
    grant = given_to("oncall", "old")
    asked = question(groups=frozenset({"engineering", "oncall", "new"}))

    for group in ("old", "new"):
        denies = deny_policy(eligible=PrincipalSet(groups=(group,)))
        assert (
            decide(asked, grants=[grant], evidence=Evidence(policies=[denies], now=NOON)).reason
            is Reason.DENIED_BY_POLICY
        )
    assert decide(asked, grants=[grant], evidence=Evidence(policies=[], now=NOON)).allowed


def test_a_check_allows_only_while_the_condition_is_true() -> None:
    given = active("signals.window && principal == 'service:gw'")

    assert reason(given) is Reason.ALLOWED
    assert reason(given, principal="service:other") is Reason.CONDITION_NOT_MET
    assert reason(given, signals=STALE) is Reason.SIGNAL_STALE
    assert reason(given, signals=Signals()) is Reason.CONDITION_ERROR


def test_a_grant_without_condition_allows_beside_one_whose_condition_fails() -> None:
    bad, good = active("context.missing"), active("")
    question = Question(subject=good.subject, action="read", resource="database/orders/eu")

    assert decide(question, grants=[bad, good], evidence=Evidence(policies=(), now=NOON)).allowed


def covered(there: Grant, *, policies: tuple[Policy, ...] = (), **changes: Any) -> bool:
    return coverage.is_covered_by(ask(**({"duration": None} | changes)), there, policies=policies, now=NOON)


def test_a_grant_covers_what_is_asked_for_until_exactly_its_end_and_whatever_other_groups_are_denied() -> None:
    def covered(now: datetime) -> bool:
        return coverage.is_covered_by(ask(duration=None), approved(), policies=[deny_policy()], now=now)

    assert covered(NOON + HOUR - TICK)
    assert not covered(NOON + HOUR)


def test_a_live_grant_covers_what_is_within_it_and_no_longer_than_it() -> None:
    there = active("")

    assert covered(there)
    assert covered(there, policy=there.policy)
    assert not covered(there, policy="policies/other")
    assert not covered(there, actions=("write",))
    assert not covered(there, resources=("database/orders/us",))
    assert covered(there, duration=there.duration)
    assert not covered(there, duration=there.duration + TICK)


def test_a_pending_request_covers_what_it_asks_for() -> None:
    pending = judged(policy(), duration=HOUR)

    assert covered(pending, duration=HOUR)
    assert not covered(pending, duration=HOUR + TICK)


def test_a_grant_covers_a_later_start_that_lies_within_it() -> None:
    there = active("")

    assert covered(there, start_at=NOON, duration=HOUR)
    assert covered(there, start_at=NOON + HOUR / 2, duration=HOUR / 2)
    assert not covered(there, start_at=NOON + HOUR / 2, duration=HOUR / 2 + TICK)
    assert covered(there, start_at=NOON + HOUR - TICK)
    assert not covered(there, start_at=NOON + HOUR)


def test_a_grant_that_starts_later_does_not_cover_what_is_wanted_now() -> None:
    for steps in ((), policy().steps):
        later, _ = approval.open_request(judged(policy(steps=steps), start_at=NOON + HOUR), by=alice(), now=NOON)

        assert not covered(later)
        assert not covered(later, start_at=NOON + HOUR - TICK)
        assert covered(later, start_at=NOON + HOUR)


def test_a_denied_grant_covers_nothing() -> None:
    deny = Policy(
        name="policies/no",
        deny=True,
        eligible=PrincipalSet(groups=("engineering",)),
        resources=("database/**",),
        actions=("**",),
    )

    assert not covered(active(""), policies=(deny,))


def test_skipped_steps_need_no_approval() -> None:
    steps = (Step(approvers=PrincipalSet(groups=("database-owners",)), condition="false"),)

    given, _ = approval.open_request(judged(policy(steps=steps)), by=alice(), now=NOON)

    assert given.state(NOON) is GrantState.ACTIVE
    assert quorum.approvals_missing(given.steps, (), given.skipped) == [0]


def with_quorum(*approvers: str) -> Policy:
    return policy(steps=(Step(approvers=PrincipalSet(groups=approvers), denials_needed=2),))


def denied(pending: Grant, by: Caller, under: Policy) -> Grant:
    return approval.deny(pending, policy=under, by=by, comment="no", now=NOON)[0]


def test_a_denial_quorum_takes_distinct_denials() -> None:
    under = with_quorum("owners")
    one, two = (Caller(principal=f"user:{who}", groups=frozenset({"owners"})) for who in ("one", "two"))

    once = denied(judged(under), one, under)
    assert once.state(NOON) is GrantState.PENDING

    assert denied(once, two, under).state(NOON) is GrantState.DENIED


def test_denials_count_while_their_approvers_are_approvers() -> None:
    before, after = with_quorum("owners", "others"), with_quorum("owners")
    gone = Caller(principal="user:gone", groups=frozenset({"others"}))
    two, three = (Caller(principal=f"user:{who}", groups=frozenset({"owners"})) for who in ("two", "three"))

    twice = denied(denied(judged(before), gone, before), two, after)
    assert twice.state(NOON) is GrantState.PENDING

    assert denied(twice, three, after).state(NOON) is GrantState.DENIED


@pytest.mark.parametrize(("most", "fine"), [(-1, False), (0, True), (1000, True), (1001, False)])
def test_a_limit_of_grants_has_bounds(most: int, fine: bool) -> None:
    if fine:
        assert normalize(policy(max_active_per_subject=most)).max_active_per_subject == most
        return
    with pytest.raises(InvalidField, match="max_active_per_subject"):
        normalize(policy(max_active_per_subject=most))


def test_a_waiting_request_is_shown_with_the_steps_that_are_needed_now() -> None:
    step = Step(approvers=OWNERS)
    extra = Step(approvers=SECURITY, condition="has(signals.window)")
    under = policy(steps=(step, extra))
    asked = judged(under, signals=Signals())

    def now(current: Policy, signals: Signals) -> Grant:
        return request.refresh_steps(asked, policy=current, policies=[current], now=NOON, signals=signals)

    assert asked.skipped == {1}
    assert now(under, ON) == replace(asked, skipped=frozenset())
    assert now(under, Signals()) == asked
    assert now(replace(under, disabled=True), ON) == asked


def test_a_waiting_request_without_conditional_steps_is_as_it_was() -> None:
    under = policy(steps=(Step(approvers=OWNERS),))
    asked = judged(under)
    more = replace(under, steps=(Step(approvers=OWNERS), Step(approvers=SECURITY)))

    assert request.refresh_steps(asked, policy=more, policies=[more], now=NOON, signals=ON) == asked
