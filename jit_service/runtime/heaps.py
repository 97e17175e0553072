"""How the C library keeps the memory that Python, gRPC and SQLite take from it."""

from __future__ import annotations

import ctypes
import os
from typing import Final

_M_ARENA_MAX: Final = -8
_MOST: Final = 1


def share_heap() -> None:
    """Has all threads take memory from one heap; to be called before other threads begin.

    By default glibc gives threads up to eight heaps for each core. What one of them has freed serves no other, so
    that a process grows for as long as its threads take turns. MALLOC_ARENA_MAX in the environment goes before this.
    Where the C library is another than glibc, this does nothing.
    """
    if "MALLOC_ARENA_MAX" not in os.environ and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(_M_ARENA_MAX, _MOST)
