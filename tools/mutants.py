"""Mutation testing of the pure domain: changes one thing at a time, and reports whether a test notices.

mutmut makes the mutants, in a copy in .data/mutants/work; tests/mutants/judging.py judges them there. Each verdict is
kept in .data/mutants/verdicts.jsonl as soon as it is there, so a run can be stopped and taken up again, and the next
run judges only what changed. A mutant that survives must be explained in tests/mutants/explained.toml. When all of the
domain is judged the result is written to docs/mutants.md. Exits with 1 where a mutant is neither killed nor explained,
where fewer than 95 % are killed, where an explanation fits no mutant that survived, or where the tests fail by
themselves.
"""

from __future__ import annotations

import argparse
import difflib
import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import chdir
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import libcst as cst
import libcst.matchers as m
from mutmut.mutation.file_mutation import MutatedFile, mutate_file_contents

from tests.mutants.verdicts import Verdicts

ROOT = Path(__file__).parent.parent
# What is mutated: the pure rules of the service, and those it shares with its clients.
RULES = (Path("jit_service/domain"), Path("clients/python/jitaccess/naming"))
CLIENT = Path("clients/python")
TESTS = (Path("tests/domain"), Path("tests/naming"))
EXPLAINED = Path("tests/mutants/explained.toml")
PAGE = Path("docs/mutants.md")
KILLED_AT_LEAST = 0.95
# The state machines' tests take longer than all others together.
NOT_JUDGES = ("test_grant_machine.py", "test_lifecycle_machine.py")
# These tests edit the source of functions, which mutmut has changed here.
NOR_JUDGE = "not twin and not sown_bug"
COPIED = ("jit_service", "clients/python/jitaccess", "tests", "docs", "envoy", "examples", "proto", "tools")
CONFIGURATION = """\
[tool.mutmut]
source_paths = ["jit_service", "jitaccess"]
track_dependencies = false

[tool.pytest.ini_options]
markers = ["native_only: x", "requirement(*ids): x"]
"""
OPTIONS = ["-q", "-p", "no:cacheprovider", "-p", "tests.mutants.judging", "-k", NOR_JUDGE]


@dataclass(frozen=True)
class Mutant:
    """One change of one function: its lines `was` became `becomes`."""

    name: str
    source: str
    was: str
    becomes: str

    @property
    def function(self) -> str:
        """`module.function` or `module.Class.method`."""
        module, _, name = self.name.partition("__mutmut_")[0].rpartition(".")
        name = name.removeprefix("x_") if "ǁ" not in name else name.removeprefix("xǁ").replace("ǁ", ".")
        return f"{module.rpartition('.')[2]}.{name.replace('.property_', '.')}"

    @property
    def module(self) -> str:
        return self.function.partition(".")[0]


@dataclass
class Result:
    """The verdict on each mutant: `killed`, `timeout`, `survived`, or `not judged`; and why it may survive."""

    mutants: Sequence[Mutant]
    statuses: Mapping[str, str]
    whys: dict[str, str] = field(default_factory=dict)
    idle: list[str] = field(default_factory=list)
    """The explanations that match no surviving mutant."""

    def of(self, mutant: Mutant) -> str:
        return self.statuses.get(mutant.name, "not judged")

    def survivors(self) -> list[Mutant]:
        return [mutant for mutant in self.mutants if self.of(mutant) == "survived"]

    def unexplained(self) -> list[Mutant]:
        return [mutant for mutant in self.survivors() if mutant.name not in self.whys]

    def counts(self, module: str = "") -> dict[str, int]:
        """Returns how many there are of each kind; of all modules, if none is named."""
        mutants = [mutant for mutant in self.mutants if module in ("", mutant.module)]
        by_status = Counter(self.of(mutant) for mutant in mutants)
        explained = sum(mutant.name in self.whys for mutant in mutants)
        return {
            "mutants": len(mutants),
            "killed": by_status["killed"],
            "timeout": by_status["timeout"],
            "explained": explained,
            "unexplained": by_status["survived"] - explained,
            "not judged": by_status["not judged"],
        }

    def share_killed(self) -> float:
        counts = self.counts()
        return (counts["killed"] + counts["timeout"]) / max(counts["mutants"], 1)

    def is_good(self) -> bool:
        counts = self.counts()
        few = counts["unexplained"] or counts["not judged"] or self.idle
        return not few and self.share_killed() >= KILLED_AT_LEAST


