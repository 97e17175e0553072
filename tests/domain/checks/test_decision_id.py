"""The ids of decisions: UUIDs of version 7 that tell when, and otherwise nothing."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from uuid import RFC_4122, UUID, uuid4

import pytest

from jit_service.domain.checks.decision_id import decided_at, decision_ids
from tests.domain.factories import NOON, TICK

MILLISECOND = timedelta(milliseconds=1)
AN_ID = decision_ids(1, at=NOON)[0]


@pytest.mark.parametrize("count", [0, 1, 2, 100])
def test_there_are_as_many_ids_as_decisions_and_no_two_are_the_same(count: int) -> None:
    assert len(set(decision_ids(count, at=NOON) + decision_ids(count, at=NOON))) == 2 * count


def test_an_id_is_a_uuid_of_version_7_that_begins_with_the_milliseconds_since_1970() -> None:
    for text in decision_ids(100, at=NOON):
        found = UUID(text)
        assert (str(found), found.version, found.variant) == (text, 7, RFC_4122)
        assert found.int >> 80 == int(NOON.timestamp()) * 1000


def test_an_id_tells_the_instant_of_its_decision_cut_to_a_millisecond() -> None:
    told = [decided_at(decision_ids(1, at=at)[0]) for at in (NOON - TICK, NOON, NOON + MILLISECOND - TICK)]

    assert told == [NOON - MILLISECOND, NOON, NOON]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a decision of somebody else",
        str(uuid4()),
        AN_ID.upper().replace("0", "A"),
        f"{AN_ID} ",
        AN_ID.replace("-", ""),
        f"{AN_ID[:19]}c{AN_ID[20:]}",
    ],
    ids=["empty", "words", "version 4", "capitals", "longer", "without lines", "another variant"],
)
def test_what_is_no_such_id_tells_no_instant(text: str) -> None:
    assert decided_at(text) is None


def test_nothing_but_the_instant_can_be_told_of_an_id() -> None:
    """Each digit has all its values beside each value of the digit before. One is missing once in 10^10 runs."""
    drawn = [text.replace("-", "")[13:] for text in decision_ids(8000, at=NOON)]

    for before, after in pairwise(range(19)):
        values = [4 if place == 3 else 16 for place in (before, after)]
        assert len({(digits[before], digits[after]) for digits in drawn}) == values[0] * values[1]
