"""`python -m tests.reliability cluster|faults|kill|rolling`: breaks the service or what it stands on, and judges it.

Started by `make cluster`, `make faults`, `make kill` and `make rolling`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from tests.reliability import sandbox

# The service is started from a process that calls it: gRPC has nothing to do in the child before its exec.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

_SANDBOXED = {"cluster", "faults"}


def main(arguments: Sequence[str]) -> int:
    """Does the command, in a sandbox where it needs one and one is possible. Only who does it loads all it needs."""
    is_sandboxed = bool(arguments) and arguments[0] in _SANDBOXED
    if is_sandboxed and not sandbox.is_inside() and sandbox.is_possible():
        return sandbox.again_inside("tests.reliability", arguments)
    from tests.reliability import commands

    return commands.main(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