class _PropertiesAsFunctions(cst.CSTTransformer):
    """Writes `@property` methods so that mutmut mutates them: it leaves alone whatever is decorated."""

    def leave_FunctionDef(
        self, original_node: cst.FunctionDef, updated_node: cst.FunctionDef
    ) -> cst.FunctionDef | cst.FlattenSentinel[cst.BaseStatement]:
        if [m.matches(one.decorator, m.Name("property")) for one in original_node.decorators] != [True]:
            return updated_node
        name = f"property_{original_node.name.value}"
        plain = updated_node.with_changes(name=cst.Name(name), decorators=[])
        made = cst.parse_statement(f"{original_node.name.value} = property({name})")
        return cst.FlattenSentinel([plain, made])

    def visit_ClassDef(self, node: cst.ClassDef) -> bool:
        return not any(m.matches(base.value, m.Name("Protocol")) for base in node.bases)


@dataclass(frozen=True)
class Workshop:
    """A repository, and the folder in it where its mutants are made and judged."""

    root: Path = ROOT

    @property
    def out(self) -> Path:
        return self.root / ".data" / "mutants"

    @property
    def work(self) -> Path:
        return self.out / "work"

    @property
    def verdicts(self) -> Path:
        return self.out / "verdicts.jsonl"

    def modules(self, names: Sequence[str]) -> list[Path]:
        """Returns the modules of the rules, or those with these names, of which a package is all that is in it."""
        found = sorted(path.relative_to(self.root) for rules in RULES for path in (self.root / rules).rglob("*.py"))
        found = [path for path in found if path.stem != "__init__"]
        if twice := [stem for stem, count in Counter(path.stem for path in found).items() if count > 1]:
            sys.exit(f"two modules have one name, so that explanations would mix them up: {', '.join(twice)}")
        wanted = {name: [path for path in found if name in (path.stem, path.parent.name)] for name in names}
        if missing := [name for name, paths in wanted.items() if not paths]:
            sys.exit(f"no such module: {', '.join(missing)}")
        return sorted({path for paths in wanted.values() for path in paths}) if names else found

    def judges(self) -> list[str]:
        """Returns the test files in `work` that judge mutants."""
        found = (path for tests in TESTS for path in (self.work / tests).rglob("test_*.py"))
        paths = sorted(path.relative_to(self.work) for path in found)
        return [str(path) for path in paths if path.name not in NOT_JUDGES]

    def prepare(self, modules: Sequence[Path]) -> list[Mutant]:
        """Copies what the tests need to `work`, which it starts anew, and writes the mutants of the modules there."""
        shutil.rmtree(self.work, ignore_errors=True)
        for name in COPIED:
            if (self.root / name).exists():
                ignored = shutil.ignore_patterns("__pycache__", "soak", "typescript")
                shutil.copytree(self.root / name, self.work / _as_imported(Path(name)), ignore=ignored)
        (self.work / "pyproject.toml").write_text(CONFIGURATION)
        # mutmut reads its configuration where it runs.
        with chdir(self.work):
            return [mutant for path in modules for mutant in _mutate(_as_imported(path))]

    def judge(self, mutants: Sequence[Mutant], *, processes: int = 2, seconds: float = 5) -> int:
        """Has pytest judge the mutants without a verdict that stands, and returns its exit code."""
        plan = self.work / "plan.json"
        names = [[mutant.name, mutant.source] for mutant in mutants]
        told = {"verdicts": str(self.verdicts), "processes": processes, "seconds": seconds, "mutants": names}
        plan.write_text(json.dumps(told))
        environment = {**os.environ, "PYTHONHASHSEED": "0", "MUTANTS_PLAN": str(plan), "PYTHONPATH": str(self.work)}
        environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
        # What a mutant breaks may be seen by one example in hundreds.
        environment |= {"TIMES": "3", "EXAMPLES": "50"}
        command = [sys.executable, "-m", "pytest", *OPTIONS, *self.judges()]
        ran = subprocess.run(command, cwd=self.work, env=environment, stdout=subprocess.PIPE, text=True)
        if ran.returncode:
            print(ran.stdout)
        return ran.returncode

    def result(self, mutants: Sequence[Mutant]) -> Result:
        """Returns the verdicts on the current mutants."""
        verdicts = Verdicts(self.verdicts)
        return Result(mutants, {mutant.name: verdicts.status(mutant.name, mutant.source) for mutant in mutants})


