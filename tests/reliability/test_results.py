"""What is published: a whole run, or the parts of one beside each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.reliability.results import publish, published
from tests.reliability.trial import Part


def result(part: str, *, seed: int = 1, at: str = "first") -> dict[str, Any]:
    return {"seed": seed, "part": part, "at": at}


def test_every_fault_is_in_one_part() -> None:
    faults = list("abcdefgh")

    parts = [Part(number, 3).of(faults) for number in (1, 2, 3)]

    assert sorted(each for part in parts for each in part) == faults


@pytest.mark.parametrize("text", ["", "x", "0/2", "3/2", "1/0", "1"])
def test_what_is_no_part_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"part|int"):
        Part.parse(text)


def test_a_part_goes_beside_the_others_of_its_run_and_in_place_of_itself(tmp_path: Path) -> None:
    path = tmp_path / "faults.json"

    for each in (result("2/2"), result("1/2"), result("2/2", at="again")):
        publish(each, path)

    assert published(path) == [result("1/2"), result("2/2", at="again")]


@pytest.mark.parametrize("other", [result("1/2", seed=2), result("1/3"), result("1/1")])
def test_another_run_takes_the_place_of_all_parts(tmp_path: Path, other: dict[str, Any]) -> None:
    path = tmp_path / "faults.json"
    publish(result("1/2"), path)
    publish(result("2/2"), path)

    publish(other, path)

    assert published(path) == [other]
