"""How Python and the C library behave in a process that serves: set once, before other threads begin."""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Final

_M_ARENA_MAX: Final = -8
_MOST: Final = 1
_TURN_SECONDS: Final = 0.001


def set_up_process() -> None:
    """Has the threads of this process share one heap, and take short turns."""
    _share_heap()
    # A check waits for the interpreter several times, each time until the turn of a thread that computes is over: by
    # default 5 ms (docs/adr/0074-threads-take-turns-of-a-millisecond.md).
    sys.setswitchinterval(_TURN_SECONDS)


def _share_heap() -> None:
    """Has all threads take memory from one heap.

    By default glibc gives threads up to eight heaps for each core. What one of them has freed serves no other, so
    that a process grows for as long as its threads take turns. MALLOC_ARENA_MAX in the environment goes before this.
    Where the C library is another than glibc, this does nothing.
    """
    if "MALLOC_ARENA_MAX" not in os.environ and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(_M_ARENA_MAX, _MOST)
