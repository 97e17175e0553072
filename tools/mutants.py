"""Mutation testing of the pure domain: changes one thing of it at a time, and asks whether some test notices.

mutmut makes the mutants and runs the tests; this prepares a copy for it in .data/mutants/work, and judges the result:
a mutant that survives must be explained in tests/mutants/explained.toml. Exits with 1 where one is not, where an
explanation fits no mutant that survived, or where the tests fail without any mutant.
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
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import libcst as cst
import libcst.matchers as m

ROOT = Path(__file__).parent.parent
OUT = ROOT / ".data" / "mutants"
WORK = OUT / "work"
DOMAIN = "jit_service/domain"
EXPLAINED = ROOT / "tests" / "mutants" / "explained.toml"
# The twins edit the source of functions, and the machines take longer than everything else together.
NOT_JUDGES = tuple(
    f"tests/domain/{name}.py"
    for name in ("test_sown_bugs", "grants/test_grant_machine", "grants/test_lifecycle_machine")
)
CONFIGURATION = """\
[tool.mutmut]
source_paths = ["jit_service"]
only_mutate = {mutated}
also_copy = ["envoy", "examples", "proto"]
pytest_add_cli_args = ["-p", "no:xdist", "-p", "no:cacheprovider", "-p", "no:cov", "-p", "tests.mutants.repeatable"]
pytest_add_cli_args_test_selection = {tests}
use_git_change_detection = false
track_dependencies = false

[tool.pytest.ini_options]
timeout = 300
markers = ["native_only: x", "requirement(*ids): x"]
"""


@dataclass(frozen=True)
class Mutant:
    """One change of one function: its lines `was` became `becomes`. `why` it may survive is empty if nobody said."""

    module: str
    name: str
    status: str
    was: str = ""
    becomes: str = ""
    why: str = ""

    @property
    def function(self) -> str:
        """The name without the number, which changes with every other edit."""
        return self.name.rpartition("__mutmut_")[0]


class _PropertiesAsFunctions(cst.CSTTransformer):
    """Writes `@property` methods so that mutmut mutates them: it leaves alone whatever is decorated."""

    def leave_FunctionDef(
        self, original_node: cst.FunctionDef, updated_node: cst.FunctionDef
    ) -> cst.FunctionDef | cst.FlattenSentinel[cst.BaseStatement]:
        if [m.matches(one.decorator, m.Name("property")) for one in original_node.decorators] != [True]:
            return updated_node
        name = f"property_{original_node.name.value}"
        plain = updated_node.with_changes(name=cst.Name(name), decorators=[])
        told = cst.parse_statement(f"{original_node.name.value} = property({name})")
        return cst.FlattenSentinel([plain, told])

    def visit_ClassDef(self, node: cst.ClassDef) -> bool:
        return not any(m.matches(base.value, m.Name("Protocol")) for base in node.bases)


def prepare(modules: Sequence[Path], tests: Sequence[str]) -> None:
    """Copies what mutmut needs to WORK, which it starts anew."""
    shutil.rmtree(WORK, ignore_errors=True)
    for name in ("jit_service", "tests", "envoy", "examples", "proto"):
        shutil.copytree(ROOT / name, WORK / name, ignore=shutil.ignore_patterns("__pycache__", "soak", "typescript"))
    for path in modules:
        source = cst.parse_module((ROOT / path).read_text())
        (WORK / path).write_text(source.visit(_PropertiesAsFunctions()).code)
    mutated = json.dumps([str(path) for path in modules])
    (WORK / "pyproject.toml").write_text(CONFIGURATION.format(mutated=mutated, tests=json.dumps(list(tests))))


def judging_tests() -> list[str]:
    """Returns the files of tests that judge."""
    paths = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "tests" / "domain").rglob("test_*.py"))
    return [path for path in paths if path not in NOT_JUDGES]


def run(processes: int) -> None:
    """Lets mutmut run: without a mutant first, then with each. Exits as it does if it fails."""
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    command = [sys.executable, "-m", "mutmut", "run", "--max-children", str(processes)]
    code = subprocess.run(command, cwd=WORK, env=environment).returncode
    if code:
        sys.exit(f"mutmut ended with {code}: do the tests pass without any mutant?")


def results(modules: Sequence[Path]) -> Iterator[Mutant]:
    """Yields every mutant, with what it changed where no test noticed."""
    os.chdir(WORK)
    from mutmut.mutation.data import SourceFileMutationData
    from mutmut.mutation.diff_apply import get_diff_for_mutant
    from mutmut.stats import status_by_exit_code

    for path in modules:
        data = SourceFileMutationData(path=path)
        data.load()
        for name, code in data.exit_code_by_key.items():
            status = status_by_exit_code[code]
            if status in ("killed", "timeout"):
                yield Mutant(path.stem, name, status)
            else:
                was, becomes = _change(get_diff_for_mutant(name, path=path))
                yield Mutant(path.stem, name, status, was, becomes)


def _change(diff: str) -> tuple[str, str]:
    lines = [line for line in diff.splitlines() if not line.startswith(("---", "+++", "@@"))]
    return (
        "\n".join(line[1:].strip() for line in lines if line.startswith("-")),
        "\n".join(line[1:].strip() for line in lines if line.startswith("+")),
    )


def explain(mutants: Sequence[Mutant], modules: Sequence[Path]) -> tuple[list[Mutant], list[str]]:
    """Returns the mutants with their reasons, and the explanations that fit none of those that survived."""
    stems = {path.stem for path in modules}
    told = tomllib.loads(EXPLAINED.read_text())
    everywhere = [(one["was"], one["becomes"], one["why"]) for one in told.get("everywhere", [])]
    whys = {(one["function"], one["was"], one["becomes"]): one["why"] for one in told.get("survivor", [])}
    used = set()
    explained = []
    for mutant in mutants:
        key = (readable(mutant.function), mutant.was, mutant.becomes)
        general = [why for was, to, why in everywhere if was in key[1] and key[1].replace(was, to) == key[2]]
        if mutant.status == "survived" and (key in whys or general):
            used.add(key)
            mutant = replace(mutant, why=whys.get(key) or general[0])
        explained.append(mutant)
    idle = [f"{key[0]}: {key[1]}" for key in whys if key not in used and key[0].split(".")[0] in stems]
    return explained, idle


def readable(function: str) -> str:
    """Returns `module.function` or `module.Class.method` for mutmut's name of it."""
    module, _, name = function.rpartition(".")
    name = name.removeprefix("x_") if "ǁ" not in name else name.removeprefix("xǁ").replace("ǁ", ".")
    return f"{module.rpartition('.')[2]}.{name.replace('.property_', '.')}"


