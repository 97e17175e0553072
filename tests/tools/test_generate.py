"""The generator starts from the protos: what it makes is not needed to run it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import generate  # noqa: E402


def test_the_generator_imports_nothing_that_it_makes() -> None:
    """A new proto service has no Python code yet, so the servicers that import it cannot be imported either."""
    program = (
        "import sys; sys.path.insert(0, 'tools'); import generate; "
        "print([name for name in sys.modules if name.partition('.')[0] in ('jit_service', 'jitaccess', 'authzen')])"
    )

    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)

    assert ran.stdout.strip() == "[]"


def test_a_method_without_a_rule_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generate, "_rpcs", lambda: {"/jitaccess.v1.GrantService/FrameGrant"})

    with pytest.raises(SystemExit, match=r"does not say who may call .*/FrameGrant"):
        generate.generate_pages(tmp_path)
