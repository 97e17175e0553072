"""Builds the console (clients/console) into the pages that the service serves, with Vite.

Its packages are npm's, which `make` installs from clients/console/package-lock.json where there is npm. Where there is
none, the built pages stay as they are committed, so nobody needs Node to run the service.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parent.parent
CONSOLE = ROOT / "clients/console"
MODULES = CONSOLE / "node_modules"
BUILT = "jit_service/pages/console"


def missing() -> str:
    """Returns one line that says why nothing can be built; empty if it can be."""
    if shutil.which("node") is None:
        return "there is no node, so jit_service/pages/console is left as it is"
    return "" if MODULES.exists() else "no npm ci in clients/console yet, so jit_service/pages/console is left as it is"


def console(out: Path) -> None:
    """Writes OUT/jit_service/pages/console, if its types are right. Exits with the compiler's words if they are not."""
    node = str(shutil.which("node"))
    _run(node, str(MODULES / "typescript/bin/tsc"), "--noEmit")
    _run(node, str(MODULES / "vite/bin/vite.js"), "build", "--logLevel", "warn", "--outDir", str(out / BUILT))


def _run(*command: str) -> None:
    done = subprocess.run(command, cwd=CONSOLE, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"clients/console cannot be built:\n{done.stdout}{done.stderr}")
