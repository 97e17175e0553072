"""Drives the engines of `worker.py`: a target whose load is made inside its own process, on the server's core."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench import facts
from bench.facts import Question
from bench.frames import Tally
from bench.machine import SERVER_CORE, Process, Unavailable, cpu_seconds_of
from bench.peers.install import PYTHON, SPICEDB, demand
from bench.rounds import RATE, Pace, measured, per
from bench.servers import Bench

CASBIN_CAVEAT: Final = (
    "a function call in its own process: no network, expiry, record or revision; FastEnforcer, since its default "
    "Enforcer walks every policy"
)
SPICEDB_CAVEAT: Final = (
    "the embedded library by its C interface from 16 Python threads, as its socket serves streams only: no network is "
    "in its numbers, Python's calls are; its caches are off, it keeps no audit log"
)
FEW: Final = 1_000
FEW_CAVEAT: Final = (
    f"{SPICEDB_CAVEAT}; it was given {FEW:,} facts only, since its memory store slows down with their number"
)
_LOAD_SECONDS: Final = 120
_SCHEMA: Final = Path(__file__).parent / "spicedb.sql"
_KEEPS_UP: Final = 0.95
_WORKER: Final = Path(__file__).parent / "worker.py"


@dataclass(kw_only=True)
class InProcess:
    """One engine in one process."""

    process: Process
    fully: bool = False
    database_pid: int = 0

    @property
    def processes(self) -> Sequence[Process]:
        return (self.process,)

    def ready(self) -> None:
        """Does nothing: the engine has reported that it is loaded."""

    def saturate(self, pace: Pace) -> dict[str, Any]:
        return self._turn({"seconds": pace.seconds, "warm_up": pace.warm_up, "fully": self.fully})

    def steady(self, pace: Pace) -> dict[str, Any]:
        turn = {"seconds": pace.steady_seconds, "warm_up": pace.warm_up, "rate": RATE, "fully": self.fully}
        row = self._turn(turn)
        if row["requests_per_second"] < _KEEPS_UP * RATE:
            row["void"] = f"it does not keep up with {RATE:,}/s"
        return row

    def lasting(self, every: float) -> Iterator[dict[str, Any]]:
        """Yields the numbers of turns of `every` seconds, one after the other, without end."""
        pace = Pace(rounds=1, seconds=every, steady_seconds=0, warm_up=0)
        while True:
            yield self.saturate(pace)

    def _turn(self, turn: dict[str, Any]) -> dict[str, Any]:
        database = cpu_seconds_of(self.database_pid)
        self.process.say(turn)
        got = self.process.line(timeout=turn["seconds"] + turn["warm_up"] + 30)
        tally = Tally(done=len(got["latencies"]), seconds=got["seconds"], latencies=got["latencies"])
        if got["wrong"]:
            tally.faults["wrong answer"] = got["wrong"]
        row = measured(tally, got["cpu"], load_cpu=0)
        if self.database_pid:
            row["database_cpu_us"] = per(cpu_seconds_of(self.database_pid) - database, tally.done)
        return row | {"memory_mib": round(self.process.memory() / 2**20, 1)}


def casbin(bench: Bench, asked: list[Question]) -> InProcess:
    """Starts casbin with the facts. Raises Unavailable."""
    return _start(bench, "casbin", asked, [], facts.FACTS)


def spicedb(bench: Bench, *, known: int, postgresql: bool) -> InProcess:
    """Starts SpiceDB with the first facts, in memory or on PostgreSQL. Raises Unavailable."""
    library = demand(SPICEDB, "SpiceDB's library")
    store, pid = "memory", 0
    if postgresql:
        server = bench.postgresql()
        url = server.new("spicedb")
        server.run(url, _SCHEMA.read_text())
        store, pid = f"postgres {url}", server.pid
    started = _start(bench, "spicedb", facts.questions(known), [store, str(library)], known)
    started.database_pid = pid
    return started


def _start(bench: Bench, engine: str, asked: list[Question], arguments: list[str], count: int) -> InProcess:
    python, place = demand(PYTHON, engine), bench.place(engine)
    command: list[str | Path] = [python, _WORKER, engine, *arguments]
    process = bench.keep(Process(command, log=place / "log", core=SERVER_CORE, environment={"GOMAXPROCS": "1"}))
    known = [facts.fact(n) for n in range(count)]
    process.say(
        {
            "facts": [(one.subject, one.action, one.resource) for one in known],
            "questions": [(one.subject, one.action, one.resource, one.allowed) for one in asked],
        }
    )
    if "loaded_in" not in process.line(timeout=_LOAD_SECONDS):
        raise Unavailable(f"{engine} did not load the facts: {process.last_words()}")
    return InProcess(process=process)
