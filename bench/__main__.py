"""`python -m bench run|report`: measures, and writes what docs/benchmarks.md shows. Started by `make bench`."""

from __future__ import annotations

import argparse
import gc
import signal
import sys
import tempfile
import time
import traceback
import warnings
from contextlib import ExitStack
from pathlib import Path

from bench import machine, page, plots, profiles, results, targets
from bench.parts import PARTS, QUICK, Run
from bench.rounds import Pace, say
from bench.servers import Bench

RESULTS = machine.ROOT / "bench" / "results"
QUICK_RESULTS = machine.WORK / "quick"
_FULL = Pace(rounds=5, seconds=3, steady_seconds=3, warm_up=0.7, lasting_seconds=600)
_QUICK = Pace(rounds=5, seconds=0.6, steady_seconds=0.6, warm_up=0.15, lasting_seconds=120)


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="measure, then report")
    run.add_argument("--quick", action="store_true", help="the core of it in about eight minutes")
    run.add_argument("--part", action="append", choices=list(PARTS), help="only this part; may be repeated")
    run.add_argument("--rounds", type=int, help="rounds instead of the usual five")
    run.add_argument("--seconds", type=float, help="seconds of a turn (3), and of a run of part sustained (600)")
    run.add_argument("--only", action="append", default=[], help="of sustained and lists, those whose names hold this")
    run.add_argument("--most", type=int, default=10_000_000, help="of part lists, stores of at most this size")
    run.add_argument("--note", default="", help="what else ran meanwhile; it is printed beside the numbers")
    run.add_argument("--results", type=Path, help="where rows go")
    report = commands.add_parser("report", help="make summary, plots and page of the rows that are there")
    report.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    if arguments.command == "report":
        _report(arguments.results, environment=None)
        return
    _run(arguments)


def _run(arguments: argparse.Namespace) -> None:
    # TERM, which a timeout sends, must also end the processes that were started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    # A library of the PostgreSQL wheel warns of it, but does not need it.
    warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR")
    pace = _QUICK if arguments.quick else _FULL
    pace = Pace(
        rounds=arguments.rounds or pace.rounds,
        seconds=arguments.seconds or pace.seconds,
        steady_seconds=arguments.seconds or pace.steady_seconds,
        warm_up=pace.warm_up,
        lasting_seconds=arguments.seconds or pace.lasting_seconds,
    )
    where = arguments.results or (QUICK_RESULTS if arguments.quick else RESULTS)
    environment = machine.environment()
    if machine.cores() < 2:
        say("one core only: server and load share it, so these ratios say little")
    machine.pin(machine.LOAD_CORE)
    machine.WORK.mkdir(parents=True, exist_ok=True)
    begin = time.monotonic()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="b-", dir=_short_place())))
        bench = Bench(directory, stack)
        run = Run(
            bench=bench,
            results=where,
            pace=pace,
            versions=environment["versions"],
            quick=arguments.quick,
            only=tuple(arguments.only),
            most=arguments.most,
            note=arguments.note,
        )
        for name in arguments.part or (QUICK if arguments.quick else PARTS):
            try:
                PARTS[name](run)
            # Go on after any fault of a part: it is reported as not measured.
            except Exception as fault:
                say(traceback.format_exc())
                results.append_skip(where, name, " ".join(f"{type(fault).__name__}: {fault}".split())[:400])
            gc.collect()
        environment["minutes"] = round((time.monotonic() - begin) / 60, 1)
        summary = _report(where, environment=environment)
        if not arguments.part:
            profiles.of_misses(bench, where, summary)
            _report(where, environment=environment)


def _report(where: Path, *, environment: dict[str, object] | None) -> dict[str, object]:
    rows = results.read(where)
    summary = targets.summary(rows, environment or targets.kept_environment(where))
    targets.write(where, summary)
    plots.draw(rows, where)
    text = page.text(rows, summary, where)
    if where.resolve() == RESULTS.resolve():
        (machine.ROOT / "docs" / "benchmarks.md").write_text(text)
    else:
        (where / "benchmarks.md").write_text(text)
    say(targets.table(summary))
    return summary


def _short_place() -> str | None:
    """Returns a short path, as sockets need, on the disk of the work tree, which the service's databases would use."""
    place = str(machine.WORK)
    return place if len(place) < 60 else None


if __name__ == "__main__":
    main()
