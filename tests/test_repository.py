"""What whoever works on the repository may rely on: the workflow of the forge, its forms, and the git hook."""

from __future__ import annotations

import ast
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
TARGETS = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = sorted(path for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml") if path.stem != "config")


def _steps(workflow: Path) -> list[dict[str, Any]]:
    jobs = yaml.safe_load(workflow.read_text())["jobs"]
    return [step for job in jobs.values() for step in job["steps"]]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_actions_are_pinned_by_commit(workflow: Path) -> None:
    """A tag can be moved to other code; a commit cannot."""
    actions = [step["uses"] for step in _steps(workflow) if "uses" in step]

    assert actions
    assert [action for action in actions if not re.search(r"@[0-9a-f]{40}$", action)] == []


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_may_only_read_the_repository(workflow: Path) -> None:
    permissions = yaml.safe_load(workflow.read_text())["permissions"]

    assert permissions == {"contents": "read"}


def test_the_forge_runs_what_anybody_runs() -> None:
    commands = [step["run"] for step in _steps(ROOT / ".github" / "workflows" / "ci.yml") if "run" in step]

    assert commands[-1] == ".ci/run"
    assert {"make lint", "make test"} <= set((ROOT / ".ci" / "run").read_text().splitlines())


@pytest.mark.parametrize("form", FORMS, ids=lambda path: path.stem)
def test_an_issue_form_has_what_the_forge_needs(form: Path) -> None:
    told = yaml.safe_load(form.read_text())

    assert {"name", "description", "body"} <= told.keys()
    asked = [part for part in told["body"] if part["type"] != "markdown"]
    assert all(part["attributes"]["label"] for part in asked)
    assert len({part["id"] for part in asked}) == len(asked)


@pytest.mark.parametrize("path", [".ci/run", ".githooks/pre-commit"])
def test_a_script_that_others_start_can_be_started(path: str) -> None:
    assert os.access(ROOT / path, os.X_OK)


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "docs/releasing.md", "docs/mutants.md"])
def test_each_target_that_a_page_names_can_be_made(page: str) -> None:
    text = (ROOT / page).read_text()
    named = set(re.findall(r"(?:`|&& |^)make ([a-z-]+)", text, re.MULTILINE))

    assert named
    assert named - TARGETS == set()


def test_each_target_says_what_it_does() -> None:
    """`make help` shows the words behind `##`."""
    told = set(re.findall(r"^([\w-]+):.*## \S", (ROOT / "Makefile").read_text(), re.MULTILINE))

    assert told == TARGETS


def _patched(source: str) -> Iterator[tuple[int, list[str]]]:
    """Yields the line of each `setattr` of a monkeypatch, and the names that lead to the attribute that it sets."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "setattr":
            target = node.args[0]
            if isinstance(target, ast.Constant):
                yield node.lineno, str(target.value).split(".")[:-1]
            else:
                yield node.lineno, ast.unparse(target).split(".")


# What `sys` holds, such as its streams, only the test itself reads.
_SHARED = sys.stdlib_module_names - {"sys"}


@pytest.mark.parametrize(
    ("call", "is_shared"),
    [
        ("m.setattr(time, 'monotonic', f)", True),
        ("m.setattr(fault_log.time, 'monotonic', f)", True),
        ("m.setattr('jit_service.check.batcher.time.sleep', f)", True),
        ("m.setattr('jitaccess.cli.waiting.monotonic', f)", False),
        ("m.setattr(sys, 'argv', [])", False),
    ],
)
def test_a_function_of_the_standard_library_belongs_to_all_threads(call: str, is_shared: bool) -> None:
    [(_, names)] = _patched(call)

    assert (not _SHARED.isdisjoint(names)) is is_shared


def test_no_test_changes_the_standard_library_under_other_threads() -> None:
    """Services that many tests share run in this process, and their threads would see it; hand in a clock instead."""
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in sorted((ROOT / "tests").rglob("*.py"))
        for line, names in _patched(path.read_text(encoding="utf-8"))
        if not _SHARED.isdisjoint(names)
    ]

    assert found == []
