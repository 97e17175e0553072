"""Runs several worker processes on one port and one store, and replaces those that end.

Each worker is a whole service and keeps no state that another needs, so any may answer any call. The kernel spreads TCP
connections over them (SO_REUSEPORT); Envoy reaches each on a Unix socket of its own. A worker reads its settings from
stdin and not from its arguments, since they may hold a secret. When its stdin ends, its parent has ended or wants it to
stop, and it stops.
"""

from __future__ import annotations

import json
import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TextIO

from jit_service.configuration import logs
from jit_service.metrics.catalogue import WORKER_ENDS
from jit_service.runtime.measuring import WorkersTogether, WorkerValues, answer_line
from jit_service.runtime.orders import ASK, DRAIN, Orders
from jit_service.runtime.process import set_up_process
from jit_service.runtime.service import STOP_SECONDS, Service, ServiceError, StoreUnavailable
from jit_service.runtime.stopping import Stops, drain
from jit_service.settings import Address, Settings, SettingsError

START_SECONDS: Final = 60.0
"""How long a worker may take to start, and how long the service may be without a worker that serves."""
STEADY_SECONDS: Final = 30.0
"""A worker that has run this long did start; its end is not counted as a failed start."""
_FIRST_DELAY: Final = 0.1
_LONGEST_DELAY: Final = 10.0
_POLL_SECONDS: Final = 0.05
_KILL_SECONDS: Final = STOP_SECONDS + 3
_log = logging.getLogger(__name__)


class Workers:
    """The workers of one service, each with a Unix socket of its own. Only the thread that made this may use it."""

    def __init__(self, settings: Settings, sockets: Sequence[Path] = ()) -> None:
        self._held: list[socket.socket] = []
        self.together = WorkersTogether()
        self.address = self._take(settings.grpc)
        passing = self._take(settings.passing) if settings.passing is not None else None
        shared = settings.model_copy(update={"grpc": self.address, "passing": passing})
        self._slots = [
            _Slot(number, _brief(shared, number, sockets[number] if sockets else None), self.together)
            for number in range(settings.workers)
        ]
        self._served_at = time.monotonic()

    def start(self) -> None:
        """Starts all workers, and returns when all serve. Raises ServiceError if one does not start."""
        for slot in self._slots:
            slot.start()
        deadline = time.monotonic() + START_SECONDS
        while not all(slot.serves for slot in self._slots):
            for slot in self._slots:
                if slot.has_ended:
                    raise ServiceError(slot.fault or f"worker {slot.number} ended before it served")
            if time.monotonic() > deadline:
                raise ServiceError(f"the workers do not serve after {START_SECONDS:g} s")
            time.sleep(_POLL_SECONDS)

    def tend(self) -> None:
        """Replaces workers that have ended, after a pause that grows while replacements fail too.

        Raises ServiceError if no worker has served for START_SECONDS.
        """
        now = time.monotonic()
        for slot in self._slots:
            slot.tend(now)
        if any(slot.serves for slot in self._slots):
            self._served_at = now
        elif now - self._served_at > START_SECONDS:
            faults = [slot.fault for slot in self._slots if slot.fault]
            fault = faults[-1] if faults else "they end without a message"
            raise ServiceError(f"no worker has served for {START_SECONDS:g} s: {fault}")

    def drain(self) -> None:
        """Has the health of all workers say no from now on."""
        for slot in self._slots:
            slot.drain()

    def stop(self) -> None:
        """Has all workers stop, and ends those with KILL that do not in time."""
        for slot in self._slots:
            slot.stop()
        deadline = time.monotonic() + _KILL_SECONDS
        for slot in self._slots:
            slot.wait_or_kill(max(0.0, deadline - time.monotonic()))
        for held in self._held:
            held.close()

    def _take(self, address: Address) -> Address:
        """Binds the address for the workers. Returns it with the actual port. Raises ServiceError."""
        held, bound = hold(address)
        self._held.append(held)
        return bound


def run_worker(brief: TextIO, report: TextIO) -> bool:
    """Serves as the brief says, until its end, or until TERM, which another than the parent sends and is drained for.

    Reports one line; returns whether it served.
    """
    set_up_process()
    stops = Stops()
    task = json.loads(brief.readline())
    who = f"worker {task['number']}"
    logs.set_up(who=who)
    with ExitStack() as stack:
        try:
            # The files that the settings name are read anew, as at every start.
            settings = Settings.load(**task["settings"])
            logs.set_up(settings.log_format, settings.log_level, who=who)
            service = Service(settings)
            stack.callback(service.stop)
            service.listen(settings.grpc)
            if task["socket"] is not None:
                service.listen_unix(Path(task["socket"]))
            if settings.passing is not None:
                service.listen_passing(settings.passing)
            service.start()
        except (SettingsError, ServiceError, StoreUnavailable) as fault:
            print(json.dumps({"fault": " ".join(str(fault).split())}), file=report, flush=True)
            return False
        print(json.dumps({"serves": True}), file=report, flush=True)
        work = (brief, report, service, stops)
        threading.Thread(target=_until_end, args=work, name="parent", daemon=True).start()
        stops.come()
        drain(stops, settings.drain_delay, service.drain)
        return True


def _until_end(brief: TextIO, report: TextIO, service: Service, stops: Stops) -> None:
    """Does what the parent says until it has ended, for whatever reason, or wants no more; then asks to stop."""
    try:
        for line in brief:
            if line.strip() == ASK:
                print(answer_line(service.gauges.values), file=report, flush=True)
            elif line.strip() == DRAIN:
                service.drain()
    except (OSError, ValueError):
        _log.debug("the parent does not listen any more")
    finally:
        stops.ask_at_once()


