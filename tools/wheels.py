"""Builds the wheels of this tree into dist/, or into DIRECTORY, with what `pip install --require-hashes` takes beside.

`python tools/wheels.py [DIRECTORY]`. It is for trying, and for hosts of one's own; `make release` builds what is to be
published.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from release import DIST, LOCK, ROOT, versions, write_sums


def build(out: Path) -> None:
    """Writes both wheels, the locked requirements and SHA256SUMS to the empty directory."""
    hatchling = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", out.resolve()]
    for project in (ROOT / "clients" / "python", ROOT):
        subprocess.run(hatchling, cwd=project, check=True, capture_output=True)
    version = versions(ROOT)["pyproject.toml"]
    shutil.copyfile(ROOT / LOCK, out / f"jit_service-{version}.requirements.txt")
    write_sums(out)


def main() -> None:
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else DIST
    if out == DIST:
        shutil.rmtree(DIST, ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    build(out)
    print("\n".join(sorted(str(path) for path in out.iterdir())))


if __name__ == "__main__":
    main()
