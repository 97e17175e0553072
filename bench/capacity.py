"""What one grant, check, record, replica and watcher cost, and what that makes of a large installation.

    python -m bench.capacity [--only grants] [--only logs] [--most 1000000] [--records 100000000]

It measures grants, replicas and watchers on this machine, and searches of a long audit log on both databases, takes the
costs of checks and records from the rows of the other parts in bench/results, and writes docs/capacity.md. What is
beyond the measured sizes is multiplied, and the page says so.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import psutil

from bench import audit_index, audit_log, lists, machine, seed
from bench.machine import ROOT
from bench.page_of_capacity import Measured, text
from bench.results import Row
from bench.servers import Bench, Mode, Running
from jitaccess import JitClient, LocalChecker

RESULT: Final = ROOT / "bench" / "results" / "capacity.json"
PAGE: Final = ROOT / "docs" / "capacity.md"
SIZES: Final = (10_000, 100_000, 1_000_000)
_RECORDS: Final = 100_000_000
_REAL_RECORDS: Final = 200_000
"""So many checks are made; a longer log repeats their pieces."""
_DATABASES: Final = ("sqlite", "postgresql")
_PARTS: Final = ("grants", "logs")
_WATCHERS: Final = 12
_CHANGES: Final = 200


def main() -> None:
    """Measures, and writes the page."""
    parser = argparse.ArgumentParser(prog="python -m bench.capacity", description=__doc__.splitlines()[0])
    parser.add_argument("--most", type=int, default=SIZES[-1], help="stores of at most so many grants")
    parser.add_argument("--records", type=int, default=_RECORDS, help="an audit log of so many records")
    parser.add_argument("--only", action="append", choices=_PARTS, help="measure this part, and keep the others'")
    parser.add_argument("--page-only", action="store_true", help="write the page again from the last figures")
    given = parser.parse_args()
    found = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "grants": lambda: _grants([size for size in SIZES if size <= given.most]),
        "logs": lambda: {"logs": [_log(database, given.records) for database in _DATABASES]},
    }
    for part in () if given.page_only else given.only or _PARTS:
        # Written part by part: what was measured stays where the next one fails.
        found[part] = _stamp() | parts[part]()
        RESULT.write_text(json.dumps(found, indent=1) + "\n")
    PAGE.write_text(text(found, _rows()))


def _stamp() -> dict[str, Any]:
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(["python -m bench.capacity", *sys.argv[1:]]),
        "versions": machine.versions(),
        "machine": machine.environment(),
    }


def _grants(sizes: list[int]) -> dict[str, Any]:
    sized = []
    for size in sizes:
        _say(f"{size:,} grants")
        with _running(size) as (running, directory):
            service = running.processes[0].memory()
            replica, seconds = _replica(running)
            file = max(path.stat().st_size for path in directory.rglob("*.db"))
            sized.append(
                Measured(
                    grants=size,
                    start_seconds=round(running.started_in, 2),
                    service_bytes=service,
                    file_bytes=file,
                    replica_bytes=replica,
                    replica_seconds=round(seconds, 2),
                )
            )
    _say("watchers")
    return {"sizes": [asdict(each) for each in sized], "watchers": _watchers(sizes[0])}


def _log(database: str, records: int) -> dict[str, Any]:
    """Returns what a service needs that starts on so long a log, and how long the newest page of each filter takes."""
    _say(f"{records:,} records on {database}")
    with _bench() as (bench, _):
        mode = Mode(transport="grpcio", database=database)
        first = bench.ours(mode)
        # So that pieces have 1,024 records, as those of single checks have about.
        lists.check(first, min(_REAL_RECORDS, records), batch=128, at_once=1)
        first.processes[0].stop()
        with closing(seed.opened(first.url)) as store:
            pieces = audit_index.lengthen(store, records)
            disk = audit_index.disk_bytes(store)
        running = bench.ours(mode, url=first.url)
        searches = list(audit_log.searched(running, list(audit_log.FILTERS), audit_log.samples(running)))
        return {
            "database": database,
            "records": audit_log.event_count(running),
            "pieces": pieces,
            "start_seconds": round(running.started_in, 2),
            "service_bytes": running.processes[0].memory(),
            "disk_bytes": disk,
            "searches": searches,
        }


@contextmanager
def _running(size: int) -> Iterator[tuple[Running, Path]]:
    with _bench() as (bench, directory):
        yield bench.ours(Mode(transport="grpcio", grants=size)), directory


@contextmanager
def _bench() -> Iterator[tuple[Bench, Path]]:
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="jit-capacity-")))
        yield Bench(directory, stack), directory


def _replica(running: Running) -> tuple[int, float]:
    """Returns what a replica of the store needs in a process of its own, beyond the client: bytes, and seconds."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_hold_replica, (running.address, running.token))


def _hold_replica(address: str, token: str) -> tuple[int, float]:
    process = psutil.Process()
    with JitClient(address, token=token) as client:
        client.who_am_i()
        before, begin = process.memory_info().rss, time.perf_counter()
        with LocalChecker(client, ask_service=False) as checker:
            checker.wait_ready(timeout=600)
            return process.memory_info().rss - before, time.perf_counter() - begin


def _watchers(size: int) -> dict[str, float]:
    """Returns what a watcher costs: memory in bytes, and microseconds of CPU for each change that it is told."""
    with _running(size) as (running, _):
        process = running.processes[0]
        alone = _changes(running, process)
        before, stopping = process.memory(), threading.Event()
        with JitClient(running.address, token=running.admin_tokens["requester"]) as client:
            asked = client.request("writes/capacity/now", "read", justification="for the benchmark")
        threads = [
            threading.Thread(
                target=_watch, args=(running, ("auditor", "admin")[n % 2], asked.revision, stopping), daemon=True
            )
            for n in range(_WATCHERS)
        ]
        for thread in threads:
            thread.start()
        time.sleep(3)
        memory = (process.memory() - before) / _WATCHERS
        watched = _changes(running, process)
        stopping.set()
        return {
            "watchers": _WATCHERS,
            "memory_bytes": round(max(memory, 0.0)),
            "change_cpu_us": round(1e6 * max(watched - alone, 0.0) / _CHANGES / _WATCHERS, 1),
        }


def _watch(running: Running, who: str, since: int, stopping: threading.Event) -> None:
    """Watches from now on: what there is already would only be told at the start."""
    with JitClient(running.address, token=running.admin_tokens[who]) as client:
        for _ in client.watch_grants(start_revision=since, view="ALL"):
            if stopping.is_set():
                return


def _changes(running: Running, process: machine.Process) -> float:
    """Makes changes of grants, and returns the CPU seconds that the service needed."""
    with JitClient(running.address, token=running.admin_tokens["requester"]) as client:
        before = process.cpu_seconds()
        for number in range(_CHANGES // 2):
            asked = client.request(f"writes/capacity/c{number}", "read", justification="for the benchmark")
            client.withdraw(asked.name)
        time.sleep(1)
        return process.cpu_seconds() - before


def _rows() -> list[Row]:
    found: list[Row] = []
    for path in sorted((ROOT / "bench" / "results").glob("*.jsonl")):
        found += [json.loads(line) for line in path.read_text().splitlines()]
    return found


def _say(what: str) -> None:
    print(f"capacity: {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
