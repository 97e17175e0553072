"""`make cluster` in short: a switchover and a kill -9 of PostgreSQL under load lose nothing, and no answer is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.machine import ROOT
from tests.reliability import page
from tests.reliability.cluster import SHORT
from tests.reliability.packages import missing

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="namespaces are for Linux alone")


@pytest.mark.skipif(
    bool(missing()), reason=f"not installed: {' '.join(missing())}; `make cluster-packages` installs them"
)
def test_a_switchover_and_a_kill_lose_nothing_and_nobody_is_told_wrong(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.reliability", "cluster", "--short", "--rate", "50", "--seed", "1"]

    done = subprocess.run(
        [*command, "--directory", tmp_path / "run"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=400
    )

    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert sorted(row["name"] for row in result["rows"]) == sorted(SHORT)
    tried = {each["name"]: each["trials"] for each in result["properties"]}
    assert tried["a check sees what was acknowledged before it began, and no end is undone"] > 0
    assert tried["an acknowledged transition is in the audit log exactly once"] > 0


def test_the_published_page_is_that_of_the_published_results() -> None:
    assert (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8") == page.text(ROOT / "docs" / "reliability")
