"""Groups that a token leaves out are not known: they permit nothing, and every deny for a group applies (I28)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from jit_service.domain.caller import LEFT_OUT, Caller
from jit_service.domain.checks.decision import Decision, Question, Reason, decide
from jit_service.domain.checks.evidence import Evidence
from jit_service.domain.checks.policy_set import PolicySet
from jit_service.domain.errors import DeniedByPolicy, JitError, NotApprover, NotEligible
from jit_service.domain.grants import approval, break_glass, more_time, request
from jit_service.domain.grants.grant import Grant
from jit_service.domain.policies.policy import BreakGlassRule, ExtensionRule, Policy, PrincipalSet
from jit_service.domain.tokens import token
from tests.domain.factories import (
    ALICE,
    BOB,
    HOUR,
    NOON,
    alice,
    approved,
    ask,
    bob,
    caller,
    deny_policy,
    pending,
    policy,
    step,
)

NAMED = PrincipalSet(principals=(ALICE,), groups=("engineering",))


def left_out(principal: str = ALICE) -> Caller:
    """Whose token says that there are groups, and not which."""
    return caller(principal)._replace(groups=None)


def judged(*policies: Policy, by: Caller, **changes: object) -> Grant:
    return request.judge_request(ask(**changes), policies=policies, by=by, grant_name="grants/g7", now=NOON)


def asked_itself(grant: Grant, by: Caller, *denies: Policy) -> Decision:
    question = Question(
        subject=ALICE,
        action="read",
        resource="database/orders/eu",
        groups=by.groups,
        groups_left_out=by.groups is None,
        principal=by.principal,
    )
    return decide(question, grants=[grant], evidence=Evidence(policies=denies, now=NOON))


def asked_by_another(grant: Grant, *denies: Policy) -> Decision:
    question = Question(subject=ALICE, action="read", resource="database/orders/eu", principal="service:gateway")
    return decide(question, grants=[grant], evidence=Evidence(policies=denies, now=NOON))


def test_what_is_left_out_makes_nobody_eligible() -> None:
    with pytest.raises(NotEligible, match=LEFT_OUT):
        judged(policy(), by=left_out())


def test_what_is_left_out_takes_nothing_from_whoever_is_named() -> None:
    assert judged(policy(eligible=NAMED), by=left_out()).requester_groups is None


def test_a_deny_for_any_group_applies_to_a_request_with_groups_left_out() -> None:
    with pytest.raises(DeniedByPolicy, match=LEFT_OUT):
        judged(policy(eligible=NAMED), deny_policy(), by=left_out())

    assert judged(policy(eligible=NAMED), deny_policy(), by=alice())


def test_a_deny_for_another_by_name_alone_does_not_apply() -> None:
    for_bob = deny_policy(eligible=PrincipalSet(principals=(BOB,)))

    assert judged(policy(eligible=NAMED), for_bob, by=left_out())


def test_what_is_left_out_makes_nobody_eligible_in_an_emergency() -> None:
    rule = BreakGlassRule(
        eligible=PrincipalSet(groups=("engineering",)), max_duration=HOUR, review_within=timedelta(days=1)
    )
    why = request.Justification(text="the site is down")

    with pytest.raises(NotEligible, match=LEFT_OUT):
        judged(policy(break_glass=rule), by=left_out(), break_glass=True, justification=why)


@pytest.mark.parametrize(
    "decide_as",
    [
        lambda grant, by: approval.approve(grant, policy=policy(), by=by, comment="", now=NOON),
        lambda grant, by: approval.deny(grant, policy=policy(), by=by, comment="", now=NOON),
    ],
)
def test_what_is_left_out_makes_nobody_an_approver(decide_as: Callable[[Grant, Caller], object]) -> None:
    with pytest.raises(NotApprover, match=LEFT_OUT):
        decide_as(pending(), left_out(BOB))


def test_an_approval_by_name_counts_without_groups() -> None:
    by_name = policy(steps=(step("owners", principals=(BOB,)),))

    grant, _ = approval.approve(pending(by_name), policy=by_name, by=left_out(BOB), comment="", now=NOON)

    assert grant.reviews[0].groups is None
    assert grant.approved_at == NOON


def test_a_condition_on_groups_that_are_left_out_refuses_the_request() -> None:
    conditional = policy(eligible=NAMED, request_condition='!("contractors" in groups)')

    with pytest.raises(JitError, match="groups"):
        judged(conditional, by=left_out())


def test_a_grant_that_was_asked_for_with_groups_left_out_is_denied_by_any_group() -> None:
    grant = approved_for(left_out())

    assert asked_by_another(grant, deny_policy()).reason is Reason.DENIED_BY_POLICY
    assert asked_itself(grant, left_out(), deny_policy()).reason is Reason.DENIED_BY_POLICY
    assert asked_by_another(grant).reason is Reason.ALLOWED


def test_a_check_with_groups_left_out_is_denied_by_any_group_whatever_was_known_before() -> None:
    answer = asked_itself(approved(), left_out(), deny_policy())

    assert answer.reason is Reason.DENIED_BY_POLICY
    assert LEFT_OUT in answer.message
    assert asked_itself(approved(), alice(), deny_policy()).reason is Reason.ALLOWED


def test_a_check_condition_on_groups_that_are_left_out_is_not_met() -> None:
    conditional = policy(check_condition='"engineering" in groups')
    grant = approval.approve(pending(conditional), policy=conditional, by=bob(), comment="", now=NOON)[0]

    answer = asked_itself(grant, left_out())

    assert answer.reason is Reason.CONDITION_ERROR
    assert LEFT_OUT in answer.message
    assert asked_itself(grant, alice()).reason is Reason.ALLOWED


def test_claims_of_a_token_that_leaves_groups_out_are_read() -> None:
    conditional = policy(eligible=NAMED, check_condition='"mfa" in claims.amr', steps=())
    by = left_out()._replace(claims={"amr": ["mfa"]})

    assert asked_itself(pending(conditional, by=by), by).reason is Reason.ALLOWED


def test_a_token_is_not_issued_to_a_holder_whose_groups_are_left_out_while_a_deny_is_for_a_group() -> None:
    def demand(holder: Caller) -> None:
        token.demand_carriable(approved(), above={}, policies=[deny_policy()], holder=holder, now=NOON)

    demand(alice())
    with pytest.raises(DeniedByPolicy):
        demand(left_out())


def test_what_is_left_out_can_ask_by_name_alone() -> None:
    by_name = policy(name="policies/by-name", eligible=PrincipalSet(principals=(ALICE,)))
    question = Question(subject=ALICE, action="read", resource="database/orders/eu")

    itself = question._replace(groups_left_out=True)

    assert PolicySet([by_name, policy()]).requestable(itself) == ("policies/by-name",)
    assert PolicySet([by_name, deny_policy()]).requestable(itself) == ()
    assert PolicySet([by_name, policy()]).requestable(question) == ("policies/by-name", "policies/orders")


def test_the_record_of_a_request_says_that_groups_were_left_out() -> None:
    grant = judged(policy(eligible=NAMED), by=left_out())

    _, asked = approval.open_request(grant, by=left_out(), now=NOON)
    _, known = approval.open_request(grant, by=alice(), now=NOON)

    assert (asked.groups, asked.groups_left_out) == ((), True)
    assert (known.groups, known.groups_left_out) == (("engineering",), False)


def test_nobody_reviews_an_emergency_by_groups_that_are_left_out() -> None:
    with pytest.raises(NotApprover):
        break_glass.complete_review(approved(), policy=policy(), by=left_out(BOB), comment="read", now=NOON)


def approved_for(by: Caller) -> Grant:
    return pending(policy(eligible=NAMED, steps=()), by=by)


def test_more_time_is_denied_by_any_group_where_groups_are_left_out() -> None:
    longer = policy(eligible=NAMED, extension=ExtensionRule(max_extensions=1, max_total_duration=6 * HOUR), steps=())
    more = more_time.MoreTime(duration=HOUR)
    asked = more_time.with_extension(pending(longer), more, policy=longer, by=left_out(), now=NOON)

    with pytest.raises(DeniedByPolicy):
        request.judge_extension(asked, policy=longer, policies=[longer, deny_policy()], now=NOON)
