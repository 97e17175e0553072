"""`python -m tests.reliability cluster|faults|kill|rolling`: breaks the service or what it stands on, and judges it.

Started by `make cluster`, `make faults`, `make kill` and `make rolling`.
"""

from __future__ import annotations

import os
import sys

# The service is started from a process that calls it: gRPC has nothing to do in the child before its exec.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

from tests.reliability.commands import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
