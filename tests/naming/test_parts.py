"""A single segment, a name in its one spelling, and JSON numbers, as the service and its clients take them."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from jitaccess.naming import names
from jitaccess.naming.json_numbers import with_whole_numbers
from jitaccess.naming.names import BadName
from jitaccess.naming.pattern import Patterns


@pytest.mark.parametrize(("text", "canonical"), [("eu", "eu"), ("e\u0301", "\u00e9"), ("a b", "a b"), ("100%", "100%")])
def test_a_segment_is_kept_in_its_one_spelling(text: str, canonical: str) -> None:
    assert names.segment(text) == canonical


@pytest.mark.parametrize("text", ["a\\b", "a%2fb", "%2e"])
def test_a_segment_that_could_be_read_as_another_path_is_refused(text: str) -> None:
    fault = f"{names.shown(text)} holds a \\ or a percent code, which could mean another path"

    with pytest.raises(BadName, match=f"^{re.escape(fault)}$"):
        names.segment(text)


@pytest.mark.parametrize("text", ["", "a/b", "..", "*", "a\0b"])
def test_what_is_no_segment_of_a_resource_is_no_segment(text: str) -> None:
    with pytest.raises(BadName):
        names.segment(text)


def test_a_fault_of_a_segment_shows_it() -> None:
    with pytest.raises(BadName, match="'a/b'"):
        names.segment("a/b")


@pytest.mark.parametrize(
    ("text", "resource", "action"),
    [
        ("database/orders", True, True),
        ("rows.create", False, True),
        ("read", False, True),
        ("e\u0301/a", False, False),
        ("a/*/b", False, False),
        ("", False, False),
        ("a//b", False, False),
        ("a/*", False, False),
        ("a.*", False, False),
    ],
)
def test_a_text_is_a_name_where_it_is_the_one_spelling_of_it(text: str, resource: bool, action: bool) -> None:
    assert names.is_resource(text) is resource
    assert names.is_action(text) is action


@pytest.mark.parametrize(
    ("given", "written"),
    [
        (2.0, "2"),
        (2.5, "2.5"),
        (True, "True"),
        ("2.0", "'2.0'"),
        (None, "None"),
        ([2.0, [3.0]], "[2, [3]]"),
        ({"a": 2.0, "b": {"c": -0.0}}, "{'a': 2, 'b': {'c': 0}}"),
        (float("inf"), "inf"),
    ],
)
def test_a_whole_number_is_written_as_one(given: object, written: str) -> None:
    assert repr(with_whole_numbers(given)) == written


def test_a_text_is_shown_in_ascii_and_as_far_as_it_is_short() -> None:
    assert names.shown("\u00e9") == r"'\xe9'"
    assert names.shown("a" * 80) == f"'{'a' * 80}'"
    assert names.shown("a" * 77 + "bcde") == f"'{'a' * 77}...'"


@pytest.mark.parametrize("pattern", [names.resource_pattern, names.action_pattern])
def test_a_name_has_at_most_64_segments(pattern: Callable[[str], str]) -> None:
    separator = "/" if pattern is names.resource_pattern else "."

    assert pattern(separator.join(["a"] * 63 + ["*"]))
    with pytest.raises(BadName, match="has 65 segments; at most 64 are allowed"):
        pattern(separator.join(["a"] * 64 + ["*"]))


def test_one_word_may_be_of_all_that_east_asia_writes_together() -> None:
    """Latin, Han, ideographic signs, Hiragana, Katakana, Bopomofo, Hangul, and the mark that lengthens vowels."""
    word = "a\u4e00\u3006\u3042\u30a2\u3105\uac00\u30fc"

    assert names.resource(f"database/{word}") == f"database/{word}"


def test_letters_whose_names_nobody_tells_are_of_one_script() -> None:
    """Those of Tangut have none in Python's table."""
    assert names.segment("\U00017000\U00017001") == "\U00017000\U00017001"
    with pytest.raises(BadName, match="mixes the scripts LATIN, UNNAMED in one word"):
        names.segment("a\U00017000")


def test_a_mark_that_composes_with_no_letter_stays() -> None:
    assert names.segment("q\u0308") == "q\u0308"


def test_patterns_hold_the_names_that_are_among_them() -> None:
    patterns = Patterns(["a/b", "a/*", "c/**"], "/")

    assert patterns.hold("a/b")
    assert [patterns.hold(name) for name in ("a/c", "a/*", "c/d")] == [False, False, False]