def _as_imported(path: Path) -> Path:
    """Returns where a path of the repository stands in the work folder, from which all packages are imported."""
    return path.relative_to(CLIENT) if path.is_relative_to(CLIENT) else path


def _mutate(path: Path) -> Iterator[Mutant]:
    """Writes the module with its mutants in place of the one in the current folder, and yields them."""
    code = cst.parse_module(path.read_text()).visit(_PropertiesAsFunctions()).code
    made = mutate_file_contents(str(path), code)
    path.write_text(made.code)
    lines = made.code.splitlines()
    module = ".".join(path.with_suffix("").parts)
    for name in made.mutant_names:
        function = name.partition("__mutmut_")[0]
        was, becomes = _change(_lines(lines, made, f"{function}__mutmut_orig"), _lines(lines, made, name))
        # Another mutmut may number its mutants otherwise.
        source = f"{version('mutmut')}:{made.hash_by_function_name[function]}"
        yield Mutant(f"{module}.{name}", source, was, becomes)


def _lines(lines: Sequence[str], made: MutatedFile, name: str) -> list[str]:
    """Returns the lines of the function in the mutated module, where it has another name."""
    span = made.line_span_by_function_name[name]
    return [line.strip().replace(f"{name}(", "(") for line in lines[span.start - 1 : span.end]]


def _change(was: Sequence[str], becomes: Sequence[str]) -> tuple[str, str]:
    """Returns the lines that only the original has, and those that only the mutant has."""
    removed, added = [], []
    for line in difflib.ndiff(was, becomes):
        (removed if line.startswith("- ") else added if line.startswith("+ ") else []).append(line[2:])
    return "\n".join(removed), "\n".join(added)


def explain(result: Result, told: Mapping[str, Any]) -> Result:
    """Returns the result with the given reasons for surviving mutants.

    A reason is for one mutant (`survivor`), for all of a function (`function`), for all of whatever line begins so
    (`line`), or for a replacement wherever it is made (`everywhere`).
    """
    single = {(one["function"], one["was"], one["becomes"]): one["why"] for one in told.get("survivor", [])}
    functions = {one["function"]: one["why"] for one in told.get("function", [])}
    lines = [(one["begins"], one["why"]) for one in told.get("line", [])]
    everywhere = [(one["was"], one["becomes"], one["why"]) for one in told.get("everywhere", [])]
    used: set[object] = set()
    for mutant in result.survivors():
        key = (mutant.function, mutant.was, mutant.becomes)
        general = [why for begins, why in lines if mutant.was.startswith(begins)]
        general += [why for was, to, why in everywhere if was in mutant.was and mutant.was.replace(was, to) == key[2]]
        if why := single.get(key) or functions.get(mutant.function) or next(iter(general), None):
            used |= {key, mutant.function}
            result.whys[mutant.name] = why
    modules = {mutant.module for mutant in result.mutants}
    result.idle = [f"{key[0]}: {key[1]}" for key in single if key not in used and key[0].partition(".")[0] in modules]
    result.idle += [name for name in functions if name not in used and name.partition(".")[0] in modules]
    return result


