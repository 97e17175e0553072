"""The first sections of the page: what one gets by default, what settings give, and ten minutes at saturation. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from bench.long_runs import TEN_MINUTES, LongRun, long_runs
from bench.results import Row, by_round, median

_SEARCHES: Final = ("search at once", "search")
_SETTINGS: Final = (
    ("nothing", "{default}-strong-committed"),
    ("`JIT_TRANSPORT=native`", "native-strong-committed"),
    ("`JIT_AUDIT_CHECKS=buffered`", "{default}-strong-buffered"),
    ("`JIT_AUDIT_CHECKS=buffered`, `JIT_TRANSPORT=native`", "native-strong-buffered"),
    ("`JIT_AUDIT_CHECKS=off`, callers ask BOUNDED", "{default}-bounded-off"),
    ("`JIT_AUDIT_CHECKS=off`, callers ask BOUNDED, `JIT_TRANSPORT=native`", "native-bounded-off"),
)


def by_default(rows: Sequence[Row]) -> str:
    """Returns what `jit-service up` gives as it comes, beside the other engines, over the same minutes."""
    runs = long_runs(rows)
    default = _default(runs.values())
    if default is None:
        return ""
    family = default.name.partition(",")[0]
    shown = [run for name, run in runs.items() if name.startswith(f"{family},") or not name.startswith("ours")]
    others = [run for run in shown if not run.name.startswith("ours")]
    lines = [
        "## What you get by default",
        f"`jit-service up` as it comes, asked over gRPC: SQLite, STRONG, each check recorded before its answer leaves "
        f"({family}). Medians over {default.seconds / 60:.3g} minutes at 64 calls in flight.\n",
        "| | requests/s | per CPU second | p50 ms | p99 ms | disk for a check, B |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for run in shown:
        facts = [_number(run.all(each), form) for each, form in _PLAIN]
        lines.append(f"| {run.name} | {' | '.join(facts)} | {_number(run.disk_per_check('rest'), '{:,.0f}')} |")
    lines.append("")
    for run in others:
        lines += [f"- {run.name}: {row['caveat']}." for row in run.rows if "caveat" in row]
    return "\n".join(lines) + "\n"


def by_settings(rows: Sequence[Row]) -> str:
    """Returns what each setting gives, of the turns of part `transport`."""
    default = _default(long_runs(rows).values())
    transport = default.name.split("-")[1] if default else "grpcio"
    lines = []
    for words, name in _SETTINGS:
        asked = f"ours-{name.format(default=transport)}"
        measures = [median(by_round(rows, "transport", asked, each).values()) for each, _ in _PLAIN]
        facts = [_number(value, form) for value, (_, form) in zip(measures, _PLAIN, strict=True)]
        line = f"| {words} | {' | '.join(facts)} |"
        if measures[0] is not None and line not in lines:
            lines.append(line)
    if not lines:
        return ""
    head = [
        "## What settings give",
        "Turns of some seconds, interleaved; repeated questions. What each setting gives up is said in "
        "[operating](operating.md).\n",
        "| set | requests/s | per CPU second | p50 ms | p99 ms |",
        "| --- | --- | --- | --- | --- |",
    ]
    return "\n".join([*head, *lines]) + "\n"


def over_time(rows: Sequence[Row], picture: Sequence[str]) -> str:
    """Returns the table of the long runs, and what reading the logs cost that they left."""
    runs = list(long_runs(rows).values())
    if not runs:
        return ""
    seconds = max(run.seconds for run in runs)
    lines = [
        "## Ten minutes",
        *picture,
        f"Part `sustained`: up to {seconds / 60:.3g} minutes each at 64 calls in flight (batches: 8), a row every 5 s; "
        f"first and last are the medians of the first and the last {max(run.minute for run in runs):.3g} s, or of a "
        "fifth of a run of less than five minutes. The floors have a turn before and after each run. Disk is every "
        "file of the database, beyond what was there at first.\n",
        "| | requests/s, first | last | p99 ms, first | last | CPU µs | of floor-native | of floor-sync-4 | MiB, first "
        "| last | disk B a check, running | at rest |",
        "| --- " * 12 + "|",
    ]
    lines += [_line(run) for run in runs]
    lines += ["", *_reading(runs)]
    lines += [f"- {one}" for run in runs for one in (*_notes(run), *_faults(run))]
    skipped = [row for row in rows if row["part"] == "sustained" and row["kind"] == "skipped"]
    lines += [f"- {row['candidate']} was not measured: {row['why']}." for row in skipped]
    return "\n".join(lines) + "\n"


_PLAIN: Final = (
    ("requests_per_second", "{:,.0f}"),
    ("requests_per_core_second", "{:,.0f}"),
    ("p50_ms", "{:.2f}"),
    ("p99_ms", "{:.2f}"),
)


def _line(run: LongRun) -> str:
    facts = [
        _number(run.first("requests_per_second"), "{:,.0f}"),
        _number(run.last("requests_per_second"), "{:,.0f}"),
        _number(run.first("p99_ms"), "{:.2f}"),
        _number(run.last("p99_ms"), "{:.2f}"),
        _number(run.all("cpu_us"), "{:,.1f}"),
        _number(run.of_floor("floor-native"), "{:.2f}"),
        _number(run.of_floor("floor-sync-4"), "{:.2f}"),
        _number(run.first("memory_mib"), "{:,.0f}"),
        _number(run.last("memory_mib"), "{:,.0f}"),
        _number(run.disk_per_check("window"), "{:,.0f}"),
        _number(run.disk_per_check("rest"), "{:,.0f}"),
    ]
    return f"| {run.name} | {' | '.join(facts)} |"


def _reading(runs: Sequence[LongRun]) -> list[str]:
    """Returns the table of verify, export, tail, restart and searches at the end of the runs."""
    read = [run for run in runs if run.of("rest")]
    if not read:
        return []
    filters = dict.fromkeys(row["filter"] for run in read for row in run.rows if row["kind"] in _SEARCHES)
    lines = [
        "At the end of each run: verify (with the seals of the 1e5 grants) and export of the whole log, the share of "
        "the records that tail had told when a short load ended, a start on its database, and the newest page by each "
        "filter, p99 of 20 after a minute of rest (in brackets the first one, at once after the load), in ms.\n",
        f"| | records | verify, records/s | from a checkpoint, s | export, records/s | tail | start, s | "
        f"{' | '.join(filters)} |",
        "| --- " * (7 + len(filters)) + "|",
    ]
    for run in read:
        facts = [
            _number(run.fact("rest", "records"), "{:,.0f}"),
            _number(run.fact("verify", "records_per_second"), "{:,.0f}"),
            _number(run.fact("verify from a checkpoint", "seconds"), "{:.3g}"),
            _number(run.fact("export", "records_per_second"), "{:,.0f}"),
            _number(run.fact("tail", "told"), "{:.3f}"),
            _number(run.fact("restart", "seconds"), "{:.1f}"),
        ]
        for name in filters:
            later, once = (
                next((row[measure] for row in run.of(kind) if row["filter"] == name), None)
                for kind, measure in (("search", "p99_ms"), ("search at once", "first_ms"))
            )
            facts.append(f"{_number(later, '{:,.0f}')} ({_number(once, '{:,.0f}')})")
        lines.append(f"| {run.name} | {' | '.join(facts)} |")
    return [*lines, ""]


def _notes(run: LongRun) -> list[str]:
    """Returns how long the run was, if that was not ten minutes, and what disturbed it."""
    length = [] if run.seconds >= TEN_MINUTES else [f"{run.seconds:.0f} s"]
    said = [*length, *(f"meanwhile {note}" for note in dict.fromkeys(row["note"] for row in run.rows if "note" in row))]
    return [f"{run.name}: {'; '.join(said)}."] if said else []


def _faults(run: LongRun) -> list[str]:
    voids: dict[str, list[Any]] = {}
    for row in run.rows:
        if "void" in row:
            voids.setdefault(row["kind"], []).append(row["void"])
    return [f"{run.name}: {len(faults)} void rows ({kind}): {faults[0]}." for kind, faults in voids.items()]


def _default(runs: Iterable[LongRun]) -> LongRun | None:
    return next((run for run in runs if any("default" in row for row in run.of("begin"))), None)


def _number(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)
