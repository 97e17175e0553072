"""A world of processes of a run's own: when the run ends, in whatever way, all of it is gone.

The run is started again as the first child of new namespaces of Linux: what it starts, mounts and configures is seen
by nobody else, and the kernel ends it together with the first process there.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from functools import cache

_INSIDE = "JITTEST_SANDBOX"
_FLAGS = ("--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
# The first process must take over orphans, so that killed ones do not remain as zombies; a shell does.
_INIT = ("bash", "-c", 'ip link set lo up && "$@"; exit $?', "init")


@cache
def is_possible() -> bool:
    """Whether this user may make namespaces here."""
    if not all(shutil.which(program) for program in ("unshare", "nsenter", "ip")) or os.geteuid() != 0:
        return False
    done = subprocess.run(["unshare", *_FLAGS, *_INIT, "true"], capture_output=True, check=False, timeout=10)
    return done.returncode == 0


def is_inside() -> bool:
    """Whether this process is in namespaces of its run."""
    return os.environ.get(_INSIDE) == "1"


def again_inside(module: str, arguments: Sequence[str]) -> int:
    """Runs a module in new namespaces, and returns its status. A TERM or Ctrl-C here ends all of it."""
    command = ["unshare", *_FLAGS, *_INIT, sys.executable, "-m", module, *arguments]
    process = subprocess.Popen(command, env={**os.environ, _INSIDE: "1"})
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        return process.wait()
    except KeyboardInterrupt:
        # The terminal has told the run, too, which ends in order.
        return process.wait(timeout=60)
    finally:
        process.kill()
        process.wait()