def table(result: Result) -> list[str]:
    """Returns a Markdown table with a row for each module and one for all."""
    total = result.counts()
    rows = [(name, result.counts(name)) for name in sorted({mutant.module for mutant in result.mutants})]
    lines = ["| module | " + " | ".join(total) + " |", "| --- |" + " ---: |" * len(total)]
    return lines + [f"| {name} | " + " | ".join(map(str, row.values())) + " |" for name, row in [*rows, ("all", total)]]


def report(result: Result) -> str:
    """Returns the open mutants with their changes, as text for a developer."""
    lines = ["# Mutants", "", *table(result), "", f"## Unexplained: {len(result.unexplained())}"]
    for mutant in result.unexplained():
        changes = [f"-{line}" for line in mutant.was.splitlines()] + [
            f"+{line}" for line in mutant.becomes.splitlines()
        ]
        lines += ["", f"{mutant.function} (`{mutant.name}`)", "```diff", *changes, "```"]
    lines += ["", f"## Explanations that fit nothing: {len(result.idle)}", "", *[f"- {one}" for one in result.idle]]
    return "\n".join(lines) + "\n"


PROSE = """\
# Mutants

`make mutants` changes the pure domain, and the rules of names that clients share, one thing at a time with mutmut, and
asks whether a test notices; `make mutants MODULES="decision grants"` does so for some modules or packages of them.
tests/domain and tests/naming judge, but for the machines and the sown bugs; hypothesis is derandomized. All tests run
once without a mutant, and must pass; then each mutant is judged by the tests that reach its function, until one fails
or takes 20 times as long as it should.

`.data/mutants/verdicts.jsonl` keeps each verdict. A run can be stopped and taken up again, and the next one judges only
what changed: a mutant stays killed while its function and the test that killed it have the same source, and one that
survived is judged again by new and changed tests alone. That does not look at what other functions and the helpers of
tests do; `make mutants ARGS=--afresh` judges everything anew. `.data/mutants/report.md` lists what is open.

It exits with 0 where all are judged, at least 95 % are killed, and tests/mutants/explained.toml explains each of the
others.

Not mutated: constants and tables outside functions, default values of fields, decorated functions other than
properties, and jit_service/check.
"""


def page(result: Result, day: str) -> str:
    """Returns the published page."""
    whys = Counter(result.whys.values())
    lines = [
        f"## Result of {day}, mutmut {version('mutmut')}",
        f"{result.share_killed():.1%} of {len(result.mutants)} mutants are killed; the others are explained.",
        "",
        *table(result),
        "",
        "## Why the others may survive",
        "| mutants | because |",
        "| ---: | --- |",
        *[f"| {count} | {why} |" for why, count in sorted(whys.items(), key=lambda one: (-one[1], one[0]))],
    ]
    return PROSE + "\n" + "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("modules", nargs="*", help="modules or packages of the rules; all of them by default")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--afresh", action="store_true", help="forget all verdicts first")
    parser.add_argument("--report", action="store_true", help="judge nothing; tell what is known")
    arguments = parser.parse_args()
    workshop = Workshop()
    if arguments.afresh:
        workshop.verdicts.unlink(missing_ok=True)
    mutants = workshop.prepare(workshop.modules(arguments.modules))
    if not arguments.report and (code := workshop.judge(mutants, processes=arguments.processes)):
        sys.exit(f"the judges ended with {code}")
    result = explain(workshop.result(mutants), tomllib.loads((ROOT / EXPLAINED).read_text()))
    (workshop.out / "report.md").write_text(report(result))
    print("\n".join(table(result)))
    print(f"{len(result.unexplained())} unexplained, {len(result.idle)} idle explanations; see .data/mutants/report.md")
    if not result.is_good():
        sys.exit(1)
    if not arguments.modules:
        (ROOT / PAGE).write_text(page(result, f"{datetime.now(UTC):%Y-%m-%d}"))


if __name__ == "__main__":
    main()
