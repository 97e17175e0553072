"""The generator starts from the protos: what it makes is not needed to run it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_generator_imports_nothing_that_it_makes() -> None:
    """A new proto service has no Python code yet, so the servicers that import it cannot be imported either."""
    program = (
        "import sys; sys.path.insert(0, 'tools'); import generate; "
        "print([name for name in sys.modules if name.partition('.')[0] in ('jit_service', 'jitaccess', 'authzen')])"
    )

    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)

    assert ran.stdout.strip() == "[]"
