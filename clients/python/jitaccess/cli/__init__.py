"""The `jit` command. Modules that take long to load, gRPC and rich among them, are imported where they are used."""

from __future__ import annotations

import sys


def main() -> None:
    """Runs `jit` with the process's arguments, and exits with its code (`jitaccess.cli.exits`)."""
    from jitaccess.cli.app import run

    sys.exit(run(sys.argv[1:]))
