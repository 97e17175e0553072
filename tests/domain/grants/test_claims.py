"""A request keeps the claims that its policy's conditions read, or those that the settings name; no others.

A claim that was not kept is not one that the token did not have: no condition is met since it is not there.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from jit_service.domain.caller import Caller
from jit_service.domain.checks.cached_grant import condense
from jit_service.domain.conditions import condition, kept_claims
from jit_service.domain.conditions.condition import Facts, Verdict
from jit_service.domain.errors import ConditionError, InvalidField, PolicyNoLongerAllows
from jit_service.domain.grants import request
from jit_service.domain.grants.grant import Grant
from jit_service.domain.policies.policy import Policy, PrincipalSet, Step, normalize
from tests.domain.factories import (
    ALICE,
    BOT,
    HOUR,
    NOON,
    alice,
    approve,
    approved,
    extending,
    extension,
    pending,
    policy,
    step,
)

TOKEN = {"sub": "7", "team": "db", "email": "alice@example.com", "suspended": True}
READING = policy(check_condition='claims.team == "db"')
UNSUSPENDED = "!has(claims.suspended)"


def asker(*stored: str, **claims: Any) -> Caller:
    """Alice, at a service that stores these claims, or by default those that are read."""
    return alice()._replace(claims=claims or TOKEN, stored_claims=frozenset(stored) if stored else None)


def kept(under: Policy, by: Caller, **asked: Any) -> dict[str, Any]:
    return kept_claims.told(pending(under, by=by, **asked).claims)


def judged_again(waiting: Grant, under: Policy) -> Grant:
    """The request, as each approval judges it by the policy as it is then."""
    return request.judge_again(waiting, policy=under, policies=[under], now=NOON)


def test_a_request_keeps_the_claims_that_its_conditions_read() -> None:
    by_all = policy(
        request_condition="has(claims.sub)",
        check_condition='claims.team == "db"',
        steps=(replace(step("owners"), condition="has(claims.missing) || has(claims.suspended)"),),
    )

    assert kept(by_all, asker()) == {"sub": "7", "team": "db", "suspended": True}
    assert kept(policy(), asker()) == {}


def test_a_condition_on_the_reviewer_keeps_no_claims_of_the_requester() -> None:
    judging = Step(approvers=PrincipalSet(groups=("owners",)), condition='reviewer.claims.team != ""')

    assert kept(policy(steps=(judging,)), asker()) == {}


def test_a_condition_that_can_read_any_claim_keeps_all() -> None:
    assert kept(policy(check_condition="size(claims) > 0"), asker()) == TOKEN


def test_the_settings_can_name_the_claims_that_are_kept() -> None:
    assert kept(policy(), asker("email", "phone")) == {"email": "alice@example.com"}
    assert kept(READING, asker("email", "team")) == {"email": "alice@example.com", "team": "db"}


def test_nothing_is_kept_of_whoever_asks_for_another() -> None:
    for_bot = policy(eligible=PrincipalSet(principals=(ALICE, BOT)), check_condition="has(claims.team)")

    assert pending(for_bot, by=asker("email"), subject=BOT).claims == {}


def test_a_claim_that_the_settings_leave_out_does_not_count_as_absent() -> None:
    with pytest.raises(ConditionError, match=r"reads claims\.suspended, which was not kept .*JIT_STORED_CLAIMS"):
        pending(policy(request_condition=UNSUSPENDED), by=asker("team"))


def test_a_claim_that_the_token_does_not_have_is_absent() -> None:
    assert pending(policy(request_condition=UNSUSPENDED), by=asker(team="db"))


@pytest.mark.parametrize("before", [policy(), READING])
def test_a_policy_that_comes_to_read_another_claim_does_not_take_it_for_absent(before: Policy) -> None:
    waiting = pending(before, by=asker())

    with pytest.raises(PolicyNoLongerAllows, match=r"reads claims\.suspended, which was not kept"):
        judged_again(waiting, replace(before, check_condition=UNSUSPENDED))


def test_a_policy_that_comes_to_read_any_claim_needs_all_of_them() -> None:
    with pytest.raises(PolicyNoLongerAllows, match="reads any of the claims, which was not kept"):
        judged_again(pending(READING, by=asker()), replace(READING, check_condition="size(claims) < 99"))


def test_requests_of_before_have_their_whole_token() -> None:
    waiting = replace(pending(READING, by=asker()), claims={"sub": "7", "team": "db"})

    assert judged_again(waiting, replace(READING, check_condition=UNSUSPENDED)).check_condition == UNSUSPENDED


def test_more_time_keeps_and_needs_the_claims_that_are_read_then() -> None:
    reading = extending(check_condition=UNSUSPENDED)
    before = approved(by=asker())

    asked = extension(before, under=reading, by=asker(team="db"))

    assert approve(asked, under=reading).claims == kept_claims.keep({"team": "db"}, frozenset({"suspended"}))
    with pytest.raises(ConditionError, match=r"claims\.suspended"):
        extension(before, under=reading, by=asker("team"))


def test_conditions_see_the_kept_claims_and_nothing_beside_them() -> None:
    live = condense(approve(pending(READING, by=asker()), under=READING))

    for text, verdict in (
        ('claims.team == "db"', Verdict.MET),
        ("size(claims) == 1", Verdict.MET),
        ('"(kept)" in claims', Verdict.NOT_MET),
    ):
        seen = Facts(ALICE, ALICE, live.resources, live.actions, HOUR, NOON, claims=live.subject_claims)
        assert condition.judge(text, seen).verdict is verdict, text


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"request_condition": "has(claims.email)"}, "request_condition"),
        ({"check_condition": UNSUSPENDED}, "check_condition"),
        ({"steps": (replace(step("owners"), condition="claims.level > 1"),)}, r"steps\[0\]\.condition"),
        ({"check_condition": "size(claims) > 0"}, "check_condition"),
    ],
)
def test_a_policy_that_reads_what_is_not_stored_is_refused(changes: dict[str, Any], field: str) -> None:
    wanted = policy(**changes)

    with pytest.raises(InvalidField, match=f"{field}: .*JIT_STORED_CLAIMS"):
        normalize(wanted, claims=frozenset({"team"}))

    assert normalize(wanted)


def test_a_policy_may_read_what_is_stored_and_whatever_a_reviewer_brings() -> None:
    judging = Step(approvers=PrincipalSet(groups=("owners",)), condition='reviewer.claims.level != "x"')

    assert normalize(replace(READING, steps=(judging,)), claims=frozenset({"team"}))
