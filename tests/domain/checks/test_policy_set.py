"""The policies of a revision, prepared: they name what one could ask under, as the policies themselves would."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jit_service.domain.checks.decision import Question
from jit_service.domain.checks.policy_set import PolicySet
from jit_service.domain.grants.request import by_preference, denies
from jit_service.domain.policies.policy import Policy, PrincipalSet
from tests.domain.factories import ALICE, BOB, NOON, deny_policy, policy

ALICE_ALONE = PrincipalSet(principals=(ALICE,))
GROUPS = frozenset({"engineering"})
# Names that begin alike, so that a wrong beginning finds too little or too much.
_SEGMENTS = st.sampled_from(["a", "ab", "b"])
_NAMES = st.lists(_SEGMENTS, min_size=2, max_size=4).map("/".join)
_WILD_SEGMENTS = st.sampled_from(["a", "ab", "b", "*", "a*"])
_PATTERNS = st.builds(
    lambda segments, end: "/".join([*segments, *end]),
    st.lists(_WILD_SEGMENTS, min_size=1, max_size=3),
    st.sampled_from([["**"], ["*"], ["a"], ["b*"]]),
) | st.just("**")
_POLICIES = st.lists(
    st.tuples(st.lists(_PATTERNS, min_size=1, max_size=3), st.sampled_from(["read", "**"]), st.integers(0, 2)),
    max_size=8,
)


def askable(
    *policies: Policy,
    subject: str = ALICE,
    groups: frozenset[str] | None = GROUPS,
    resource: str = "database/orders/eu",
    action: str = "rows.write",
) -> tuple[str, ...]:
    return PolicySet(policies).requestable(Question(subject=subject, groups=groups, resource=resource, action=action))


@pytest.mark.parametrize(
    "resources",
    [
        ("database/orders/eu",),
        ("database/**",),
        ("database/*/eu",),
        ("*/orders/*",),
        ("database/ord*/eu",),
        ("database/orders/e*",),
    ],
)
@pytest.mark.parametrize("actions", [("rows.write",), ("rows.**",), ("*.write",), ("**",), ("rows.wr*",)])
def test_patterns_of_every_form_are_found_and_forbid(resources: tuple[str, ...], actions: tuple[str, ...]) -> None:
    under = policy(resources=resources, actions=actions)
    deny = deny_policy(resources=resources, actions=actions, eligible=ALICE_ALONE)

    assert askable(under) == ("policies/orders",)
    assert askable(under, deny) == ()
    assert askable(under, deny, subject=BOB) == ("policies/orders",)


@pytest.mark.parametrize(
    "resources",
    [
        ("database/*",),
        ("database/*/us",),
        ("database/orders/eu/**",),
        ("*",),
        ("database/ord*",),
        ("database/orders/u*",),
    ],
)
def test_a_deny_of_other_resources_forbids_nothing(resources: tuple[str, ...]) -> None:
    deny = deny_policy(resources=resources, eligible=ALICE_ALONE)

    assert askable(policy(), deny) == ("policies/orders",)
    assert askable(policy(resources=resources)) == ()


@pytest.mark.parametrize("actions", [("rows.*.all",), ("*.read",), ("rows.write.**",), ("*",), ("ro*",), ("rows.r*",)])
def test_a_deny_of_other_actions_forbids_nothing(actions: tuple[str, ...]) -> None:
    deny = deny_policy(actions=actions, eligible=ALICE_ALONE)

    assert askable(policy(), deny) == ("policies/orders",)
    assert askable(policy(actions=actions)) == ()


@pytest.mark.parametrize("resource", ["database/orders/eu", "database/orders", "databases/orders/eu", "d/orders"])
def test_a_policy_is_found_by_each_of_its_patterns_and_once(resource: str) -> None:
    under = policy(resources=("database/ord*/eu", "database/orders/**", "database/orders", "d*/orders/*", "d/**"))

    assert askable(under, resource=resource) == ("policies/orders",)


@given(_POLICIES, _POLICIES, _NAMES)
def test_what_could_be_asked_for_is_what_a_look_at_every_policy_finds(
    open_: list[tuple[list[str], str, int]], denying: list[tuple[list[str], str, int]], resource: str
) -> None:
    policies = [
        policy(name=f"policies/p{number}", resources=tuple(resources), actions=(action,), priority=priority)
        for number, (resources, action, priority) in enumerate(open_)
    ]
    denies_too = [
        deny_policy(name=f"policies/d{number}", resources=tuple(resources), actions=(action,), eligible=ALICE_ALONE)
        for number, (resources, action, _) in enumerate(denying[:1])
    ]

    found = askable(*policies, *denies_too, resource=resource)

    denied = any(
        denies(deny, subject=ALICE, groups=GROUPS, resource=resource, action="rows.write") for deny in denies_too
    )
    covering = [one.name for one in by_preference(policies) if one.covers((resource,), ("rows.write",))]
    assert found == (() if denied else tuple(covering))


def test_groups_that_are_not_known_may_be_any_for_asking_and_none_for_a_deny() -> None:
    deny = deny_policy()

    assert askable(policy(), deny, groups=None) == ("policies/orders",)
    assert askable(policy(), deny, groups=frozenset({"engineering", "contractors"})) == ()
    assert askable(policy(eligible=ALICE_ALONE), subject=BOB, groups=None) == ()
    assert askable(policy(), groups=frozenset()) == ()


def test_what_is_not_in_force_neither_forbids_nor_is_asked_under() -> None:
    for gone in ({"disabled": True}, {"deleted_at": NOON}):
        deny = deny_policy(eligible=ALICE_ALONE, **gone)
        assert PolicySet([deny]).denying == ()
        assert askable(policy(), deny) == ("policies/orders",)
        assert askable(policy(**gone)) == ()
    deny = deny_policy()
    assert PolicySet([policy(), deny]).denying == (deny,)
    assert PolicySet().denying == ()


def test_a_deny_policy_is_never_asked_under() -> None:
    assert askable(deny_policy(eligible=PrincipalSet(principals=(BOB,)))) == ()


def test_the_best_comes_first() -> None:
    first, second = policy(name="policies/a", priority=1), policy(name="policies/b", priority=9)

    assert askable(first, second) == ("policies/b", "policies/a")


def test_a_deny_holds_in_any_letter_case_and_a_permission_in_one() -> None:
    eligible = PrincipalSet(principals=("service:Build-Bot",))

    assert askable(policy(eligible=eligible), subject="service:Build-Bot") == ("policies/orders",)
    assert askable(policy(eligible=eligible), subject="service:build-bot") == ()
    assert askable(policy(), deny_policy(eligible=eligible), subject="service:build-bot") == ()


def test_a_policy_of_which_several_patterns_match_is_named_once_and_in_its_order() -> None:
    several = ("database/**", "database/orders/*", "database/orders/eu")
    policies = [policy(name=f"policies/p{n}", priority=n, resources=several[n % 3 :]) for n in range(6)]

    assert askable(*policies) == tuple(f"policies/p{n}" for n in reversed(range(6)))


def test_policies_of_a_thousand_resources_are_told_apart() -> None:
    policies = [policy(name=f"policies/p{n}", resources=(f"database/db{n}/**",)) for n in range(1_000)]
    policies += [
        deny_policy(name=f"policies/d{n}", resources=(f"database/db{n}/secret",), eligible=ALICE_ALONE)
        for n in range(1_000)
    ]

    assert askable(*policies, resource="database/db7/orders") == ("policies/p7",)
    assert askable(*policies, resource="database/db7/secret") == ()
    assert askable(*policies, resource="database/db1000/orders") == ()
