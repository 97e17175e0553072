"""Vulnerable twins: names and patterns with one bug sown into each, which a test must catch."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from jit_service.domain.language import name
from jitaccess.naming import names, pattern
from tests.domain.checks import test_decision
from tests.domain.grants import test_request
from tests.domain.language import test_name
from tests.domain.test_sown_bugs import Twin, demand_caught
from tests.domain.tokens import test_token
from tests.naming import test_pattern

TWINS = [
    # Patterns
    Twin(
        "a ** that matches zero segments",
        pattern._covers,
        "len(inner) > len(fixed)",
        "len(inner) >= len(fixed)",
        test_decision.test_a_grant_of_patterns_allows_what_they_cover,
    ),
    Twin(
        "a * that matches several segments",
        pattern._covers,
        "len(outer) != len(inner)",
        "len(outer) > len(inner)",
        test_decision.test_a_grant_of_part_of_a_path_gives_nothing_below_it,
    ),
    Twin(
        "a * that covers **",
        pattern._covers,
        ' or inner[-1] == "**"',
        "",
        test_request.test_a_request_for_a_pattern_must_be_within_the_policys,
    ),
    Twin(
        "a comparison blind to letter case",
        pattern._covered,
        "pattern == name or",
        "pattern.lower() == name.lower() or",
        test_decision.test_letter_case_counts_in_checks,
    ),
    Twin(
        "a * at the end of a segment that goes on beyond it",
        pattern.covers,
        "if outer == inner:",
        'if outer == inner or (outer[-2:-1] == "-" and inner.startswith(outer[:-1])):',
        test_decision.test_a_grant_of_the_beginning_of_a_segment_ends_with_the_segment,
    ),
    Twin(
        "a deny of prod-* that nobody applies",
        pattern._each_covers,
        'left.endswith("*") and right.startswith(left[:-1])',
        "False",
        test_decision.test_a_deny_of_the_beginning_of_a_segment_denies_whatever_begins_so,
    ),
    Twin(
        "a prod-* that covers *",
        pattern._each_covers,
        "right.startswith(left[:-1])",
        '(right.startswith(left[:-1]) or right == "*")',
        lambda: test_pattern.test_what_a_pattern_covers("k8s/prod-*", "k8s/*", expected=False),
    ),
    Twin(
        "a prod-* that covers a shorter beginning",
        pattern._each_covers,
        "right.startswith(left[:-1])",
        "(right.startswith(left[:-1]) or left.startswith(right[:-1]))",
        lambda: test_pattern.test_what_a_pattern_covers("k8s/prod-eu-*", "k8s/prod-*", expected=False),
    ),
    Twin(
        "a deny of prod-* that a token goes past",
        pattern._meet,
        "return right.startswith(begun) or",
        "return False and right.startswith(begun) or",
        lambda: test_token.test_a_deny_that_reaches_into_a_part_denies_the_token(("database/ord*/*",)),
    ),
    # Names
    Twin(
        "a * within a segment",
        names._check_pattern,
        '"*" in segment[:-1]',
        "False",
        lambda: test_name.test_a_star_that_does_not_end_its_segment_is_refused_with_what_is_allowed(
            name.resource_pattern, "database/x*y"
        ),
    ),
    Twin(
        "a word of two scripts",
        names._check_words,
        "len(scripts) > 1",
        "len(scripts) > 2",
        lambda: test_name.test_what_is_no_resource(name.resource, "database/p\u0430ypal"),
    ),
    Twin(
        "a word with the digits of another script",
        names._check_words,
        "if not digit.isascii()",
        "if False",
        lambda: test_name.test_what_is_no_resource(name.resource, "database/a\u09ea"),
    ),
    Twin(
        "a number in the digits of two scripts",
        names._check_words,
        "for digit in digits}) > 1",
        "for digit in digits}) > 2",
        lambda: test_name.test_what_is_no_resource(name.resource, "database/1\u09ea"),
    ),
    Twin(
        "a filler that nobody sees",
        names._check_text,
        "or _DECEPTIVE.match(character)",
        "",
        lambda: test_name.test_what_is_no_resource(name.resource, "database/a\ufe0f"),
    ),
    Twin(
        "two names of one path",
        names.resource_pattern,
        'segments[0] == "http" and',
        "False and",
        lambda: test_name.test_what_is_no_resource(name.resource, "http/host/%61"),
    ),
    Twin(
        "a way up behind a backslash",
        names._check_segment,
        '.split("\\\\")',
        '.split("/")',
        lambda: test_name.test_what_is_no_resource(name.resource, "database/a\\..\\b"),
    ),
    Twin(
        "a space that nobody sees",
        names._check_text,
        'or text.endswith(" ")',
        "",
        lambda: test_name.test_what_is_no_resource(name.resource, "database/a "),
    ),
    Twin(
        "a group that is read as a pattern",
        names.group,
        'if "*" in name:',
        "if False:",
        lambda: test_name.test_what_is_no_group("team-*"),
    ),
]


@pytest.mark.parametrize("twin", TWINS, ids=lambda twin: twin.name)
def test_no_twin_survives(twin: Twin, monkeypatch: pytest.MonkeyPatch) -> None:
    demand_caught(twin, monkeypatch)


def test_each_twin_has_its_own_bug() -> None:
    assert len({(twin.function, twin.sound, twin.bug) for twin in TWINS}) == len(TWINS)


@pytest.mark.parametrize("caught_by", dict.fromkeys(twin.caught_by for twin in TWINS))
def test_what_catches_a_twin_passes_without_it(caught_by: Callable[[], None]) -> None:
    caught_by()
