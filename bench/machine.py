"""The machine: its cores, processes that are pinned to them and end with this one, CPU seconds, and a description."""

from __future__ import annotations

import ctypes
import json
import os
import platform
import selectors
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import psutil

ROOT: Final = Path(__file__).parent.parent
WORK: Final = ROOT / ".data" / "bench"
SERVICE_BIN: Final = ROOT / ".venv" / "bin"
_ALLOWED: Final = frozenset(os.sched_getaffinity(0))
SERVER_CORE: Final = 0
LOAD_CORE: Final = 1
_STOP_SECONDS: Final = 8
_VERSIONED: Final = ("grpcio", "pygrpc-native", "uvloop", "protobuf", "sqlalchemy", "psycopg", "cel-expr-python")


class Unavailable(Exception):
    """A candidate cannot run here; the message says why."""


def cores() -> int:
    """Returns how many cores this process may use."""
    return len(_ALLOWED)


def pin(*wanted: int) -> None:
    """Pins this process to the cores, without those that the machine does not have."""
    os.sched_setaffinity(0, {core for core in wanted if core < (os.cpu_count() or 1)} or {0})


class Process:
    """A process on cores of its own, which ends when this one does. It writes lines of JSON to its stdout."""

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        log: Path,
        core: int | set[int],
        environment: Mapping[str, str] | None = None,
        speaks: bool = True,
    ) -> None:
        self.command = [str(part) for part in command]
        self._log = log
        with log.open("ab") as stderr:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.PIPE,
                # Not a pipe: one that nobody reads would fill, and block the process that logs to it.
                stdout=subprocess.PIPE if speaks else stderr,
                stderr=stderr,
                cwd=ROOT,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
                preexec_fn=_before({core} if isinstance(core, int) else core),
            )
        self.pid = self._process.pid

    def line(self, *, timeout: float) -> Any:
        """Returns the next line of stdout as JSON. Raises Unavailable if none comes."""
        assert self._process.stdout is not None  # noqa: S101 (for mypy)
        with selectors.DefaultSelector() as output:
            output.register(self._process.stdout, selectors.EVENT_READ)
            ready = output.select(timeout)
        text = self._process.stdout.readline() if ready else b""
        if not text:
            what = f"said nothing in {timeout:g} s" if not ready else "ended"
            raise Unavailable(f"{Path(self.command[0]).name} {what}: {self.last_words()}")
        return json.loads(text)

    def say(self, message: Any) -> None:
        """Writes a line of JSON to its stdin."""
        assert self._process.stdin is not None  # noqa: S101 (for mypy)
        self._process.stdin.write(json.dumps(message).encode() + b"\n")
        self._process.stdin.flush()

    def cpu_seconds(self) -> float:
        """Returns user and system time of the process and its children."""
        return float(sum(time.user + time.system for time in self._each("cpu_times")))

    def memory(self) -> int:
        """Returns the resident bytes of the process and its children."""
        return sum(memory.rss for memory in self._each("memory_info"))

    def pause(self) -> None:
        """Suspends the process, so that it takes no CPU time from the candidate that is being measured."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        """Ends the process and its children with TERM, then with KILL."""
        tree = self._tree()
        self.resume()
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_STOP_SECONDS)
        for process in tree:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait()

    def last_words(self) -> str:
        """Returns the end of its log."""
        lines = self._log.read_text(errors="replace").splitlines()
        return lines[-1][-300:] if lines else "its log is empty"

    def _tree(self) -> list[psutil.Process]:
        try:
            process = psutil.Process(self.pid)
            return [process, *process.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def _each(self, what: str) -> Iterator[Any]:
        for process in self._tree():
            with suppress(psutil.NoSuchProcess):
                yield getattr(process, what)()

    def _signal(self, number: int) -> None:
        for process in self._tree():
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)


def cpu_seconds_of(pid: int) -> float:
    """Returns user and system time of a process and its children; 0 if it has ended."""
    try:
        process = psutil.Process(pid)
        times = [each.cpu_times() for each in (process, *process.children(recursive=True))]
    except psutil.NoSuchProcess:
        return 0.0
    return sum(time.user + time.system for time in times)


@contextmanager
def on_cores(*wanted: int) -> Iterator[None]:
    """Processes that are started within run on those cores, since children inherit the affinity."""
    mine = os.sched_getaffinity(0)
    pin(*wanted)
    try:
        yield
    finally:
        os.sched_setaffinity(0, mine)


def versions() -> dict[str, str]:
    """Returns the versions that the numbers depend on."""
    found = {"python": platform.python_version(), "commit": _output("git", "rev-parse", "--short", "HEAD")}
    for name in _VERSIONED:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    if h2load := shutil.which("h2load"):
        found["h2load"] = _output(h2load, "--version").rpartition("/")[2]
    return found


def environment() -> dict[str, Any]:
    """Returns a description of the machine, without its name."""
    return {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "kernel": platform.release(),
        "system": platform.system(),
        "load_before": [round(load, 2) for load in os.getloadavg()],
        "command": " ".join(["python", "-m", "bench", *measured_by(sys.argv[1:])]),
        "versions": versions(),
    }


def _cpu_model() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def measured_by(arguments: Sequence[str]) -> list[str]:
    """Returns the arguments but for the place of the rows, which is of one machine and changes no figure."""
    kept = list(arguments)
    while "--results" in kept:
        at = kept.index("--results")
        del kept[at : at + 2]
    return [argument for argument in kept if not argument.startswith("--results=")]


def _output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    return done.stdout.strip()


def _before(cores: set[int]) -> Any:
    libc, parent = ctypes.CDLL(None), os.getpid()

    def prepare() -> None:
        os.sched_setaffinity(0, cores)
        libc.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:
            os._exit(1)

    return prepare
