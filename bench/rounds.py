"""Rounds: A B C A B C …, each candidate alone on the server's core for its turn, the others paused."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final, Protocol

from bench import frames
from bench.frames import Call, Tally
from bench.machine import Process, Unavailable, cpu_seconds_of
from bench.results import Recorder, quantile
from bench.servers import Running, wait_until_right

CONNECTIONS: Final = 8
STREAMS: Final = 8
RATE: Final = 1000
_MARGIN: Final = 1.1
_KEPT_LATENCIES: Final = 20_000


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How long a turn is: seconds counted at saturation and at the fixed rate, and warm-up before each.

    `lasting_seconds` is how long a candidate of part `sustained` runs.
    """

    rounds: int
    seconds: float
    steady_seconds: float
    warm_up: float
    lasting_seconds: float = 600


class Target(Protocol):
    """A system that a turn measures."""

    @property
    def processes(self) -> Sequence[Process]: ...

    def ready(self) -> None: ...

    def saturate(self, pace: Pace) -> dict[str, Any]: ...

    def steady(self, pace: Pace) -> dict[str, Any]: ...


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A target with a name, started when its part begins. `caveat` is printed beside its numbers."""

    name: str
    start: Callable[[], Target]
    caveat: str = ""


@dataclass(kw_only=True)
class Server:
    """A target that is asked over HTTP/2. `per_call` is how many questions one call carries."""

    running: Running
    call: Call
    connections: int = CONNECTIONS
    streams: int = STREAMS
    per_call: int = 1
    database_pid: int = 0

    @property
    def processes(self) -> Sequence[Process]:
        return self.running.processes

    def ready(self) -> None:
        wait_until_right(self.running, self.call)

    def saturate(self, pace: Pace) -> dict[str, Any]:
        """Measures with `connections * streams` calls in flight."""
        return self._measured(
            lambda mark: frames.closed_loop(
                self.running.address,
                self.call,
                connections=self.connections,
                streams=self.streams,
                warm_up=pace.warm_up,
                seconds=pace.seconds,
                mark=mark,
            )
        )

    def steady(self, pace: Pace) -> dict[str, Any]:
        """Measures at 1,000 calls a second, whether or not answers come."""
        return self._measured(
            lambda mark: frames.open_loop(
                self.running.address,
                self.call,
                rate=RATE,
                connections=self.connections,
                warm_up=pace.warm_up,
                seconds=pace.steady_seconds,
                mark=mark,
            )
        )

    def lasting(self, every: float) -> Iterator[dict[str, Any]]:
        """Yields the numbers of each `every` seconds at saturation, until it is closed."""
        load = frames.windows(
            self.running.address, self.call, connections=self.connections, streams=self.streams, every=every
        )
        with closing(load):
            before = self._spent()
            for tally in load:
                after = self._spent()
                spent, database, edge, mine = (late - early for early, late in zip(before, after, strict=True))
                most = max(tally.latencies, default=0.0)
                # Sorting all of them would keep the server waiting.
                tally.latencies = tally.latencies[:: max(1, len(tally.latencies) // _KEPT_LATENCIES)]
                facts = measured(tally, spent, load_cpu=mine, per_call=self.per_call)
                facts |= {"max_ms": round(most * 1e3, 3)} | self._others(database, edge, tally)
                yield facts
                before = after

    def _measured(self, load: Callable[[Callable[[], None]], Tally]) -> dict[str, Any]:
        marks: list[tuple[float, float, float, float]] = []
        tally = load(lambda: marks.append(self._spent()))
        spent, database, edge, mine = (after - before for before, after in zip(*marks, strict=True))
        return measured(tally, spent, load_cpu=mine, per_call=self.per_call) | self._others(database, edge, tally)

    def _others(self, database: float, edge: float, tally: Tally) -> dict[str, Any]:
        facts = {"memory_mib": round(sum(process.memory() for process in self.processes) / 2**20, 1)}
        for part, spent, pid in (("database", database, self.database_pid), ("edge", edge, self.running.edge_pid)):
            facts |= {f"{part}_cpu_us": per(spent, tally.done * self.per_call)} if pid else {}
        return facts

    def _spent(self) -> tuple[float, float, float, float]:
        """Returns the CPU seconds of the server with its Envoy, of its database, of its Envoy, and of the load."""
        edge = cpu_seconds_of(self.running.edge_pid)
        own = sum(process.cpu_seconds() for process in self.processes)
        return own + edge, cpu_seconds_of(self.database_pid), edge, time.process_time()


def measured(tally: Tally, cpu: float, *, load_cpu: float, per_call: int = 1) -> dict[str, Any]:
    """Returns a row's numbers. Any fault voids it."""
    latencies = sorted(tally.latencies)
    questions = tally.done * per_call
    facts: dict[str, Any] = {
        "calls": tally.done,
        "seconds": round(tally.seconds, 4),
        "requests_per_second": round(questions / tally.seconds, 1) if tally.seconds else 0,
        "cpu_us": per(cpu, questions),
        "requests_per_core_second": round(questions / cpu, 1) if cpu else 0,
        "server_busy": round(cpu / tally.seconds, 3) if tally.seconds else 0,
        "load_busy": round(load_cpu / tally.seconds, 3) if tally.seconds else 0,
        "errors": sum(tally.faults.values()),
    }
    if latencies:
        facts |= {"p50_ms": quantile(latencies, 0.5) * 1e3, "p99_ms": quantile(latencies, 0.99) * 1e3}
        facts |= {"max_ms": round(latencies[-1] * 1e3, 3)}
    if tally.faults or not latencies:
        facts["void"] = ", ".join(f"{count} x {what}" for what, count in tally.faults.items()) or "nothing came back"
    return facts


