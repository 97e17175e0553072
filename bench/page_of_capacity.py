"""The page docs/capacity.md: what each thing costs, and a model of a large installation. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from bench.results import Row, median

_GRANTS: Final = 100_000_000
_CHECKS_A_DAY: Final = 1_000_000_000
_HOSTS: Final = 200
_PEAK: Final = 3
"""How much more than the day's mean a peak is, where nothing is known."""
_CORE: Final = 0.5
"""Of a core, what a plan should use: the rest is for peaks, garbage and a host that is away."""
_DAY: Final = 86_400
_GIB: Final = 2**30
_PAGE: Final = """# Capacity

Written by `make capacity` ({stamps}) and from the rows of `make bench`; do not edit.
These are timings of a shared machine with two cores: take them as sizes, and measure your own with the same command.

## What each costs
| live grants | start s | service MiB | SQLite MiB | replica MiB | replica's load s |
| --- | --- | --- | --- | --- | --- |
{sizes}

| one more | costs |
| --- | --- |
| live grant | {service:,.0f} B in each process, {file:,.0f} B in SQLite, {replica:,.0f} B in each replica |
| check's record | {record:,.0f} B on disk once it is merged |
| watcher of all grants | {watcher:,.0f} KiB in the service, {change:,.0f} µs of its CPU for each change |

| a check | CPU µs | checks/s at {core:.0f} % of a core |
| --- | --- | --- |
{modes}

## A large installation
{grants:,} live grants, {checks:,} checks a day, {hosts} hosts with services that ask. The peak is taken as {peak}
times the day's mean,
and a core is used to {core:.0f} %. All of it is multiplied from the table above; no installation of this size was run.

| what | needed | then |
| --- | --- | --- |
{model}

{logs}
## What breaks first, and what to do then
1. **Memory.** Each process keeps all live grants. Where they do not fit, run fewer, larger processes on a host
   (workers do not share them), or a store for each tenant or region, each with its own log and its own key.
2. **One writer.** The audit log is one chain, so all hosts append behind one row. With `committed` records, that is
   the bound of all hosts together ([benchmarks](benchmarks.md), ten minutes); `JIT_AUDIT_CHECKS=buffered` appends
   less often and larger, `denied` only refusals.
3. **Checks.** More hosts and workers, as long as the writer holds; then replicas in the services that ask, which
   answer in microseconds without a call, and record nothing.
4. **The log's size.** `JIT_AUDIT_RETENTION` with `JIT_AUDIT_ARCHIVE`; `jit audit verify` from a checkpoint or an
   archive's end instead of from the first record.
   PostgreSQL drops the log's partitions whole ([ADR 73](adr/0073-partition-the-audit-log.md)).
5. **Watchers.** Each is told each change that it may see: watch one's own grants instead of all, and one replica a
   host instead of one a process.
"""