def hold(address: Address) -> tuple[socket.socket, Address]:
    """Binds the port for child processes to share, or a free one for port 0. Raises ServiceError if it is taken.

    It is bound exclusively first, since SO_REUSEPORT alone would silently share it with another service.
    """
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    held = socket.socket(family, socket.SOCK_STREAM)
    try:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind((address.host, address.port))
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    except OSError as fault:
        held.close()
        raise ServiceError(
            f"cannot listen on {address}: it is taken, or not an address of this machine ({fault.strerror})"
        ) from fault
    return held, Address(address.host, held.getsockname()[1])


def _brief(settings: Settings, number: int, path: Path | None) -> str:
    task = {"settings": settings.as_given, "number": number, "socket": str(path) if path else None}
    return json.dumps(task)


class _Slot:
    """The place of one worker, and its current process."""

    def __init__(self, number: int, brief: str, together: WorkersTogether) -> None:
        self.number = number
        self._brief = brief
        self._together = together
        self._run: _Run | None = None
        self._failures = 0
        self._due_at = 0.0

    @property
    def serves(self) -> bool:
        """Whether its worker runs and has reported that it serves."""
        return self._run is not None and self._run.serves and not self.has_ended

    @property
    def has_ended(self) -> bool:
        """Whether its worker was started and has ended."""
        return self._run is not None and self._run.process.poll() is not None

    @property
    def fault(self) -> str:
        """Why its worker did not start; empty if it reported nothing."""
        return self._run.wait_fault() if self._run is not None else ""

    def start(self) -> None:
        """Starts a worker."""
        self._run = _Run.of(self._brief)
        self._together.joined(self.number, self._run.values)

    def tend(self, now: float) -> None:
        """Replaces a worker that has ended, once its pause is over; ends one that does not start in time."""
        if self._run is None or not self.has_ended:
            self._look_after(now)
        elif not self._due_at:
            pause = min(_FIRST_DELAY * 2**self._failures, _LONGEST_DELAY)
            _log.warning(
                "worker %d ended (%s); another takes its place in %g s", self.number, self._run.how_it_ended(), pause
            )
            self._due_at = now + pause
            self._failures += 1
            self._together.left(self.number)
            WORKER_ENDS.add()
        elif now >= self._due_at:
            self._due_at = 0.0
            self.start()

    def drain(self) -> None:
        """Has the health of the worker say no from now on."""
        if self._run is not None:
            self._run.orders.give(DRAIN)

    def stop(self) -> None:
        """Has the worker stop; one that still starts has nobody to wait for."""
        if self._run is None or self.has_ended:
            return
        self._run.orders.end()
        if not self._run.serves:
            self._run.process.terminate()

    def wait_or_kill(self, seconds: float) -> None:
        """Waits until the worker has ended, and kills it after `seconds`."""
        if self._run is None:
            return
        try:
            self._run.process.wait(seconds)
        except subprocess.TimeoutExpired:
            _log.warning("worker %d does not stop, so it is killed", self.number)
            self._run.process.kill()
            self._run.process.wait()
        self._run.close()

    def _look_after(self, now: float) -> None:
        if self._run is None:
            return
        age = now - self._run.started_at
        if self._run.serves and age > STEADY_SECONDS:
            self._failures = 0
        elif not self._run.serves and age > START_SECONDS:
            self._run.process.kill()


@dataclass
class _Run:
    """One process, the first line that it reports, and its values, which the other lines are."""

    process: subprocess.Popen[str]
    started_at: float
    reader: threading.Thread
    said: dict[str, Any]
    orders: Orders
    values: WorkerValues

    @classmethod
    def of(cls, brief: str) -> _Run:
        process = subprocess.Popen(
            # -P: do not import modules from the current directory.
            [sys.executable, "-P", "-m", "jit_service", "worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # Ctrl-C in a terminal reaches the parent, which then ends everything in order.
            start_new_session=True,
        )
        assert process.stdin is not None  # noqa: S101 (for mypy)
        said: dict[str, Any] = {}
        orders = Orders(process.stdin)
        values = WorkerValues(orders)
        reader = threading.Thread(target=_listen, args=(process, said, values), name="worker", daemon=True)
        reader.start()
        if not orders.give(brief):
            _log.debug("a worker ended before it read its brief")
        return cls(process, time.monotonic(), reader, said, orders, values)

    @property
    def serves(self) -> bool:
        return "serves" in self.said

    def wait_fault(self) -> str:
        # Its report may not have been read yet; once it has ended, the reader ends with it.
        self.reader.join(1.0)
        return str(self.said.get("fault", ""))

    def how_it_ended(self) -> str:
        status = self.process.poll()
        by = f"signal {-status}" if status is not None and status < 0 else f"status {status}"
        return f"{by}: {fault}" if (fault := self.wait_fault()) else by

    def close(self) -> None:
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


def _listen(process: subprocess.Popen[str], said: dict[str, Any], values: WorkerValues) -> None:
    assert process.stdout is not None  # noqa: S101 (for mypy)
    line = process.stdout.readline()
    try:
        said.update(json.loads(line or "{}"))
    except ValueError:
        said["fault"] = "its report is not JSON"
    with suppress(ValueError):  # the pipe is closed when the worker is
        for line in process.stdout:
            values.came(line)
