"""`make faults` and `make kill` in short: a clock that is set, a file system that is read-only, and a kill."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.machine import ROOT
from tests.reliability.disk import has_compiler

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the service's processes are Linux's here")
needs_compiler = pytest.mark.skipif(not has_compiler(), reason="no C compiler (cc), which makes what is preloaded")


def result_of(directory: Path, *arguments: str) -> Any:
    """Runs a command, which must pass. Returns its result."""
    command = [sys.executable, "-m", "tests.reliability", *arguments, "--seed", "1", "--directory", str(directory)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads((directory / "result.json").read_text())


@needs_compiler
def test_what_is_broken_is_refused_and_over_when_it_is_mended(tmp_path: Path) -> None:
    said = {"clock a year ahead": "UNAVAILABLE CLOCK_STEPPED", "file system read-only": "UNAVAILABLE STORE_UNAVAILABLE"}

    result = result_of(tmp_path / "run", "faults", "--only", *said, "--rate", "25")

    rows = {row["name"]: row for row in result["rows"]}
    assert rows.keys() == said.keys()
    for name, row in rows.items():
        assert (row["lost"], row["wrong"]) == (0, 0)
        assert said[name] in row["seen"]


def test_a_kill_loses_nothing(tmp_path: Path) -> None:
    result = result_of(tmp_path / "run", "kill", "--count", "1")

    assert (result["kills"], result["lost"], result["wrong"]) == (1, 0, 0)
    assert result["checks"] > 0
    assert result["transitions"] > 0
