"""Profiles of missed targets: py-spy samples the server under load, to show where the time goes."""

from __future__ import annotations

import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from bench import facts, frames
from bench.machine import Unavailable
from bench.rounds import CONNECTIONS, STREAMS, say
from bench.servers import Bench, Mode, check_call
from bench.stacks import shares

_SECONDS: Final = 4


def of_misses(bench: Bench, results: Path, summary: dict[str, Any]) -> None:
    """Writes RESULTS/profile-NAME.txt for the modes of missed targets, and removes older profiles."""
    for old in results.glob("profile-*.txt"):
        old.unlink()
    missed = {name for name, target in summary["targets"].items() if target["met"] is False}
    modes: dict[str, Mode] = {}
    if missed & {"P1", "P3", "P5", "P6", "P7", "P9", "S2", "S4"}:
        modes |= {"native strong committed": Mode(transport="native")}
    if missed & {"P2", "S3", "S4"}:
        modes |= {"grpcio strong committed": Mode()}
    if missed & {"P4"}:
        modes |= {"native strong committed on postgresql": Mode(transport="native", database="postgresql")}
    for name, mode in modes.items():
        try:
            text = profile(bench, mode)
        except (Unavailable, OSError) as fault:
            say(f"no profile of {name}: {fault}")
            continue
        (results / f"profile-{name.replace(' ', '-')}.txt").write_text(text)


def profile(bench: Bench, mode: Mode) -> str:
    """Returns the share of samples by function, and by its outermost package. Raises Unavailable."""
    py_spy = Path(sys.executable).parent / "py-spy"
    if not py_spy.exists():
        raise Unavailable("py-spy is not installed")
    with ExitStack() as stack:
        own = Bench(bench.directory / f"profile{id(stack)}", stack)
        own.postgresql = bench.postgresql  # type: ignore[method-assign]
        running = own.ours(mode)
        call = check_call(running, facts.questions(), mode.consistency_number())
        output = own.place("spy") / "stacks"
        load = threading.Thread(
            target=frames.closed_loop,
            args=(running.address, call),
            kwargs={"connections": CONNECTIONS, "streams": STREAMS, "warm_up": 0.5, "seconds": _SECONDS + 2},
        )
        load.start()
        command = [py_spy, "record", "--pid", running.processes[0].pid, "--duration", _SECONDS, "--rate", 200]
        command += ["--format", "raw", "--output", output, "--nonblocking", "--gil"]
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
        load.join()
        if done.returncode != 0 or not output.exists():
            raise Unavailable(f"py-spy: {(done.stderr or done.stdout).strip().splitlines()[-1:]}")
        return shares(output.read_text())
