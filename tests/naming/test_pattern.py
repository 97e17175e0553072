"""Patterns: `*` ends a segment, or is a whole one; `**` is one or more at the end; nothing else is special."""

from __future__ import annotations

import itertools
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jitaccess.naming.pattern import Patterns, action_covered, covers, overlap, reaches_into, resource_covered
from tests.examples import examples

# Enough that whatever tells two patterns of the small world apart tells two of these names apart too.
ALPHABET = ("a", "aa", "aab", "ab", "b", "ba")
NAMES = ["/".join(name) for size in range(1, 5) for name in itertools.product(ALPHABET, repeat=size)]
ACTIONS = ("read", "rows.read", "rows.*", "**", "*", "re*", "rows.re*")
SEGMENTS = st.sampled_from(("a", "aa", "b", "a*", "aa*", "b*", "*"))


@st.composite
def patterns(draw: st.DrawFn) -> str:
    segments = draw(st.lists(SEGMENTS, max_size=2))
    last = draw(SEGMENTS | st.just("**"))
    return "/".join([*segments, last])


def matches(pattern: str, name: str) -> bool:
    """The rule again, by recursion over segments and their characters."""

    def within(wanted: str, given_: str) -> bool:
        if wanted == "*" or not wanted or not given_:
            return wanted == "*" or wanted == given_
        return wanted[0] == given_[0] and within(wanted[1:], given_[1:])

    def rest(wanted: list[str], given_: list[str]) -> bool:
        if wanted == ["**"]:
            return bool(given_)
        if not wanted or not given_:
            return wanted == given_
        return within(wanted[0], given_[0]) and rest(wanted[1:], given_[1:])

    return rest(pattern.split("/"), name.split("/"))


@cache
def names_of(pattern: str) -> frozenset[str]:
    return frozenset(name for name in NAMES if matches(pattern, name))


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("database/orders", "database/orders", True),
        ("database/orders", "database/orders/eu", False),
        ("database/orders", "database/Orders", False),
        ("database/*", "database/orders", True),
        ("database/*", "database/orders/eu", False),
        ("database/*", "database", False),
        ("database/**", "database/orders/eu/x", True),
        ("database/**", "database", False),
        ("database/*/eu", "database/orders/eu", True),
        ("**", "anything/at/all", True),
        ("*", "one", True),
        ("*", "one/two", False),
        ("*/**", "**", False),
        ("**", "*/**", True),
        ("a/*/**", "a/**", False),
        ("k8s/prod-*", "k8s/prod-eu", True),
        ("k8s/prod-*", "k8s/prod-", True),
        ("k8s/prod-*", "k8s/prod", False),
        ("k8s/prod-*", "k8s/Prod-eu", False),
        ("k8s/prod-*", "k8s/prod-eu/secrets", False),
        ("k8s/prod-*", "k8s/staging/prod-eu", False),
        ("k8s/prod-*/**", "k8s/prod-eu/secrets/x", True),
        ("k8s/prod-*/**", "k8s/prod-eu", False),
        ("k8s/prod-*", "k8s/prod-*", True),
        ("k8s/prod-*", "k8s/prod-eu-*", True),
        ("k8s/prod-eu-*", "k8s/prod-*", False),
        ("k8s/*", "k8s/prod-*", True),
        ("k8s/prod-*", "k8s/*", False),
        ("k8s/prod-*", "k8s/**", False),
        ("k8s/**", "k8s/prod-*", True),
        ("k8s/**", "k8s/prod-*/**", True),
        ("k8s/prod-eu", "k8s/prod-*", False),
        ("data*/x", "database/x", True),
    ],
)
def test_what_a_pattern_covers(pattern: str, name: str, expected: bool) -> None:
    assert covers(pattern, name, "/") is expected


@given(patterns(), st.sampled_from(NAMES))
def test_a_pattern_covers_a_name_as_the_rule_says(pattern: str, name: str) -> None:
    assert covers(pattern, name, "/") is matches(pattern, name)


@settings(max_examples=examples(40), deadline=None)
@given(patterns(), patterns())
def test_a_pattern_is_within_another_when_all_its_names_are(outer: str, inner: str) -> None:
    assert covers(outer, inner, "/") is (names_of(inner) <= names_of(outer))


@given(patterns())
def test_a_pattern_is_within_itself(pattern: str) -> None:
    assert covers(pattern, pattern, "/")


@given(patterns(), patterns(), patterns())
def test_within_is_transitive(one: str, two: str, three: str) -> None:
    if covers(one, two, "/") and covers(two, three, "/"):
        assert covers(one, three, "/")


def test_resources_are_paths_and_actions_are_dotted() -> None:
    assert resource_covered("database/orders", ["http/**", "database/*"])
    assert not resource_covered("database.orders", ["database/*"])
    assert action_covered("rows.create", ["read", "rows.*"])
    assert not action_covered("rows", ["rows.*"])
    assert action_covered("pods/exec", ["pods/*"])
    assert action_covered("pods/exec", ["*"])
    assert action_covered("s3:GetObject", ["s3:Get*"])
    assert action_covered("Microsoft.Compute/virtualMachines/start/action", ["Microsoft.Compute/*"])
    assert not action_covered("Microsoft.Compute/images/x.y", ["Microsoft.Compute/*"])
    assert not action_covered("s3:GetObject", ["s3:Put*"])
    assert not action_covered("rows.create", [])


@settings(max_examples=examples(40), deadline=None)
@given(left=patterns(), right=patterns())
def test_patterns_overlap_where_some_name_matches_both(left: str, right: str) -> None:
    both = names_of(left) & names_of(right)

    assert overlap(left, right, "/") == bool(both) == overlap(right, left, "/")


@settings(max_examples=examples(40), deadline=None)
@given(pattern=patterns(), prefix=patterns().filter(lambda text: not text.endswith("**")))
def test_a_pattern_reaches_into_a_prefix_where_it_matches_something_of_it(pattern: str, prefix: str) -> None:
    assert reaches_into(pattern, prefix) is bool(names_of(pattern) & (names_of(prefix) | names_of(f"{prefix}/**")))


@settings(max_examples=examples(40), deadline=None)
@given(several=st.lists(patterns(), max_size=4), names=st.lists(st.sampled_from(NAMES), max_size=50))
def test_several_patterns_prepared_match_what_one_of_them_covers(several: list[str], names: list[str]) -> None:
    prepared = Patterns(several, "/")

    for name in names:
        assert prepared.match(name) == any(name in names_of(pattern) for pattern in several)


@settings(max_examples=examples(40), deadline=None)
@given(left=patterns(), right=patterns())
def test_prepared_patterns_overlap_and_cover_as_each_does(left: str, right: str) -> None:
    assert Patterns([left], "/").overlap(Patterns([right], "/")) is overlap(left, right, "/")
    assert Patterns([left], "/").cover_one_of(Patterns([right], "/")) is covers(left, right, "/")


@pytest.mark.parametrize("left", ACTIONS)
@pytest.mark.parametrize("right", ACTIONS)
def test_prepared_actions_overlap_as_each_does(left: str, right: str) -> None:
    assert Patterns([left], ".").overlap(Patterns([right], ".")) is overlap(left, right, ".")
