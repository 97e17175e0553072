"""`make faults` and `make kill` in short: a clock that is set, a file system that is read-only, and three kills."""

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
@pytest.mark.parametrize(
    ("fault", "said"), [("clock a year ahead", "CLOCK_STEPPED"), ("file system read-only", "STORE_UNAVAILABLE")]
)
def test_what_is_broken_is_refused_and_over_when_it_is_mended(tmp_path: Path, fault: str, said: str) -> None:
    result = result_of(tmp_path / "run", "faults", "--only", fault, "--rate", "50")

    (row,) = result["rows"]
    assert (row["name"], row["lost"], row["wrong"]) == (fault, 0, 0)
    assert f"UNAVAILABLE {said}" in row["seen"]


def test_three_kills_lose_nothing(tmp_path: Path) -> None:
    result = result_of(tmp_path / "run", "kill", "--count", "3")

    assert (result["kills"], result["lost"], result["wrong"]) == (3, 0, 0)
    assert result["checks"] > 0
