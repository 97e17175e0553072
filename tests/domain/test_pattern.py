"""Patterns: `*` is one segment, `**` one or more at the end, and nothing else is special."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jit_service.domain.pattern import Names, action_covered, covers, overlap, resource_covered

ALPHABET = ("a", "b")
NAMES = ["/".join(name) for size in range(1, 5) for name in itertools.product(ALPHABET, repeat=size)]
SEGMENTS = st.sampled_from((*ALPHABET, "*"))


@st.composite
def patterns(draw: st.DrawFn) -> str:
    segments = draw(st.lists(SEGMENTS, max_size=3))
    last = draw(st.sampled_from((*ALPHABET, "*", "**")))
    return "/".join([*segments, last])


def matches(pattern: str, name: str) -> bool:
    """The rule again, by recursion over segments."""

    def rest(wanted: list[str], given_: list[str]) -> bool:
        if wanted == ["**"]:
            return bool(given_)
        if not wanted or not given_:
            return wanted == given_
        return wanted[0] in ("*", given_[0]) and rest(wanted[1:], given_[1:])

    return rest(pattern.split("/"), name.split("/"))


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
    ],
)
def test_what_a_pattern_covers(pattern: str, name: str, expected: bool) -> None:
    assert covers(pattern, name, "/") is expected


@given(patterns(), st.sampled_from(NAMES))
def test_a_pattern_covers_a_name_as_the_rule_says(pattern: str, name: str) -> None:
    assert covers(pattern, name, "/") is matches(pattern, name)


@given(patterns(), patterns())
def test_a_pattern_is_within_another_when_all_its_names_are(outer: str, inner: str) -> None:
    deep = ["/".join(name) for size in range(1, 7) for name in itertools.product(("a", "b", "c"), repeat=size)]
    every = all(matches(outer, name) for name in deep if matches(inner, name))

    assert covers(outer, inner, "/") is every


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
    assert not action_covered("rows.create", [])


@given(left=patterns(), right=patterns())
def test_patterns_overlap_where_some_name_matches_both(left: str, right: str) -> None:
    both = [name for name in NAMES if matches(left, name) and matches(right, name)]

    assert overlap(left, right, "/") == bool(both) == overlap(right, left, "/")


@given(st.lists(patterns(), max_size=4))
def test_several_patterns_prepared_match_what_one_of_them_covers(several: list[str]) -> None:
    prepared = Names(several, "/")

    for name in NAMES:
        assert (name in prepared) == any(covers(pattern, name, "/") for pattern in several)
