"""The commands, their arguments, and where their results go."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from random import SystemRandom
from typing import Any

from bench.machine import ROOT
from jit_service.runtime.dev_issuer import DevIssuer
from jit_service.settings import Settings
from tests.reliability import cluster, database, disk, host_faults, kill, one_host, page, results, rolling, sandbox
from tests.reliability.one_host import OneHost
from tests.reliability.packages import missing
from tests.reliability.trial import WHOLE, Fault, Part, Trials
from tests.soak.run import read_store

DATA = ROOT / ".data"
DOCS = ROOT / "docs"
_SWEEP_SECONDS = 2.0
_CANNOT = 77
"""The status where what is needed is not installed, as other test programs have it."""


def main(arguments: Sequence[str]) -> int:
    """Does a run, and returns the status: 1 where something did not hold, 77 where it cannot run here."""
    given = _parser().parse_args(arguments)
    # So that an end by TERM, as by a timeout, ends what was started too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    status: int = given.run(given)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.reliability", description=__doc__)
    commands = parser.add_subparsers(required=True)
    of_cluster = commands.add_parser("cluster", help="fail over a PostgreSQL cluster under three hosts of the service")
    of_cluster.add_argument("--short", action="store_true", help=f"only {' and '.join(cluster.SHORT)}")
    of_cluster.set_defaults(run=run_cluster)
    of_kill = commands.add_parser("kill", help="kill -9 the service under load, again and again")
    of_kill.add_argument("--database", choices=list(kill.COUNTS), default="sqlite")
    of_kill.add_argument("--count", type=int, help="how often [300 on SQLite, 100 on PostgreSQL]")
    of_kill.set_defaults(run=run_kill)
    of_faults = commands.add_parser("faults", help="break what one host of the service stands on")
    of_faults.add_argument("--database", choices=list(kill.COUNTS), default="sqlite")
    of_faults.set_defaults(run=run_faults)
    of_rolling = commands.add_parser("rolling", help="restart hosts in turn under load, and drop no call")
    of_rolling.add_argument("--database", choices=list(kill.COUNTS), default="postgresql")
    of_rolling.set_defaults(run=run_rolling)
    for each in (of_cluster, of_faults):
        each.add_argument("--seconds", type=float, default=0, help="begin new rounds of all faults until then")
        each.add_argument("--only", nargs="+", default=[""], help="only faults whose name contains one of these")
        each.add_argument("--rate", type=float, default=0, help="calls a second of all [as many as are answered]")
        each.add_argument("--part", type=_part, default=WHOLE, help="only part K of N of the faults, as K/N")
    for each in (of_cluster, of_faults, of_kill, of_rolling):
        each.add_argument("--seed", type=int, default=SystemRandom().randrange(1 << 31), help="who does what")
        each.add_argument("--publish", action="store_true", help="write docs/reliability.md")
        each.add_argument("--directory", type=Path, help="where files go; it is emptied [.data/COMMAND]")
    return parser


def _part(text: str) -> Part:
    try:
        return Part.parse(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not K/N with K from 1 to N, such as 2/3") from None


def _is_wanted(given: argparse.Namespace, name: str) -> bool:
    return any(part in name for part in given.only)


def run_cluster(given: argparse.Namespace) -> int:
    """Starts the cluster and does its faults."""
    if absent := missing():
        say(f"not installed: {' '.join(absent)}; `make cluster-packages` installs them")
        return _CANNOT
    say_where_it_is_less()
    directory = _emptied(given.directory or DATA / "cluster")
    work = Path(tempfile.mkdtemp(prefix="jit-cluster-"))
    # PostgreSQL and its companions run as another user.
    work.chmod(0o755)
    try:
        result = _cluster(given, directory, work)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return finish(result, "cluster", directory, publish=given.publish)


def _cluster(given: argparse.Namespace, directory: Path, work: Path) -> dict[str, Any]:
    faults = [
        each
        for each in cluster.FAULTS
        if _is_wanted(given, each.name) and (not given.short or each.name in cluster.SHORT)
    ]
    possible = [each for each in faults if sandbox.is_inside() or not each.needs_network]
    command = results.Command(
        text=f"make cluster SEED={given.seed}" + (f" SECONDS={given.seconds:g}" if given.seconds else ""),
        seed=given.seed,
        part=given.part,
        at=results.now(),
        skipped=[each.name for each in faults if each not in possible],
    )
    began = time.monotonic()
    say(f"seed {given.seed}: starting the database and three hosts of the service; logs in {directory}")
    with cluster.running(work, directory, is_real=sandbox.is_inside()) as running:
        say(f"all of it serves after {time.monotonic() - began:.0f} s; {len(given.part.of(possible))} faults")
        trials = Trials(running, running.site, given.seed, DevIssuer(work / "forger"), say, rate=given.rate)
        trials.rounds(possible, until=began + given.seconds, part=given.part)
        # The last expiries are recorded by the service's own clock.
        time.sleep(_SWEEP_SECONDS)
        settings = Settings.load(data_dir=work, database_url=running.database.writable_url, key_file=running.site.key)
        log, states = read_store(settings)
    return results.of_trials(command, trials.outcomes, log, states, database.versions())


def run_faults(given: argparse.Namespace) -> int:
    """Starts one host and does its faults."""
    directory = _emptied(given.directory or DATA / "faults" / given.database)
    work = Path(tempfile.mkdtemp(prefix="jit-faults-"))
    # PostgreSQL runs as another user.
    work.chmod(0o755)
    faults, skipped = _possible(given.database)
    command = results.Command(
        text=f"make faults DATABASE={given.database} SEED={given.seed}",
        seed=given.seed,
        part=given.part,
        at=results.now(),
        skipped=skipped,
    )
    faults = [each for each in faults if _is_wanted(given, each.name)]
    say(f"seed {given.seed}: {len(given.part.of(faults))} faults on {given.database}; files in {directory}")
    try:
        with one_host.running(work, given.database) as host:
            trials = Trials(host, host.site, given.seed, DevIssuer(work / "forger"), say, rate=given.rate)
            trials.rounds(faults, until=time.monotonic() + given.seconds, part=given.part)
            # The last expiries are recorded by the service's own clock.
            time.sleep(_SWEEP_SECONDS)
            host.site.kill()
            log, states = read_store(host.settings)
    finally:
        with suppress(OSError):
            shutil.copy(work / "service.log", directory)
        shutil.rmtree(work, ignore_errors=True)
    result = results.of_trials(command, trials.outcomes, log, states, {})
    return finish(result, f"faults-{given.database}", directory, publish=given.publish)


def _possible(database: str) -> tuple[list[Fault[OneHost]], list[str]]:
    """Returns the faults of a database that this machine can do, and why not the others."""
    on_sqlite = database == "sqlite"
    faults = [*host_faults.ON_BOTH, *(host_faults.ON_SQLITE if on_sqlite else host_faults.ON_POSTGRESQL)]
    skipped = []
    for wanted, is_possible, what in (
        (host_faults.CLOCKS, disk.has_compiler(), "there is no C compiler"),
        (
            host_faults.DISKS_OF_SQLITE if on_sqlite else host_faults.DISKS_OF_POSTGRESQL,
            disk.has_compiler(),
            "there is no C compiler",
        ),
        (
            (host_faults.FULL_DISK if on_sqlite else host_faults.FULL_DISK_OF_POSTGRESQL,),
            sandbox.is_inside(),
            "no file system can be mounted",
        ),
    ):
        if is_possible:
            faults += wanted
        else:
            skipped += [f"{each.name} ({what})" for each in wanted]
    return faults, skipped


def run_kill(given: argparse.Namespace) -> int:
    """Kills the service so often."""
    directory = _emptied(given.directory or DATA / "kill" / given.database)
    count = given.count or kill.COUNTS[given.database]
    say(f"seed {given.seed}: {count} x kill -9 on {given.database}; files in {directory}")
    result = kill.run(given.database, count, given.seed, directory, say)
    return finish(result, f"kill-{given.database}", directory, publish=given.publish)


def run_rolling(given: argparse.Namespace) -> int:
    """Restarts the hosts in turn."""
    directory = _emptied(given.directory or DATA / "rolling" / given.database)
    say(f"{rolling.HOSTS} hosts on {given.database} under {rolling.CALLERS} callers; files in {directory}")
    result = rolling.run(given.database, given.seed, directory, say)
    return finish(result, f"rolling-{given.database}", directory, publish=given.publish)


def finish(result: dict[str, Any], name: str, directory: Path, *, publish: bool) -> int:
    """Writes the result, and the page where that is wanted. Returns the status."""
    results.write(result, directory / "result.json")
    if publish:
        results.publish(result, DOCS / "reliability" / f"{name}.json")
        page.write(DOCS)
    say(results.summary(result))
    return 0 if result["passed"] else 1


def _emptied(directory: Path) -> Path:
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    return directory


def say_where_it_is_less() -> None:
    """Says what a user without namespaces does not get."""
    if not sandbox.is_inside():
        say("network namespaces cannot be made here (that needs root), so each host is an address of the loopback")


def say(text: str) -> None:
    """Tells people, on stderr."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)
