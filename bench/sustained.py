"""Part `sustained`: minutes at saturation. A row every 5 s, then what the log that was written costs to read.

Candidates run one after the other, each on a database of its own; the floors have a turn before and after each, so that
its ratios are of the same minutes. Kinds of rows: begin, floor, window, search, rest, tail, verify,
export, restart.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Protocol

from bench import audit_log, facts
from bench.long_runs import name_of
from bench.machine import LOAD_CORE, Process, Unavailable
from bench.peers import cerbos, inprocess
from bench.peers.install import install
from bench.results import Recorder, Row
from bench.rounds import Pace, Server, say
from bench.servers import Bench, Mode, batch_call, check_call, empty_call, new_call

REPEATED, NEW = "repeated", "new"
_EVERY: Final = 5.0
_FLOOR_SECONDS: Final = 8.0
_REST_SECONDS: Final = 60.0
_TAIL_SECONDS: Final = 5.0
FLOORS: Final = {"native": "floor-native", "sync-4": "floor-sync-4"}
SEARCHED: Final = ("subject", "resource", "grant", "principal", "event", "time", "decision_id")
BATCH: Final = 100


class Lasting(Protocol):
    """A system that can be held at saturation."""

    @property
    def processes(self) -> Sequence[Process]: ...

    def ready(self) -> None: ...

    def lasting(self, every: float) -> Iterator[Row]: ...


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A candidate of the part: ours if it has a mode, which is what its database is read for at the end."""

    name: str
    start: Callable[[Bench], Lasting]
    mode: Mode | None = None
    caveat: str = ""


def candidates(default: str) -> list[Candidate]:
    """Returns all candidates: what `up` starts first, then the other transport, PostgreSQL, and the peers."""
    other = "native" if default == "grpcio" else "grpcio"
    ours = [
        _ours(Mode(transport=transport, database=database), questions)
        for database in ("sqlite", "postgresql")
        for transport in (default, other)
        for questions in (REPEATED, NEW)
    ]
    return [*ours[:4], *_peers(), *ours[4:], _batches(Mode(transport=default)), _batches(Mode(transport=other))]


def measure(
    bench: Callable[[ExitStack], Bench],
    recorder: Recorder,
    chosen: Sequence[Candidate],
    *,
    default: str,
    seconds: float,
) -> None:
    """Runs the candidates one after the other, each for so many seconds; `default` is the name of what `up` starts."""
    for candidate in chosen:
        with ExitStack() as stack:
            own = bench(stack)
            try:
                _run(own, recorder, candidate, seconds, default=candidate.name == default)
            # A peer's own library may raise anything; the fault is recorded as the reason why it has no numbers.
            except Exception as fault:
                recorder.skip(candidate.name, " ".join(f"{type(fault).__name__}: {fault}".split())[:400])


def _run(bench: Bench, recorder: Recorder, candidate: Candidate, seconds: float, *, default: bool) -> None:
    floors = _Floors(bench, recorder, candidate.name, min(_FLOOR_SECONDS, seconds / 4))
    floors.turn(1)
    begin = time.perf_counter()
    target = candidate.start(bench)
    target.ready()
    recorder.started(candidate.name, seconds=time.perf_counter() - begin, caveat=candidate.caveat)
    with _disk_of(target) as disk:
        row: Row = {"errors": 0} | ({"disk_bytes": disk()} if disk else {}) | ({"default": True} if default else {})
        recorder.row(candidate.name, 0, "begin", row)
        checks = _windows(recorder, candidate, target, seconds, disk)
        ended = time.perf_counter()
        if isinstance(target, Server) and candidate.mode is not None and checks:
            try:
                events = _searched_at_once(recorder, candidate, target)
                _rested(recorder, candidate, target, checks, disk, until=ended + min(_REST_SECONDS, seconds / 10))
                _read(bench, recorder, candidate, target, events)
            except (Unavailable, OSError) as fault:
                recorder.row(candidate.name, 1, "rest", {"void": str(fault), "errors": 1})
    for process in target.processes:
        process.pause()
    floors.turn(2)


