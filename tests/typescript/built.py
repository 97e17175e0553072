"""The TypeScript client in JavaScript, as a program that installs it has it."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
CLIENT = ROOT / "clients/typescript"


def tsc(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["node", str(CLIENT / "node_modules/typescript/bin/tsc"), *arguments]
    return subprocess.run(command, cwd=CLIENT, capture_output=True, text=True, timeout=240)


def build(run: str) -> Path:
    """Builds the client and its exercise once for all workers of the run; what does not type-check is not built."""
    directory = CLIENT / "build"
    directory.mkdir(exist_ok=True)
    of_run = directory / "run"
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not of_run.exists() or of_run.read_text() != run:
            make = ["make", "-s", "clients/typescript/node_modules/.installed"]
            subprocess.run(make, cwd=ROOT, check=True, timeout=240)
            for earlier in ("src", "test"):
                shutil.rmtree(directory / earlier, ignore_errors=True)
            compiled = tsc("--noEmitOnError")
            assert compiled.returncode == 0, compiled.stdout
            of_run.write_text(run)
    return directory


def install(directory: Path) -> None:
    """Puts the built client and what it was built with where a program in the directory finds them."""
    modules = directory / "node_modules"
    modules.mkdir()
    for name in ("typescript", "@types", ".bin"):
        (modules / name).symlink_to(CLIENT / "node_modules" / name)
    (modules / "jitaccess").symlink_to(CLIENT)
