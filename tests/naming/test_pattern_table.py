"""The table finds by a name just the patterns that cover it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jitaccess.naming import pattern_table
from jitaccess.naming.pattern import covers
from jitaccess.naming.pattern_table import PatternTable
from tests.domain.test_sown_bugs import Twin, sown

_WORDS = st.sampled_from(["a", "b", "ab", "abc"])
_NAMES = st.lists(_WORDS, min_size=1, max_size=4).map("/".join)
_SEGMENTS = st.one_of(_WORDS, st.just("*"))
_PATTERNS = st.builds(
    lambda segments, rest: "/".join([*segments, *rest]),
    st.lists(_SEGMENTS, min_size=1, max_size=3),
    st.sampled_from([[], ["**"]]),
)


def found(patterns: list[str], name: str) -> list[str]:
    table: PatternTable[str] = PatternTable("/")
    for pattern in patterns:
        table.add(pattern, pattern)
    return sorted(table.matching(name))


@given(st.lists(_PATTERNS, unique=True), _NAMES)
def test_a_name_finds_the_patterns_that_cover_it_and_no_other(patterns: list[str], name: str) -> None:
    assert found(patterns, name) == sorted(pattern for pattern in patterns if covers(pattern, name, "/"))


def test_a_name_finds_itself() -> None:
    assert found(["a/b", "a/c"], "a/b") == ["a/b"]


def test_the_rest_is_at_least_one_segment() -> None:
    assert found(["a/**"], "a") == []
    assert found(["a/**"], "a/b/c") == ["a/**"]


def test_the_beginning_of_a_segment_stands_for_all_that_begins_so() -> None:
    assert found(["a/prod-*", "a/*", "a/test-*"], "a/prod-eu") == ["a/*", "a/prod-*"]
    assert found(["a/prod-*/x"], "a/prod-eu/y") == []


TWINS = [
    Twin(
        "all the rest is nothing too",
        PatternTable.matching,
        "for value in node.ends",
        "for value in node.ends + node.rest",
        test_the_rest_is_at_least_one_segment,
    ),
    Twin(
        "a beginning is all of a segment",
        pattern_table._Node.below,
        "segment[:length] for length in range(len(segment) + 1)",
        "segment for _ in range(1)",
        test_the_beginning_of_a_segment_stands_for_all_that_begins_so,
    ),
]


@pytest.mark.parametrize("twin", TWINS, ids=lambda twin: twin.name)
def test_no_twin_survives(twin: Twin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(twin.function, "__code__", sown(twin))

    with pytest.raises(AssertionError):
        twin.caught_by()
