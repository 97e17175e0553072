"""h2load as the load, to compare our own generator with. It sends one message and counts only HTTP statuses."""

from __future__ import annotations

import resource
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.frames import Call, Tally
from bench.machine import Process, Unavailable
from bench.rounds import CONNECTIONS, STREAMS, Pace, measured
from bench.servers import Running, wait_until_right


@dataclass(kw_only=True)
class Server:
    """A target that h2load asks with the call's first message."""

    running: Running
    call: Call
    directory: Path

    @property
    def processes(self) -> Sequence[Process]:
        return self.running.processes

    def ready(self) -> None:
        wait_until_right(self.running, self.call)

    def saturate(self, pace: Pace) -> dict[str, Any]:
        self._load(pace.warm_up)
        before, mine = self._cpu(), _children()
        tally = self._load(pace.seconds)
        return measured(tally, self._cpu() - before, load_cpu=_children() - mine)

    def steady(self, pace: Pace) -> dict[str, Any]:
        raise Unavailable(f"h2load is asked for saturation only, not for {pace.steady_seconds:g} s at a fixed rate")

    def _load(self, seconds: float) -> Tally:
        body, log = self.directory / "body", self.directory / "log"
        message = self.call.messages[0]
        body.write_bytes(b"\0" + len(message).to_bytes(4, "big") + message)
        log.unlink(missing_ok=True)
        headers = [("content-type", "application/grpc"), ("te", "trailers"), *self.call.headers]
        command = [
            shutil.which("h2load") or "h2load",
            f"-c{CONNECTIONS}",
            f"-m{STREAMS}",
            f"-D{max(1, round(seconds))}",
        ]
        command += [f"--data={body}", f"--log-file={log}", *(f"--header={name}: {value}" for name, value in headers)]
        command += [f"http://{self.running.address}{self.call.path}"]
        subprocess.run(command, capture_output=True, check=True)
        fields = [line.split("\t") for line in log.read_text().splitlines()]
        tally = Tally(done=len(fields), seconds=max(1, round(seconds)), latencies=[int(one[2]) / 1e6 for one in fields])
        for one in fields:
            if one[1] != "200":
                tally.fault(f"HTTP {one[1]}")
        return tally

    def _cpu(self) -> float:
        return sum(process.cpu_seconds() for process in self.processes)


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
