"""What policies would not give any more once they have changed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from jit_service.domain.grants.grant import Grant, GrantState, revoke_as_misfit
from jit_service.domain.grants.misfit import misfit
from jit_service.domain.policies.policy import Policy, PrincipalSet
from tests.domain.factories import (
    ALICE,
    HOUR,
    NOON,
    TICK,
    admin,
    approve,
    approved,
    breakable,
    caller,
    deny_policy,
    extending,
    extension,
    pending,
    policy,
)
from tests.domain.grants.test_break_glass import FIRE
from tests.domain.grants.test_child import DEEP, parent, passed_on


def why(grant: Grant, *policies: Policy) -> str:
    return misfit(grant, policies={each.name: each for each in policies})


def scheduled(**asked: Any) -> Grant:
    return approved(start_at=NOON + HOUR, **asked)


def test_what_would_be_given_again_fits() -> None:
    assert why(scheduled(), policy()) == ""
    assert why(approved(), policy(), deny_policy()) == ""


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"eligible": PrincipalSet(groups=("security",))}, "would not let user:alice@example.com have grants/g7"),
        ({"disabled": True}, "policies/orders is no longer in force"),
        ({"deleted_at": NOON}, "policies/orders is no longer in force"),
        ({"deny": True}, "policies/orders is no longer in force"),
        ({"resources": ("database/users/**",)}, "no longer covers"),
        ({"actions": ("write",)}, "no longer covers"),
        ({"max_duration": HOUR - TICK}, "is 3600s; policies/orders allows 0s to 3599.999999s"),
        ({"min_duration": HOUR + TICK}, "is 3600s; policies/orders allows 3600.000001s to 14400s"),
    ],
)
def test_what_whoever_asked_could_not_ask_for_any_more_does_not_fit(changed: dict[str, Any], words: str) -> None:
    assert words in why(scheduled(), policy(**changed))


def test_a_policy_that_is_gone_gives_nothing() -> None:
    assert why(scheduled()) == "policies/orders is gone"


def test_what_is_denied_by_now_does_not_fit() -> None:
    contractor = approve(pending(by=caller(ALICE, "engineering", "contractors"), start_at=NOON + HOUR))

    assert "policies/no-contractors denies" in why(contractor, policy(), deny_policy())
    assert why(contractor, policy(), deny_policy(disabled=True)) == ""


def test_a_deny_of_one_who_holds_it_by_name_does_not_fit_and_of_another_group_does() -> None:
    of_alice = deny_policy(eligible=PrincipalSet(principals=(ALICE,)))

    assert "policies/no-contractors denies" in why(scheduled(), policy(), of_alice)
    assert why(scheduled(), policy(min_duration=HOUR, max_duration=HOUR), deny_policy()) == ""


def test_conditions_and_steps_of_the_request_are_not_judged_again() -> None:
    assert why(scheduled(), policy(request_condition="false", steps=())) == ""


def test_more_time_that_was_given_fits_the_bound_of_more_time() -> None:
    under = extending(most=6 * HOUR)
    longer = approve(extension(approved(ttl=4 * HOUR), 2 * HOUR, under=under), under=under)

    assert why(longer, under) == ""
    assert "is 21600s" in why(longer, extending(most=5 * HOUR))
    assert "is 21600s" in why(longer, policy())


def test_what_was_taken_in_an_emergency_fits_the_rule_of_emergencies() -> None:
    on_call = caller(ALICE, "on-call")
    under = breakable(min_duration=HOUR)
    grant = pending(under, by=on_call, break_glass=True, duration=HOUR / 2, justification=FIRE)
    rule = under.break_glass
    assert rule is not None

    assert why(grant, under) == ""
    assert "have grants/g7" in why(grant, replace(under, break_glass=None))
    assert "is 1800s" in why(grant, replace(under, break_glass=replace(rule, max_duration=HOUR / 4)))


def test_what_was_passed_on_fits_as_deep_as_the_policy_lets_it() -> None:
    child = passed_on(parent())

    assert why(child, replace(DEEP, min_duration=4 * HOUR)) == ""
    assert "have" in why(child, replace(DEEP, max_child_depth=0))


def test_a_misfit_is_revoked_by_who_changed_the_policies_with_the_reason() -> None:
    ended, event = revoke_as_misfit(scheduled(), why="policies/orders is gone", by=admin(), now=NOON)

    assert ended.state(NOON + 2 * HOUR) is GrantState.REVOKED
    assert (event.principal, event.message) == (
        "user:admin@example.com",
        "the policies were changed: policies/orders is gone",
    )