_LOGS: Final = """## A long audit log
A service that starts on a log of {records:,} records, in {pieces:,} pieces, with 100,000 live grants. {real}
Each search is for the newest page of 50, 20 times, over gRPC with a new connection each: p50 (p99) in ms. The instants
and decisions that are asked for are of the oldest pieces, behind all others.

| | {databases} |
| --- {columns}|
{rows}
"""
_REAL: Final = "200,000 checks were made; all other pieces are theirs again, at places and times of their own."
_PAGE_SIZE: Final = 50


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A size of the store: start in seconds, memory of the service and of a replica, and the file, in bytes."""

    grants: int
    start_seconds: float
    service_bytes: int
    file_bytes: int
    replica_bytes: int
    replica_seconds: float


def text(measured: dict[str, Any], rows: list[Row]) -> str:
    """Returns the page. No number there is typed by hand, but the assumptions of the model."""
    grants = measured["grants"]
    sizes = [Measured(**each) for each in grants["sizes"]]
    small, large = sizes[0], sizes[-1]
    per = {
        name: (getattr(large, name) - getattr(small, name)) / (large.grants - small.grants)
        for name in ("service_bytes", "file_bytes", "replica_bytes")
    }
    checks, disk, watchers = _checks(rows), _disk_of_a_check(rows), grants["watchers"]
    sized = [
        f"| {each.grants:,} | {each.start_seconds:.1f} | {_mib(each.service_bytes)} | {_mib(each.file_bytes)} "
        f"| {_mib(each.replica_bytes)} | {each.replica_seconds:.1f} |"
        for each in sizes
    ]
    modes = [f"| {name} | {cost:,.0f} | {1e6 * _CORE / cost:,.0f} |" for name, cost in checks.items()]
    return _PAGE.format(
        stamps="; ".join(
            f"{part}: `{of['command']}`, at {of['at']}, commit {of['versions']['commit']}"
            for part, of in measured.items()
        ),
        logs=_long_logs(measured["logs"]["logs"]) if "logs" in measured else "",
        sizes="\n".join(sized),
        modes="\n".join(modes),
        service=per["service_bytes"],
        file=per["file_bytes"],
        replica=per["replica_bytes"],
        record=disk,
        watcher=watchers["memory_bytes"] / 2**10,
        change=watchers["change_cpu_us"],
        model=_model(per, checks, disk, watchers),
        grants=_GRANTS,
        checks=_CHECKS_A_DAY,
        hosts=_HOSTS,
        core=100 * _CORE,
        peak=_PEAK,
    )


def _model(per: dict[str, float], checks: dict[str, float], disk: float, watchers: dict[str, float]) -> str:
    """Returns the rows of the model: what is needed, and on what it is spread."""
    mean = _CHECKS_A_DAY / _DAY
    rows = [
        ("grants in memory of each process", f"{_GRANTS * per['service_bytes'] / _GIB:,.0f} GiB", "**breaks first**"),
        ("the database's grants", f"{_GRANTS * per['file_bytes'] / _GIB:,.0f} GiB", "PostgreSQL holds it"),
        ("a replica of all grants", f"{_GRANTS * per['replica_bytes'] / _GIB:,.0f} GiB", "only of a part of them"),
        ("audit log", f"{_CHECKS_A_DAY * disk / _GIB:,.0f} GiB a day", "set JIT_AUDIT_RETENTION and an archive"),
        ("checks", f"{mean:,.0f}/s, at the peak {_PEAK * mean:,.0f}/s", "see the next rows"),
    ]
    rows += [
        (
            f"cores for the peak, {name}",
            f"{_PEAK * mean * cost / 1e6 / _CORE:,.1f}",
            f"{_PEAK * mean / _HOSTS:,.0f}/s on each of {_HOSTS} hosts",
        )
        for name, cost in checks.items()
    ]
    followed = _HOSTS * watchers["change_cpu_us"]
    rows.append(("a change, told to a watcher on each host", f"{followed / 1000:,.1f} ms of CPU", "in all services"))
    return "\n".join(f"| {what} | {need} | {then} |" for what, need, then in rows)


def _long_logs(logs: list[dict[str, Any]]) -> str:
    """Returns the section of long logs: a column a database."""
    lines: dict[str, list[str]] = {"on the disk, GiB": [], "start, s": [], "memory of the service, MiB": []}
    for log in logs:
        figures = (f"{log['disk_bytes'] / _GIB:,.1f}", f"{log['start_seconds']:.1f}", _mib(log["service_bytes"]))
        for cells, figure in zip(lines.values(), figures, strict=False):
            cells.append(figure)
        for row in log["searches"]:
            lines.setdefault(f"search: {row['filter']}", []).append(_searched(row))
    return _LOGS.format(
        records=logs[0]["records"],
        pieces=logs[0]["pieces"],
        real=_REAL,
        databases=" | ".join(log["database"] for log in logs),
        columns="| --- " * len(logs),
        rows="\n".join(f"| {what} | {' | '.join(cells)} |" for what, cells in lines.items()),
    )


def _searched(row: Row) -> str:
    if "void" in row:
        return f"failed: {row['void']}"
    part = "" if row["found"] == _PAGE_SIZE else f", {row['found']} found"
    return f"{row['p50_ms']:,.1f} ({row['p99_ms']:,.1f}){part}"


def _checks(rows: list[Row]) -> dict[str, float]:
    """Returns the CPU of a check in microseconds: by the minutes at saturation, else by the turns of seconds."""
    found: dict[str, float] = {}
    for transport in ("grpcio", "native"):
        long = [
            row["cpu_us"]
            for row in rows
            if (row["candidate"], row["kind"]) == (f"ours-{transport}-sqlite, repeated", "window") and "cpu_us" in row
        ]
        if (cost := median(long)) is not None:
            found[f"{transport}, committed (minutes at saturation)"] = cost
        for audit in ("committed", "buffered", "off"):
            turns = [
                row["cpu_us"]
                for row in rows
                if (row["candidate"], row["kind"]) == (f"ours-{transport}-strong-{audit}", "saturation")
                and "cpu_us" in row
            ]
            if (cost := median(turns)) is not None:
                found[f"{transport}, {audit} (turns of seconds)"] = cost
    return found


def _disk_of_a_check(rows: list[Row]) -> float:
    """Returns the bytes on disk for a check, a minute after the longest run."""
    runs: dict[str, list[Row]] = {}
    for row in rows:
        if row["part"] == "sustained" and "sqlite, repeated" in row["candidate"]:
            runs.setdefault(row["candidate"], []).append(row)
    best: tuple[int, float] = (0, 0.0)
    for own in runs.values():
        begin = next((row["disk_bytes"] for row in own if row["kind"] == "begin"), None)
        rest = next((row["disk_bytes"] for row in own if row["kind"] == "rest" and "disk_bytes" in row), None)
        checks = max((row["checks"] for row in own if row["kind"] == "window"), default=0)
        if begin is not None and rest is not None and checks:
            best = max(best, (checks, (rest - begin) / checks))
    return best[1]


def _mib(size: int) -> str:
    return f"{size / 2**20:,.0f}"
