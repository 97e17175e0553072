"""The parts of the benchmark. Each starts its candidates, measures them in interleaved rounds, and records rows."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from bench import calls, facts, h2load, lifecycle, lists, sustained, tokens
from bench.facts import Question
from bench.long_runs import PART, name_of
from bench.machine import LOAD_CORE, ROOT, SERVER_CORE, SERVICE_BIN, cores, on_cores
from bench.peers import cerbos, inprocess
from bench.peers.install import install
from bench.results import Recorder
from bench.rounds import Candidate, Pace, Server, Target, interleave, say, started
from bench.scraped import Scraped
from bench.servers import CHECK, Bench, Mode, Running, batch_call, check_call, empty_call, new_call, rest_call
from jit_service.settings import Settings
from jitaccess.v1 import access_pb2

TRANSPORTS: Final = ("grpcio", "native")
FLOORS: Final = {
    "grpcio": "floor-aio",
    "native": "floor-native",
    "sync-4": "floor-sync-4",
    "sync-16": "floor-sync-16",
}
BATCHES: Final = (1, 10, 100, 1000)
GROWTH: Final = (1_000, 10_000, 100_000, 1_000_000)


@dataclass(frozen=True, kw_only=True)
class Run:
    """The common data of all parts of one run."""

    bench: Bench
    results: Path
    pace: Pace
    versions: dict[str, str]
    quick: bool
    only: tuple[str, ...] = ()
    most: int = 10_000_000
    note: str = ""

    def recorder(self, part: str, *, keep: Callable[[str], bool] = lambda _candidate: False) -> Recorder:
        say(f"{part}:")
        return Recorder(part=part, directory=self.results, versions=self.versions, keep=keep, note=self.note)

    def chosen(self, candidate: str) -> bool:
        """Whether a candidate is to be measured, of a part whose candidates can be chosen."""
        return not self.only or any(words in candidate for words in self.only)

    def alone(self, stack: ExitStack) -> Bench:
        """Returns a Bench whose processes end with the part; PostgreSQL runs on for all parts."""
        directory = Path(tempfile.mkdtemp(prefix="p", dir=self.bench.directory))
        # Registered first, so that it happens when all processes have ended: a long run leaves gigabytes.
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        own = Bench(directory, stack)
        own.postgresql = self.bench.postgresql  # type: ignore[method-assign]
        return own


Part = Callable[[Run], None]


def default_transport() -> str:
    """Returns the transport that `jit-service up` starts."""
    return str(Settings.model_fields["transport"].default.value)


def best_transport() -> str:
    """Returns the fastest transport of this version."""
    return "native" if "transport" in Settings.model_fields else "grpcio"


def transport(run: Run) -> None:
    """Measures the floors, and Check in every mode on both transports (P1, P2, P5, S2, S3)."""
    recorder, asked = run.recorder("transport"), facts.questions()
    modes = [
        Mode(transport=transport, consistency=consistency, audit=audit)
        for transport in TRANSPORTS
        for consistency, audit in (
            (("STRONG", "committed"), ("STRONG", "buffered"), ("BOUNDED", "off"))
            if run.quick
            else [(one, other) for one in ("STRONG", "BOUNDED") for other in ("committed", "buffered", "off")]
        )
    ]
    with ExitStack() as stack:
        bench = run.alone(stack)
        candidates = [_floor(bench, transport, asked) for transport in FLOORS]
        candidates += [_ours(bench, mode, asked) for mode in modes]
        candidates += [_new_questions(bench, Mode(transport=transport)) for transport in TRANSPORTS]
        targets = started(candidates, recorder)
        steady = [*FLOORS.values(), *(mode.name for mode in modes)]
        interleave(targets, recorder, run.pace, steady=steady)


def generator(run: Run) -> None:
    """Compares our load generator with h2load on the fastest floor: neither may be the bottleneck."""
    recorder, asked = run.recorder("generator"), facts.questions(count=1000)
    if shutil.which("h2load") is None:
        recorder.skip("h2load", "h2load is not installed (Debian: apt-get install nghttp2-client)")
        return
    with ExitStack() as stack:
        bench = run.alone(stack)

        def by_h2load() -> Target:
            running = bench.floor("native")
            return h2load.Server(running=running, call=empty_call(running, asked), directory=bench.place("h2load"))

        def newly_asked() -> Target:
            running = bench.floor("native")
            call = replace(
                new_call(running), headers=empty_call(running, asked).headers, right=lambda answer, _: not answer
            )
            return Server(running=running, call=call)

        candidates = [
            replace(_floor(bench, "native", asked), name="floor-native by frames"),
            Candidate(
                name="floor-native by frames, new questions",
                start=newly_asked,
                caveat="each message is made when it is sent",
            ),
            Candidate(name="floor-native by h2load", start=by_h2load, caveat="h2load sends one message only"),
        ]
        interleave(started(candidates, recorder), recorder, replace(run.pace, rounds=min(3, run.pace.rounds)))


def growth(run: Run) -> None:
    """Measures Check with 1e3 to 1e6 live grants, their load time and memory (P6)."""
    recorder = run.recorder("growth")
    sizes = GROWTH[::2] if run.quick else GROWTH
    with ExitStack() as stack:
        bench = run.alone(stack)
        candidates = [
            _ours(bench, Mode(transport=best_transport(), grants=size), facts.questions(size), name=f"{size} grants")
            for size in sizes
        ]
        targets = started(candidates, recorder)
        for name, target in targets.items():
            if isinstance(target, Server):
                recorder.row(name, 0, "load", {"seconds": target.running.started_in})
        interleave(targets, recorder, run.pace)


def batch(run: Run) -> None:
    """Measures BatchCheckAccess of 1 to 1,000 items (P7), and of 100 without records, to show what records cost."""
    recorder = run.recorder("batch")
    asked = facts.questions()
    recorded = Mode(transport=best_transport())
    with ExitStack() as stack:
        bench = run.alone(stack)
        running: dict[Mode, Running] = {}

        def start(mode: Mode, size: int) -> Target:
            if mode not in running:
                running[mode] = bench.ours(mode)
            return Server(
                running=running[mode],
                call=batch_call(running[mode], asked, size),
                connections=4,
                streams=2,
                per_call=size,
            )

        candidates = [Candidate(name=f"batch of {size}", start=partial(start, recorded, size)) for size in BATCHES]
        unrecorded = replace(recorded, audit="off")
        candidates.append(Candidate(name="unrecorded batch of 100", start=partial(start, unrecorded, 100)))
        targets: dict[str, Target] = {}
        for candidate in candidates:
            # The candidates share a server, which must not be paused when the next one asks it.
            for target in targets.values():
                target.processes[0].resume()
            targets |= started([candidate], recorder)
        interleave(targets, recorder, run.pace)


def workers(run: Run) -> None:
    """Compares one worker with two (P10). A fair answer needs two cores for the server and one for the load."""
    recorder, asked = run.recorder("workers"), facts.questions()
    enough = cores() >= 3
    free = {0, 2} if enough else {SERVER_CORE, LOAD_CORE}
    with ExitStack() as stack:
        bench = run.alone(stack)
        candidates = [
            Candidate(
                name=f"{count} workers",
                start=partial(_server, bench, Mode(transport=best_transport(), workers=count), asked, core=free),
                caveat="" if enough else "the second worker shares its core with the load",
            )
            for count in (1, 2)
        ]
        interleave(started(candidates, recorder), recorder, run.pace)


def rest(run: Run) -> None:
    """Measures one Check direct, through Envoy as gRPC and as REST; and Envoy with an idle upstream (P9)."""
    recorder, asked = run.recorder("rest"), facts.questions()
    mode = Mode(transport=best_transport())

    def allowed(answer: bytes, expected: bool) -> bool:
        return (b'"allowed":true' in answer.replace(b" ", b"")) is expected

    def behind(start: Callable[[], Running], call: Callable[[Running], Any]) -> Callable[[], Target]:
        def started_behind() -> Target:
            running = bench.edge(start())
            return Server(running=running, call=call(running))

        return started_behind

    def same_bytes(served: Mode) -> Running:
        """Starts a floor that gives our own answers: a yes and a no in turn."""
        running = bench.ours(served)
        answers = []
        for question in asked[:2]:
            request = access_pb2.CheckAccessRequest.FromString(facts.check_message(question))
            answers.append(calls.ask(running, "gateway", CHECK, request, access_pb2.CheckAccessResponse)[0])
        running.processes[0].stop()
        return bench.floor(served.transport, [answer.SerializeToString() for answer in answers])

    def as_rest(served: Mode) -> list[Candidate]:
        of = "" if served == mode else f", {served.transport}"
        ours, empty = partial(bench.ours, served), partial(bench.floor, served.transport)
        return [
            Candidate(name=f"REST through Envoy{of}", start=behind(ours, lambda at: rest_call(at, asked, allowed))),
            Candidate(
                name=f"same bytes, REST through Envoy{of}",
                start=behind(partial(same_bytes, served), lambda at: rest_call(at, asked, lambda *_: True)),
            ),
            Candidate(
                name=f"empty, REST through Envoy{of}",
                start=behind(empty, lambda at: rest_call(at, asked, lambda *_: True)),
            ),
        ]

    with ExitStack() as stack:
        bench = run.alone(stack)
        ours, empty = partial(bench.ours, mode), partial(bench.floor, mode.transport)
        candidates = [
            Candidate(name="gRPC direct", start=lambda: _server(bench, mode, asked)),
            Candidate(name="gRPC through Envoy", start=behind(ours, lambda at: check_call(at, asked))),
            Candidate(name="empty, gRPC through Envoy", start=behind(empty, lambda at: empty_call(at, asked))),
        ]
        candidates += [each for transport in TRANSPORTS for each in as_rest(replace(mode, transport=transport))]
        interleave(started(candidates, recorder), recorder, run.pace)


def metrics(run: Run) -> None:
    """Compares Check with metrics that somebody scrapes and without, on both transports (P12)."""
    recorder, asked = run.recorder("metrics"), facts.questions()
    with ExitStack() as stack:
        bench = run.alone(stack)

        def scraped(mode: Mode) -> Target:
            running = bench.ours(mode)
            return Scraped(running=running, call=check_call(running, asked, mode.consistency_number()))

        candidates = []
        for transport in TRANSPORTS:
            mode = Mode(transport=transport)
            seen = replace(mode, metrics=True)
            candidates += [_ours(bench, mode, asked), Candidate(name=seen.name, start=partial(scraped, seen))]
        interleave(started(candidates, recorder), recorder, run.pace)


def peers(run: Run) -> None:
    """Compares Cerbos, SpiceDB and casbin on the same facts and questions with ours on both databases (P3, P4)."""
    recorder, asked = run.recorder("peers"), facts.questions()
    for fault in install():
        recorder.skip("installation", fault)
    best = best_transport()
    with ExitStack() as stack:
        bench = run.alone(stack)
        on_postgresql = Mode(transport=best, database="postgresql")
        candidates = [
            _floor(bench, "native", asked),
            _ours(bench, Mode(transport=best), asked),
            _ours(bench, on_postgresql, asked),
            Candidate(name="cerbos", start=lambda: cerbos.start(bench, asked), caveat=cerbos.CAVEAT),
            _spicedb(bench, "spicedb-memory-1e3", known=inprocess.FEW, caveat=inprocess.FEW_CAVEAT),
            *([] if run.quick else [_spicedb(bench, "spicedb-memory")]),
            *([] if run.quick else [_spicedb(bench, "spicedb-postgresql", postgresql=True)]),
            _spicedb(bench, "spicedb-postgresql-fully", postgresql=True, fully=True),
            Candidate(name="casbin", start=lambda: inprocess.casbin(bench, asked), caveat=inprocess.CASBIN_CAVEAT),
        ]
        targets = started(candidates, recorder)
        interleave(targets, recorder, run.pace, steady=targets)


def writes(run: Run) -> None:
    """Compares cycles of request, approve, revoke with three bare commits (P11), then verifies the audit log."""
    recorder = run.recorder("writes")
    cycles = 100 if run.quick else 600
    with ExitStack() as stack:
        bench = run.alone(stack)
        lifecycle.writes(bench, recorder, run.pace.rounds, cycles, best_transport())


def revoke(run: Run) -> None:
    """Measures whether a Check that begins after the ack of a revoke is ever answered yes (P8)."""
    recorder = run.recorder("revoke")
    tries = 2_000 if run.quick else 100_000
    with ExitStack() as stack:
        seconds = 10 if run.quick else 540
        lifecycle.revoke_to_deny(run.alone(stack), recorder, tries, best_transport(), at_most_seconds=seconds)


def token(run: Run) -> None:
    """Measures tokens: issue, verify offline, introspect."""
    recorder = run.recorder("tokens")
    with ExitStack() as stack:
        tokens.measure(run.alone(stack), recorder, run.pace.rounds, best_transport())


def replica(run: Run) -> None:
    """Runs bench/replica.py in a process of its own; its JSON lines are rows."""
    recorder = run.recorder("replica")
    if not (ROOT / "bench" / "replica.py").exists():
        recorder.skip("replica", "this version has no bench/replica.py")
        return
    command: list[str | Path] = [
        SERVICE_BIN / "python",
        "bench/replica.py",
        "--grants",
        "1000" if run.quick else "10000",
    ]
    try:
        with on_cores(SERVER_CORE, LOAD_CORE):
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    except subprocess.TimeoutExpired:
        recorder.skip("replica", "bench/replica.py did not end in 600 s")
        return
    if done.returncode != 0:
        words = done.stderr.strip().splitlines()
        recorder.skip("replica", f"bench/replica.py failed: {words[-1] if words else done.returncode}")
        return
    for line in filter(None, done.stdout.splitlines()):
        row = json.loads(line)
        recorder.row(row.pop("candidate"), 1, row.pop("metric"), row)


def _floor(bench: Bench, transport: str, asked: list[Question]) -> Candidate:
    def start() -> Target:
        running = bench.floor(transport)
        return Server(running=running, call=empty_call(running, asked))

    return Candidate(name=FLOORS[transport], start=start, caveat="an empty answer, nothing looked up")


def _ours(bench: Bench, mode: Mode, asked: list[Question], *, name: str = "") -> Candidate:
    return Candidate(name=name or mode.name, start=lambda: _server(bench, mode, asked))


def _new_questions(bench: Bench, mode: Mode) -> Candidate:
    def start() -> Target:
        running = bench.ours(mode)
        return Server(running=running, call=new_call(running))

    return Candidate(name=f"{mode.name}, new questions", start=start)


def _server(bench: Bench, mode: Mode, asked: list[Question], *, core: int | set[int] = SERVER_CORE) -> Server:
    running = bench.ours(mode, core=core)
    pid = bench.postgresql().pid if mode.database == "postgresql" else 0
    return Server(running=running, call=check_call(running, asked, mode.consistency_number()), database_pid=pid)


def _spicedb(
    bench: Bench,
    name: str,
    *,
    known: int = facts.FACTS,
    postgresql: bool = False,
    fully: bool = False,
    caveat: str = inprocess.SPICEDB_CAVEAT,
) -> Candidate:
    def start() -> Target:
        target = inprocess.spicedb(bench, known=known, postgresql=postgresql)
        target.fully = fully
        return target

    return Candidate(name=name, start=start, caveat=caveat)


def sustain(run: Run) -> None:
    """Holds each candidate at saturation for ten minutes, then reads the log that it wrote (S1 to S8, S11)."""
    chosen = [one for one in sustained.candidates(default_transport()) if run.chosen(one.name)]
    if run.quick:
        chosen = chosen[:1]
    names = {one.name for one in chosen}
    recorder = run.recorder(PART, keep=lambda name: bool(run.only) and name not in names)
    default = name_of(default_transport(), "sqlite", sustained.REPEATED)
    sustained.measure(run.alone, recorder, chosen, default=default, seconds=run.pace.lasting_seconds)


def list_everything(run: Run) -> None:
    """Measures every documented list and search on small and large stores (S6, S10)."""
    chosen = [one for one in lists.stores(most=run.most) if run.chosen(one.name)]
    names = {one.name for one in chosen}
    recorder = run.recorder("lists", keep=lambda name: bool(run.only) and name not in names)
    lists.measure(run.alone, recorder, chosen, default_transport())


PARTS: Final[dict[str, Part]] = {
    "generator": generator,
    "transport": transport,
    "growth": growth,
    "batch": batch,
    "workers": workers,
    "rest": rest,
    "metrics": metrics,
    "peers": peers,
    "writes": writes,
    "revoke": revoke,
    "tokens": token,
    "replica": replica,
    PART: sustain,
    "lists": list_everything,
}
QUICK: Final = ("transport", "batch", "peers", "writes", "revoke", PART)
