"""The service that is run: `jit-service up` with two workers and Envoy, killed and started again on the same data."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from bench.machine import Process
from jit_service.runtime.dev_issuer import DevIssuer
from jit_service.runtime.service import utc_now
from jit_service.settings import Address
from tests.faults.test_workers import Running
from tests.soak.people import write_policies
from tests.soak.place import REST
from tests.test_commands import ANY, SERVICE
from tests.world import Person

WORKERS = 2
PARENT, ENVOY = "parent", "envoy"
_START_SECONDS = 240.0
"""So long may a start take on a machine that is busy with other things; it takes 3 s on one that is not."""
_END_SECONDS = 30.0


def worker(number: int) -> str:
    """Returns the role of a worker."""
    return f"worker {number}"


class Site:
    """Where the service is, and its processes. Only the main thread may start it: the kernel ends it with that."""

    def __init__(
        self,
        directory: Path,
        *,
        transport: str,
        database_url: str = "",
        data_dir: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """`environment` is the service's beside what a run needs; `data_dir` is by default in the directory."""
        self.stopping = threading.Event()
        self.data_dir = (data_dir or directory / "d").resolve()
        self.data_dir.mkdir(mode=0o700, parents=True)
        self.issuer = DevIssuer(self.data_dir)
        self._log = directory / "service.log"
        policies = write_policies(directory / "policies.yaml")
        self._command: list[str | Path] = [
            SERVICE,
            "up",
            "--dev",
            "--data-dir",
            self.data_dir,
            "--grpc",
            ANY,
            "--http",
            ANY,
        ]
        self._command += ["--workers", str(WORKERS), "--transport", transport, "--policies", policies]
        # What is on a command line, everybody on the machine can read.
        self._environment = {
            "JIT_DATABASE_URL": database_url,
            # The same after a start on other ports, so that tokens go on.
            "JIT_TOKEN_ISSUER": "http://127.0.0.1",
            # All clients are at one address.
            "JIT_HTTP_RATE_PER_ADDRESS": "2000",
            **(environment or {}),
        }
        self._running: Running | None = None
        self._process: Process | None = None

    def start(self) -> None:
        """Starts it, and returns when it serves."""
        cores = os.sched_getaffinity(0)
        self._process = Process(self._command, log=self._log, core=cores, environment=self._environment)
        ready = self._process.line(timeout=_START_SECONDS)
        self._running = Running(self._process, self.data_dir, ready["grpc"], ready["http"])  # type: ignore[arg-type]

    def kill(self) -> None:
        """Kills all of it at once, its parent first, so that nobody starts a worker again."""
        for process in self._tree():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.reap()

    def end(self) -> None:
        """Ends it in order, as for an upgrade."""
        self.signal(PARENT, signal.SIGTERM)
        self.reap()

    def reap(self) -> None:
        """Waits for its end."""
        if self._process is not None:
            with suppress(psutil.NoSuchProcess, psutil.TimeoutExpired):
                psutil.Process(self._process.pid).wait(_END_SECONDS)
            self._process.stop()
        self._process = None

    @property
    def ways(self) -> tuple[str, ...]:
        """Each worker, and REST."""
        return (*(worker(number) for number in range(WORKERS)), REST)

    def address_of(self, way: str) -> str:
        """Returns where a worker answers gRPC, whichever process it is."""
        return f"unix:{self.data_dir / f'grpc-{self.ways.index(way)}.sock'}"

    @property
    def http(self) -> Address:
        """Where Envoy is; another port after each start."""
        return Address.parse(self._running.http.removeprefix("http://")) if self._running else Address("127.0.0.1", 9)

    @property
    def grpc(self) -> Address:
        """Where all workers answer gRPC over TCP; another port after each start."""
        return Address.parse(self._running.grpc) if self._running else Address("127.0.0.1", 9)

    def roles(self) -> dict[str, int]:
        """Returns the processes that run, by what they are."""
        running = self._running
        if running is None:
            return {}
        try:
            parent = psutil.Process(running.process.pid)
            if parent.status() == psutil.STATUS_ZOMBIE:
                return {}
            children, workers = parent.children(), running.workers()
        except psutil.NoSuchProcess:
            return {}
        found = {PARENT: parent.pid} | {worker(number): pid for number, pid in workers.items()}
        envoys = [child.pid for child in children if _is_envoy(child)]
        return found | ({ENVOY: envoys[0]} if envoys else {})

    def signal(self, role: str, number: signal.Signals) -> int:
        """Sends a signal to whoever has the role. Returns the process, 0 where there is none."""
        pid = self.roles().get(role, 0)
        if pid:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        return pid

    def token(self, person: Person) -> str:
        """Returns a token that is valid for a day."""
        return self.issuer.token(person.principal, groups=person.groups, roles=person.roles, now=utc_now())

    def _tree(self) -> list[psutil.Process]:
        try:
            parent = psutil.Process(self._process.pid if self._process is not None else 0)
            return [parent, *parent.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []


def _is_envoy(process: psutil.Process) -> bool:
    try:
        command = process.cmdline()
    except psutil.NoSuchProcess:
        return False
    return "--config-path" in command


@contextmanager
def running_site(directory: Path, *, transport: str, database_url: str = "") -> Iterator[Site]:
    """Runs the service until the end of the block, whoever killed and started it meanwhile."""
    site = Site(directory, transport=transport, database_url=database_url)
    try:
        site.start()
        yield site
    finally:
        site.stopping.set()
        site.kill()


def memory_of(pid: int) -> float | None:
    """Returns the resident MiB of a process; None where it is gone."""
    try:
        return float(psutil.Process(pid).memory_info().rss) / 2**20
    except psutil.NoSuchProcess:
        return None
