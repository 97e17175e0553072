"""What is proposed for a name that there is not."""

from __future__ import annotations

import pytest

from jitaccess.naming.suggestion import closest, did_you_mean

KNOWN = ("max_uses", "max_duration", "steps", "step", "labels")


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("max_durations", "max_duration"),
        ("max", "max_duration"),
        ("lables", "labels"),
        ("stepped", "step"),
        ("stpes", "steps"),
        ("colour", ""),
        ("", ""),
        # Seven letters of ten are enough, fewer are not.
        ("labelled_by", ""),
    ],
)
def test_the_name_that_is_most_alike_is_proposed_and_an_abbreviation_first(given: str, meant: str) -> None:
    assert closest(given, KNOWN) == meant


def test_names_that_are_alike_but_not_alike_enough_are_not_proposed() -> None:
    assert closest("abcdefghij", ["abcdefgxyz"]) == "abcdefgxyz"
    assert closest("abcdefghij", ["abcdefwxyz"]) == ""


def test_a_proposal_is_put_as_a_question() -> None:
    assert did_you_mean("lables", KNOWN) == "; did you mean labels?"
    assert did_you_mean("colour", KNOWN) == ""