def _windows(
    recorder: Recorder, candidate: Candidate, target: Lasting, seconds: float, disk: Callable[[], int] | None
) -> int:
    """Records a row every 5 s, and returns how many checks were answered."""
    checks, begin, number = 0, time.perf_counter(), 0
    load = target.lasting(min(_EVERY, max(1.0, seconds / 10)))
    with closing(load):  # type: ignore[type-var]
        for row in load:
            number += 1
            checks += round(row["calls"] * getattr(target, "per_call", 1))
            row |= {"at_second": round(time.perf_counter() - begin, 1), "checks": checks}
            if disk:
                row["disk_bytes"] = disk()
            recorder.row(candidate.name, number, "window", row)
            if row["at_second"] >= seconds:
                break
    return checks


def _searched_at_once(recorder: Recorder, candidate: Candidate, target: Server) -> list[audit_log.Event]:
    """Asks for the newest pages in the seconds after the load, each once."""
    events = audit_log.samples(target.running, 1)
    for row in audit_log.searched(target.running, SEARCHED, events, tries=1):
        recorder.row(candidate.name, 1, "search at once", row)
    return events


def _rested(
    recorder: Recorder,
    candidate: Candidate,
    target: Server,
    checks: int,
    disk: Callable[[], int] | None,
    *,
    until: float,
) -> None:
    """Records what is on the disk a minute after the load."""
    time.sleep(max(0.0, until - time.perf_counter()))
    row: Row = {"checks": checks, "records": audit_log.event_count(target.running), "errors": 0}
    row["memory_mib"] = round(sum(process.memory() for process in target.processes) / 2**20, 1)
    if disk:
        row["disk_bytes"] = disk()
    recorder.row(candidate.name, 1, "rest", row)


def _read(
    bench: Bench, recorder: Recorder, candidate: Candidate, target: Server, events: Sequence[audit_log.Event]
) -> None:
    """Searches, verifies, exports, and starts again on the same database."""
    running = target.running
    events = [*events, *audit_log.samples(running)]
    for row in audit_log.searched(running, SEARCHED, events):
        recorder.row(candidate.name, 1, "search", row)
    recorder.row(candidate.name, 1, "tail", _tailed(bench, target, seconds=_TAIL_SECONDS))
    since = audit_log.checkpoint(running)
    recorder.row(candidate.name, 1, "verify", audit_log.verified(running))
    recorder.row(candidate.name, 1, "verify from a checkpoint", audit_log.verified(running, since))
    recorder.row(candidate.name, 1, "export", audit_log.exported(running))
    records = audit_log.event_count(running)
    for process in target.processes:
        process.stop()
    assert candidate.mode is not None  # noqa: S101 (for mypy)
    again = bench.ours(candidate.mode, url=running.url)
    target.running = again
    recorder.row(candidate.name, 1, "restart", {"seconds": again.started_in, "records": records, "errors": 0})


def _tailed(bench: Bench, target: Server, *, seconds: float) -> Row:
    """Follows the log during a short load, and returns the share of its records that were told when it ended."""
    running, place = target.running, bench.place("tail")
    command = [sys.executable, "-m", "bench.tail_reader", running.address]
    reader = bench.keep(Process(command, log=place / "log", core=LOAD_CORE))
    reader.say(dict(running.headers("auditor"))["authorization"])
    first = reader.line(timeout=30)["seq"]
    load = target.lasting(seconds)
    with closing(load):  # type: ignore[type-var]
        row = next(load)
        reader.say({})
        told = reader.line(timeout=30)["seq"] - first
    reader.stop()
    written = round(row["calls"] * target.per_call)
    rate = row["requests_per_second"]
    return {"told": min(1.0, told / written), "records": written, "records_per_second": rate, "errors": row["errors"]}


