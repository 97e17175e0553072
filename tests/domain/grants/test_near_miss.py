"""What a refused request nearly met, which only whoever may ask under the policy is told."""

from __future__ import annotations

import pytest

from jit_service.domain.caller import Role
from jit_service.domain.errors import NotEligible
from jit_service.domain.grants import request
from jit_service.domain.grants.near_miss import describe_near_misses
from jit_service.domain.grants.request import Ask
from jit_service.domain.policies.policy import Policy, PrincipalSet
from tests.domain.factories import ALICE, caller, policy

READ = policy(name="policies/pg-read", resources=("database/orders/**",), actions=("read",))
HTTP = policy(name="policies/shop", resources=("http/shop.internal/**",), actions=("GET", "HEAD"))


def near(resource: str, action: str, *policies: Policy) -> str:
    return describe_near_misses((resource,), (action,), policies)


def test_a_slip_in_the_action_is_told_with_the_policys_actions() -> None:
    assert near("database/orders/eu", "raed", READ) == "policies/pg-read covers the resource; its actions are read"
    assert describe_near_misses(("database/orders/a", "database/orders/b"), ("raed",), [READ]) == (
        "policies/pg-read covers the resources; its actions are read"
    )


def test_the_root_of_a_pattern_is_told_what_the_pattern_takes() -> None:
    assert near("http/shop.internal", "GET", HTTP) == (
        "policies/shop covers http/shop.internal/**, where ** takes one or more segments, "
        "and not http/shop.internal itself"
    )
    assert describe_near_misses(("http/shop.internal", "http/shop.internal/a"), ("GET",), [HTTP]).endswith(
        "and not http/shop.internal itself"
    )


def test_what_is_further_away_is_not_near() -> None:
    assert near("http/shop.internal", "PUT", HTTP) == ""
    assert near("http/shop", "GET", HTTP) == ""
    assert near("database/users/eu", "read", READ) == ""
    assert describe_near_misses(("http/shop.internal", "http/x"), ("GET",), [HTTP]) == ""


def test_three_policies_and_ten_patterns_of_each_are_told() -> None:
    several = [policy(name=f"policies/p{number}", actions=("write",)) for number in range(4)]
    many = policy(actions=tuple(f"a{number}" for number in range(11)))
    ten = policy(actions=tuple(f"a{number}" for number in range(10)))

    assert near("database/orders/eu", "read", *several).count("covers") == 3
    assert near("database/orders/eu", "read", *several[:2]) == (
        "policies/p0 covers the resource; its actions are write; policies/p1 covers the resource; its actions are write"
    )
    assert near("database/orders/eu", "read", many).endswith("a8, a9 and 1 more")
    assert near("database/orders/eu", "read", ten).endswith("a8, a9")


def refusal(wanted: Ask, *policies: Policy, groups: tuple[str, ...] = ("engineering",), **more: object) -> str:
    by = caller(ALICE, *groups)._replace(**more)  # type: ignore[arg-type]
    with pytest.raises(NotEligible) as refused:
        request.choose_policy(wanted, policies, by)
    return refused.value.message


RAED = Ask(subject=ALICE, resources=("database/orders/eu",), actions=("raed",))


def test_a_refusal_ends_with_the_near_miss() -> None:
    assert refusal(RAED, READ) == (
        f"no policy lets {ALICE} ask for raed on database/orders/eu for {ALICE}; "
        "policies/pg-read covers the resource; its actions are read"
    )


@pytest.mark.parametrize(
    "hidden",
    [
        policy(name="policies/hidden", eligible=PrincipalSet(groups=("security",))),
        policy(name="policies/hidden", disabled=True),
    ],
)
@pytest.mark.parametrize("roles", [frozenset(), frozenset({Role.ADMIN})])
def test_a_refusal_tells_of_no_policy_that_the_requester_may_not_ask_under(
    hidden: Policy, roles: frozenset[Role]
) -> None:
    assert "hidden" not in refusal(RAED, hidden, READ, roles=roles)
    assert refusal(RAED, hidden).endswith(f"for {ALICE}")


def test_a_named_policy_is_the_only_one_told_of() -> None:
    other = policy(name="policies/other", actions=("read",))
    wanted = Ask(subject=ALICE, resources=RAED.resources, actions=RAED.actions, policy="policies/pg-read")

    assert refusal(wanted, READ, other).endswith("policies/pg-read covers the resource; its actions are read")
    assert "other" not in refusal(wanted, READ, other)
