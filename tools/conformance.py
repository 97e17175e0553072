"""Runs AuthZEN's certification scenario through Envoy, and writes the results into docs/authzen.md."""

from __future__ import annotations

import sys
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "authzen.md"
TESTS = "tests/rest/test_authzen_scenario.py"
BEGIN, END = "<!-- results: make authzen -->\n", "<!-- end of results -->\n"
sys.path.insert(0, str(ROOT))


class Results:
    """A pytest plugin: the outcomes of each requirement's tests."""

    def __init__(self) -> None:
        self.outcomes: dict[str, list[bool]] = defaultdict(list)
        self._ids: dict[str, tuple[str, ...]] = {}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            self._ids[item.nodeid] = tuple(name for mark in item.iter_markers("requirement") for name in mark.args)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        # A fixture that fails or a test that is skipped shows nothing.
        if report.when == "call" or report.outcome != "passed":
            for name in self._ids[report.nodeid]:
                self.outcomes[name].append(report.outcome == "passed")


def table(outcomes: dict[str, list[bool]]) -> str:
    """Returns the results as Markdown: a requirement passes if it has tests and all of them pass."""
    from tests.rest.authzen_scenario import REQUIREMENTS, SCENARIO

    passed = [name for name in REQUIREMENTS if outcomes.get(name) and all(outcomes[name])]
    lines = [
        f"Scenario: {SCENARIO}. Run on {datetime.now(UTC):%Y-%m-%d}: {len(passed)} of {len(REQUIREMENTS)} pass.",
        "",
        "| id | level | requirement | tests | result |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, (level, words) in REQUIREMENTS.items():
        told = outcomes.get(name, [])
        result = "passes" if name in passed else f"FAILS ({told.count(False)})" if told else "NOT TESTED"
        lines.append(f"| `{name}` | {level} | {words} | {len(told)} | {result} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    results = Results()
    arguments = ["-n", "0", "-q", "-p", "no:randomly", "--no-header", TESTS]
    pytest.main([*arguments, f"--rootdir={ROOT}"], plugins=[results])
    page = PAGE.read_text()
    before, rest = page.split(BEGIN)
    after = rest.split(END)[1]
    told = table(results.outcomes)
    PAGE.write_text(f"{before}{BEGIN}{told}{END}{after}")
    print(told.splitlines()[0])
    sys.exit(0 if "FAILS" not in told and "NOT TESTED" not in told else 1)


if __name__ == "__main__":
    main()
