"""Regular expressions of policies: RE2, bounded, and matching the whole text."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from jit_service.domain.errors import InvalidField
from jit_service.domain.language.regex import MAX_LENGTH, matches, validate


def fault(act: Callable[[], object]) -> InvalidField:
    with pytest.raises(InvalidField) as raised:
        act()
    return raised.value


@pytest.mark.parametrize("pattern", ["", "[A-Z]+-[0-9]+", "(?i)fix .*", "é+", r"\p{Greek}+"])
def test_an_re2_expression_is_returned_as_it_is(pattern: str) -> None:
    assert validate(pattern, "justification.pattern") == pattern


@pytest.mark.parametrize("pattern", ["(", "[", "*", "(?=x)", r"(a)\1", "(?<!x)y", "a{2000}"])
def test_what_re2_cannot_compile_is_refused_in_its_words(pattern: str) -> None:
    error = fault(lambda: validate(pattern, "justification.pattern"))

    assert error.field == "justification.pattern"
    assert error.fault.startswith("is not an RE2 expression: ")
    assert "b'" not in error.fault


def test_the_fault_is_told() -> None:
    assert fault(lambda: validate("(", "pattern")).message == "pattern: is not an RE2 expression: missing ): ("


def test_an_expression_has_at_most_512_characters() -> None:
    assert validate("a" * 512, "pattern") == "a" * 512
    assert fault(lambda: validate("a" * 513, "pattern")).fault == "has 513 characters; at most 512 are allowed"
    assert MAX_LENGTH == 512


def test_an_expression_that_would_take_too_much_memory_is_refused() -> None:
    assert fault(lambda: validate("(((a{100}){10}){10}){10}", "pattern")).fault.startswith("is not an RE2 expression")


def test_an_expression_must_match_the_whole_text() -> None:
    assert matches("[A-Z]+-[0-9]+", "OPS-7")
    assert not matches("[A-Z]+-[0-9]+", "OPS-7x")
    assert not matches("[A-Z]+-[0-9]+", "xOPS-7")
    assert not matches("[A-Z]+-[0-9]+", "OPS-7\n")
    assert not matches("[A-Z]+-[0-9]+", "")


def test_an_alternative_must_match_the_whole_text_too() -> None:
    assert matches("a|ab", "ab")
    assert not matches("a|b", "ab")


def test_case_counts_unless_the_expression_says_otherwise() -> None:
    assert not matches("ops-[0-9]+", "OPS-7")
    assert matches("(?i)ops-[0-9]+", "OPS-7")


def test_a_text_of_several_lines_is_one_text() -> None:
    """People write lines, and browsers end them with two characters; a policy that wants one line says so."""
    assert matches(".{20,}", "restore orders 7 to 9\nafter the failed import")
    assert matches("fix .* end", "fix\r\nto the\r\n end") is False
    assert matches("fix.* end", "fix\r\nto the\r\n end")
    assert not matches("(?-s).{20,}", "restore orders 7 to 9\nafter the failed import")
    assert not matches("[A-Z]+-[0-9]+", "OPS-7\nOPS-8")
    assert not matches("^a$", "a\nb")


def test_a_text_that_stalls_backtracking_engines_is_answered() -> None:
    """With backtracking this takes 2**4096 steps: the test would never end."""
    assert not matches("(a+)+b", "a" * 4096)


def test_an_expression_with_a_control_character_is_refused_by_the_name_of_its_field() -> None:
    assert fault(lambda: validate("a\x00b", "justification.pattern")).field == "justification.pattern"