def report(mutants: Sequence[Mutant], idle: Sequence[str], seconds: float) -> bool:
    """Writes OUT/result.json and OUT/report.md, and returns whether everything is explained."""
    open_ = [mutant for mutant in mutants if mutant.status not in ("killed", "timeout") and not mutant.why]
    counts = {module: _counts([one for one in mutants if one.module == module]) for module in _modules(mutants)}
    total = _counts(mutants)
    result = {
        "at": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "seconds": round(seconds),
        "total": total,
        "modules": counts,
        "survivors": [asdict(one) for one in mutants if one.status not in ("killed", "timeout")],
        "explanations_that_fit_nothing": list(idle),
    }
    (OUT / "result.json").write_text(json.dumps(result, indent=1) + "\n")
    table = ["| module | " + " | ".join(total) + " |", "| --- |" + " --- |" * len(total)]
    table += [f"| {name} | " + " | ".join(map(str, row.values())) + " |" for name, row in counts.items()]
    table += ["| all | " + " | ".join(map(str, total.values())) + " |"]
    lines = [f"# Mutants, {result['at']}", "", *table, "", f"## Unexplained: {len(open_)}"]
    for mutant in open_:
        diff = difflib.ndiff(mutant.was.splitlines(), mutant.becomes.splitlines())
        changes = "\n".join(line for line in diff if not line.startswith("?"))
        lines += ["", f"{readable(mutant.function)} ({mutant.status}, `{mutant.name}`)", "```diff", changes, "```"]
    lines += ["", f"## Explanations that fit nothing: {len(idle)}", "", *[f"- {one}" for one in idle]]
    (OUT / "report.md").write_text("\n".join(lines) + "\n")
    print("\n".join(table))
    print(f"{len(open_)} unexplained, {len(idle)} idle explanations; see {OUT.relative_to(ROOT)}/report.md")
    return not open_ and not idle


def _modules(mutants: Sequence[Mutant]) -> list[str]:
    return sorted({mutant.module for mutant in mutants})


def _counts(mutants: Sequence[Mutant]) -> dict[str, int]:
    by_status = Counter(mutant.status for mutant in mutants)
    explained = sum(bool(mutant.why) for mutant in mutants)
    alive = len(mutants) - by_status["killed"] - by_status["timeout"]
    return {
        "mutants": len(mutants),
        "killed": by_status["killed"],
        "timeout": by_status["timeout"],
        "explained": explained,
        "unexplained": alive - explained,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("modules", nargs="*", help="of jit_service/domain, without .py; all of them by default")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--again", action="store_true", help="judge the last run again, by today's explanations")
    arguments = parser.parse_args()
    names = arguments.modules or sorted(
        path.relative_to(ROOT / DOMAIN).with_suffix("").as_posix()
        for path in (ROOT / DOMAIN).rglob("*.py")
        if path.stem != "__init__"
    )
    modules = [Path(DOMAIN) / f"{name}.py" for name in names]
    if missing := [str(path) for path in modules if not (ROOT / path).exists()]:
        sys.exit(f"no such module: {', '.join(missing)}")
    began = datetime.now(UTC)
    if not arguments.again:
        prepare(modules, judging_tests())
        run(arguments.processes)
    mutants, idle = explain(list(results(modules)), modules)
    if not report(mutants, idle, (datetime.now(UTC) - began).total_seconds()):
        sys.exit(1)


if __name__ == "__main__":
    main()
