"""A lock that processes of one user share: who renews tokens, does it alone."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from jitaccess.errors import Unavailable

PATIENCE_SECONDS: Final = 45.0
"""For how long to wait for whoever holds the lock: longer than two answers of a provider may take."""
_LOOK_AGAIN: Final = 0.05

if sys.platform == "win32":
    import msvcrt

    def _try(descriptor: int) -> bool:
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _try(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


@contextmanager
def held(path: Path, *, patience: float = PATIENCE_SECONDS) -> Iterator[None]:
    """Holds the lock of that file, which stays. The system frees it when the process ends, however that comes.

    Raises Unavailable where another process holds it for longer than `patience` seconds, and OSError.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
    ends_at = time.monotonic() + patience
    try:
        while not _try(descriptor):
            if time.monotonic() >= ends_at:
                raise Unavailable(f"another process holds {path} for {patience:g} s", reason="LOGIN_LOCKED")
            time.sleep(_LOOK_AGAIN)
        yield
    finally:
        # Closing frees it.
        os.close(descriptor)
