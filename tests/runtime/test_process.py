"""How a process is set up that serves: its threads share one heap of the C library, and take short turns."""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import sys

import pytest

glibc_only = pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_info"), reason="the C library is not glibc")

# Has eight threads take memory at the same time, and prints what the C library says of its heaps.
PROGRAM = """
import ctypes, threading
from jit_service.runtime.process import set_up_process

set_up_process()
libc = ctypes.CDLL(None)
libc.fopen.restype = ctypes.c_void_p
together = threading.Barrier(8)

def take():
    together.wait()
    kept = [bytes(10_000) for _ in range(100)]
    together.wait()

threads = [threading.Thread(target=take) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
output = libc.fopen(b"/dev/stdout", b"w")
libc.malloc_info(0, ctypes.c_void_p(output))
libc.fclose(ctypes.c_void_p(output))
"""


def heaps(**environment: str) -> int:
    inherited = {name: value for name, value in os.environ.items() if name != "MALLOC_ARENA_MAX"}
    command = [sys.executable, "-c", PROGRAM]
    told = subprocess.run(command, env=inherited | environment, capture_output=True, text=True, check=True).stdout
    return len(re.findall("<heap nr=", told))


@glibc_only
def test_all_threads_share_one_heap() -> None:
    assert heaps() == 1


@glibc_only
def test_what_the_environment_says_goes_before_it() -> None:
    assert heaps(MALLOC_ARENA_MAX="4") > 1


# Prints for how many seconds a thread may hold the interpreter while another waits for it.
TURNS = """
import sys
if "short" in sys.argv:
    from jit_service.runtime.process import set_up_process
    set_up_process()
print(sys.getswitchinterval())
"""


def turn(*arguments: str) -> float:
    command = [sys.executable, "-c", TURNS, *arguments]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def test_a_thread_that_computes_holds_the_others_up_for_a_millisecond() -> None:
    assert turn("short") == pytest.approx(0.001)
    assert turn() > turn("short")