def per(seconds: float, count: int) -> float:
    """Returns microseconds apiece."""
    return round(seconds * 1e6 / count, 3) if count else 0.0


def started(candidates: Iterable[Candidate], recorder: Recorder) -> dict[str, Target]:
    """Starts each candidate and pauses it; records why if it cannot run here."""
    running: dict[str, Target] = {}
    for candidate in candidates:
        begin = time.perf_counter()
        try:
            target = candidate.start()
            target.ready()
        # A peer's own library may raise anything; the fault is recorded as the reason why it has no numbers.
        except Exception as fault:
            recorder.skip(candidate.name, " ".join(f"{type(fault).__name__}: {fault}".split())[:400])
            continue
        recorder.started(candidate.name, seconds=time.perf_counter() - begin, caveat=candidate.caveat)
        running[candidate.name] = target
        _each(target, Process.pause)
    return running


def interleave(targets: dict[str, Target], recorder: Recorder, pace: Pace, *, steady: Iterable[str] = ()) -> None:
    """Measures all candidates in turn for some rounds; those named in `steady` at the fixed rate too."""
    also = set(steady)
    for number in range(1, pace.rounds + 1):
        for name, target in list(targets.items()):
            _each(target, Process.resume)
            try:
                target.ready()
                row = recorder.row(name, number, "saturation", target.saturate(pace))
                if name in also:
                    _steady(name, number, target, row, recorder, pace)
            except (Unavailable, OSError, TimeoutError) as fault:
                recorder.row(name, number, "saturation", {"void": f"it stopped answering: {fault}", "errors": 1})
            finally:
                _each(target, Process.pause)


def _steady(name: str, number: int, target: Target, row: dict[str, Any], recorder: Recorder, pace: Pace) -> None:
    if row.get("requests_per_second", 0) < RATE * _MARGIN:
        recorder.row(name, number, "steady", {"void": f"it does not reach {RATE:,}/s", "errors": 0})
        return
    recorder.row(name, number, "steady", target.steady(pace))


def _each(target: Target, act: Callable[[Process], None]) -> None:
    for process in target.processes:
        act(process)


def say(text: str) -> None:
    """Prints the progress to stderr."""
    print(text, file=sys.stderr, flush=True)