class _Floors:
    """The floors, each of which has a turn before and after a candidate."""

    def __init__(self, bench: Bench, recorder: Recorder, name: str, seconds: float) -> None:
        self._recorder, self._name = recorder, name
        self._pace = Pace(rounds=1, seconds=seconds, steady_seconds=0, warm_up=min(1.0, seconds / 4))
        asked = facts.questions()
        self._targets = {}
        for transport, floor in FLOORS.items():
            running = bench.floor(transport)
            self._targets[floor] = Server(running=running, call=empty_call(running, asked))
            self._targets[floor].ready()
            running.processes[0].pause()

    def turn(self, number: int) -> None:
        for floor, target in self._targets.items():
            target.processes[0].resume()
            row = target.saturate(self._pace)
            target.processes[0].pause()
            self._recorder.row(self._name, number, "floor", {"floor": floor} | row)


def _ours(mode: Mode, questions: str) -> Candidate:
    def start(bench: Bench) -> Lasting:
        running = bench.ours(mode)
        if mode.database == "postgresql":
            bench.stack.callback(bench.postgresql().drop, running.url)
        call = new_call(running) if questions == NEW else check_call(running, facts.questions())
        return Server(running=running, call=call, database_pid=_database_pid(bench, mode))

    return Candidate(name=name_of(mode.transport, mode.database, questions), start=start, mode=mode)


def _batches(mode: Mode) -> Candidate:
    def start(bench: Bench) -> Lasting:
        running = bench.ours(mode)
        call = batch_call(running, facts.questions(), BATCH)
        return Server(running=running, call=call, connections=4, streams=2, per_call=BATCH)

    return Candidate(name=name_of(mode.transport, mode.database, f"batches of {BATCH}"), start=start, mode=mode)


def _peers() -> list[Candidate]:
    asked = facts.questions()

    def spicedb(*, known: int = facts.FACTS, postgresql: bool = False) -> Callable[[Bench], Lasting]:
        return lambda bench: inprocess.spicedb(bench, known=known, postgresql=postgresql)

    peers = [
        Candidate(name="cerbos, repeated", start=lambda bench: cerbos.start(bench, asked), caveat=cerbos.CAVEAT),
        Candidate(
            name="cerbos, new", start=lambda bench: cerbos.start(bench, facts.NewQuestions()), caveat=cerbos.CAVEAT
        ),
        Candidate(name="spicedb-memory-1e3", start=spicedb(known=inprocess.FEW), caveat=inprocess.FEW_CAVEAT),
        Candidate(name="spicedb-postgresql", start=spicedb(postgresql=True), caveat=inprocess.SPICEDB_CAVEAT),
    ]
    return [replace(peer, start=_installed(peer.start)) for peer in peers]


def _installed(start: Callable[[Bench], Lasting]) -> Callable[[Bench], Lasting]:
    def start_it(bench: Bench) -> Lasting:
        for fault in install():
            say(fault)
        return start(bench)

    return start_it


def _database_pid(bench: Bench, mode: Mode) -> int:
    return bench.postgresql().pid if mode.database == "postgresql" else 0


@contextmanager
def _disk_of(target: Any) -> Iterator[Callable[[], int] | None]:
    """Yields what tells the bytes of a server's database: all files of SQLite, or pg_database_size."""
    url = target.running.url if isinstance(target, Server) else ""
    if url.startswith("sqlite:///"):
        path = Path(url.removeprefix("sqlite:///"))
        # Named after the database, such as its WAL and index; one that is renamed or removed meanwhile has no size.
        yield lambda: sum(_size(file) for file in path.parent.glob(f"{path.name}*"))
    elif url:
        import psycopg

        with psycopg.connect(url, autocommit=True) as connection:

            def size() -> int:
                (found,) = connection.execute("SELECT pg_database_size(current_database())").fetchone() or (0,)
                return int(found)

            yield size
    else:
        yield None


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0
