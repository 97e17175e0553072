"""The `jit` command. Modules that take long to load, gRPC and rich among them, are imported where they are used."""

from __future__ import annotations

import gc
import sys

# What is made while modules load is kept, and looking for garbage among it is a tenth of the start of a command.
_COLLECT_AFTER = 50_000


def main() -> None:
    """Runs `jit` with the process's arguments, and exits with its code (`jitaccess.cli.exits`)."""
    gc.set_threshold(_COLLECT_AFTER)
    from jitaccess.cli import hush
    from jitaccess.extras import ExtraMissing, needed_for

    hush.before_grpc_loads()
    try:
        with needed_for("the command jit", "jitaccess[cli]"):
            from jitaccess.cli.app import run
    except ExtraMissing as fault:
        print(f"jit: {fault}", file=sys.stderr)
        # UNAVAILABLE of jitaccess.cli.exits: not 1, which says that the answer is no.
        sys.exit(7)
    sys.exit(run(sys.argv[1:]))
