"""`make mutants`: what is judged, what a later run takes up again, and what it says in the end."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools"))
from mutants import Mutant, Result, Workshop, explain, page, report  # noqa: E402

AGE = """
def adult(age):
    return age >= 18


def total(n):
    found = 0
    while n:
        found += n
        n -= 1
    return found
"""
TESTS = """
from jit_service.domain.age import adult, total


def test_a_child_is_no_adult():
    assert not adult(17)


def test_adults():
    assert adult(19)


def test_total():
    assert total(2) == 3
"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workshop, Result]:
    """A repository with one module, whose tests miss what is so at the boundary, and what its first run found."""
    root = tmp_path_factory.mktemp("repository")
    files = {
        "jit_service/__init__.py": "",
        "jit_service/domain/__init__.py": "",
        "jit_service/domain/age.py": AGE,
        "tests/__init__.py": "",
        "tests/domain/test_age.py": TESTS,
        "tests/mutants/__init__.py": "",
    }
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for name in ("judging.py", "verdicts.py"):
        shutil.copy(ROOT / "tests" / "mutants" / name, root / "tests" / "mutants" / name)
    workshop = Workshop(root)
    return workshop, run(workshop)


@pytest.fixture
def first(shared: tuple[Workshop, Result]) -> Result:
    return shared[1]


@pytest.fixture
def workshop(shared: tuple[Workshop, Result], tmp_path: Path) -> Workshop:
    """The repository after its first run, to be changed."""
    return Workshop(shutil.copytree(shared[0].root, tmp_path / "repository"))


def run(workshop: Workshop) -> Result:
    mutants = workshop.prepare(workshop.modules([]))
    assert workshop.judge(mutants, seconds=0.3) == 0
    return workshop.result(mutants)


def judged(workshop: Workshop) -> list[str]:
    """Returns the functions of the mutants that were judged, once for each time."""
    lines = map(json.loads, workshop.verdicts.read_text().splitlines())
    return [line["mutant"].rpartition(".")[2].partition("__")[0] for line in lines]


def edit(workshop: Workshop, name: str, was: str, becomes: str) -> None:
    path = workshop.root / name
    assert was in path.read_text()
    path.write_text(path.read_text().replace(was, becomes))


def test_a_mutant_that_no_test_notices_survives_and_the_others_do_not(first: Result) -> None:
    survived = {(mutant.function, mutant.was, mutant.becomes) for mutant in first.survivors()}
    assert survived == {
        ("age.adult", "return age >= 18", "return age > 18"),
        ("age.adult", "return age >= 18", "return age >= 19"),
    }
    assert first.counts()["not judged"] == 0
    assert first.counts()["killed"] > 0
    assert first.counts()["timeout"] > 0, "a loop that a mutant never leaves is ended"


def test_what_is_judged_stays_so(workshop: Workshop, first: Result) -> None:
    written = workshop.verdicts.read_bytes()

    again = run(workshop)

    assert again.counts() == first.counts()
    assert workshop.verdicts.read_bytes() == written


def test_a_run_that_was_stopped_is_taken_up_again(workshop: Workshop, first: Result) -> None:
    """Its last line may be cut off."""
    lines = workshop.verdicts.read_text().splitlines(keepends=True)
    workshop.verdicts.write_text("".join(lines[:3]) + lines[3][:-20])

    assert run(workshop).counts() == first.counts()
    assert workshop.verdicts.read_text().startswith("".join(lines[:3]))


def test_a_changed_function_is_judged_again_and_no_other(workshop: Workshop) -> None:
    before = len(judged(workshop))
    edit(workshop, "jit_service/domain/age.py", "age >= 18", "age >= 18 + 0")

    run(workshop)

    assert set(judged(workshop)[before:]) == {"x_adult"}


def test_a_new_test_is_held_against_what_survived_alone(workshop: Workshop) -> None:
    before = len(judged(workshop))
    edit(
        workshop,
        "tests/domain/test_age.py",
        "def test_total",
        "def test_at_18():\n    assert adult(18)\n\n\ndef test_total",
    )

    result = run(workshop)

    assert result.survivors() == []
    assert judged(workshop)[before:] == ["x_adult", "x_adult"]


def test_what_a_test_killed_is_judged_again_without_that_test(workshop: Workshop) -> None:
    edit(workshop, "tests/domain/test_age.py", "assert not adult(17)", "adult(17)")

    result = run(workshop)

    assert "return age >= 17" not in {mutant.becomes for mutant in result.mutants}
    assert "return age < 18" not in {mutant.becomes for mutant in result.survivors()}
    assert len(result.survivors()) == 2


def test_nothing_is_judged_by_tests_that_fail_by_themselves(workshop: Workshop) -> None:
    workshop.verdicts.unlink()
    edit(workshop, "tests/domain/test_age.py", "assert adult(19)", "assert adult(9)")
    mutants = workshop.prepare(workshop.modules([]))

    assert workshop.judge(mutants) != 0
    assert workshop.result(mutants).counts()["not judged"] == len(mutants)


KILLED = [Mutant(f"jit_service.domain.age.x_old__mutmut_{number}", "s", "a = 1", "a = 2") for number in range(39)]
ALIVE = Mutant("jit_service.domain.age.x_adult__mutmut_1", "s", "return age >= 18", "return age > 18")
WHY = {"function": "age.adult", "was": ALIVE.was, "becomes": ALIVE.becomes, "why": "nobody is 18"}


def _result(*mutants: Mutant, alive: int = 1) -> Result:
    """Returns a result where the last ones are alive."""
    names = [mutant.name for mutant in mutants]
    killed, left = names[: len(names) - alive], names[len(names) - alive :]
    return Result(mutants, dict.fromkeys(killed, "killed") | dict.fromkeys(left, "survived"))


def test_a_result_is_good_when_each_survivor_is_explained() -> None:
    result = explain(_result(*KILLED, ALIVE), {"survivor": [WHY]})

    assert result.is_good()
    assert "| 1 | nobody is 18 |" in page(result, "2026-03-02")
    assert "97.5% of 40 mutants are killed" in page(result, "2026-03-02")


def test_a_replacement_can_be_explained_wherever_it_is_made() -> None:
    everywhere = {"was": ">= 18", "becomes": "> 18", "why": "nobody is 18"}

    assert explain(_result(*KILLED, ALIVE), {"everywhere": [everywhere]}).is_good()


@pytest.mark.parametrize(
    "told", [{"function": [{"function": "age.adult", "why": "w"}]}, {"line": [{"begins": "return age", "why": "w"}]}]
)
def test_all_changes_of_a_function_or_of_such_lines_can_be_explained(told: dict[str, object]) -> None:
    assert explain(_result(*KILLED, ALIVE), told).is_good()


def test_an_explanation_of_a_function_without_survivors_is_shown() -> None:
    result = explain(_result(*KILLED, alive=0), {"function": [{"function": "age.old", "why": "w"}]})

    assert result.idle == ["age.old"]


def test_a_survivor_without_an_explanation_is_shown() -> None:
    result = explain(_result(*KILLED, ALIVE), {})

    assert not result.is_good()
    assert "age.adult (`jit_service.domain.age.x_adult__mutmut_1`)" in report(result)
    assert "-return age >= 18\n+return age > 18" in report(result)


def test_an_explanation_of_what_does_not_survive_is_shown() -> None:
    result = explain(_result(*KILLED, ALIVE), {"survivor": [WHY, WHY | {"was": "return True"}]})

    assert result.idle == ["age.adult: return True"]
    assert not result.is_good()


def test_explanations_do_not_make_up_for_too_few_that_are_killed() -> None:
    result = explain(_result(*KILLED[:18], ALIVE), {"survivor": [WHY]})

    assert result.unexplained() == []
    assert not result.is_good()


def test_a_mutant_that_was_not_judged_is_not_good() -> None:
    result = Result(KILLED, {mutant.name: "killed" for mutant in KILLED[1:]})

    assert not result.is_good()
