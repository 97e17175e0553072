"""The targets S1 to S11, of speed that lasts. What a run was too short to show counts as not measured. Pure.

What changes over ten minutes needs a run of ten; a ratio of medians needs two, and says of how many seconds it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Final

from bench.goals import Goal, ratio
from bench.long_runs import TEN_MINUTES, LongRun, long_runs, name_of
from bench.results import Row, by_round

_FLOOR_NATIVE, _FLOOR_SYNC = "floor-native", "floor-sync-4"
_ENOUGH_RECORDS: Final = 9_000_000
_ENOUGH_SECONDS: Final = 120
_LISTS: Final = "lists"
Runs = dict[str, LongRun]


def goals(rows: Sequence[Row]) -> dict[str, tuple[str, list[Goal]]]:
    """Returns each target's title and goals."""
    runs = long_runs(rows)
    return {
        "S1": ("The last of ten minutes as the first", _lasting(runs)),
        "S2": ("Check on pygrpc-native, for ten minutes", _native(rows, runs)),
        "S3": ("Check on grpcio, for ten minutes", _grpcio(rows, runs)),
        "S4": ("Beside Cerbos and SpiceDB, for ten minutes", _peers(runs)),
        "S5": ("Disk for a check", _disk(runs)),
        "S6": ("Searches of ten million records", _searches(rows, runs)),
        "S7": ("Verify and export", _reading(rows, runs)),
        "S8": ("Batches, for ten minutes", _batches(runs)),
        "S9": ("REST through Envoy beside the same bytes", _rest(rows)),
        "S10": ("Lists of grants, and writes", _grants(rows)),
        "S11": ("Start, and memory over time", _growth(rows, runs)),
    }


def _lasting(runs: Runs) -> list[Goal]:
    made = []
    for name in _OURS:
        for measure, word, most in (("requests_per_second", "requests/s", False), ("p99_ms", "p99", True)):
            what = f"{name}: {word} of the last minute over the first"
            goal = Goal(what=what, unit="x", target=1.05 if most else 0.95, at_least=not most, rounds=())
            made.append(_of(runs, name, goal, lambda run, measure=measure: run.kept(measure)))  # type: ignore[misc]
    return made


def _native(rows: Sequence[Row], runs: Runs) -> list[Goal]:
    made = [
        _over_floor(runs, name_of("native", database, questions), _FLOOR_NATIVE, target)
        for database, questions, target in (
            ("sqlite", "repeated", 0.60),
            ("sqlite", "new", 0.45),
            ("postgresql", "repeated", 0.45),
        )
    ]
    made += [
        ratio(rows, "transport", f"ours-native-{mode}", _FLOOR_NATIVE, target)
        for mode, target in (("strong-buffered", 0.75), ("bounded-off", 0.88))
    ]
    return made


def _grpcio(rows: Sequence[Row], runs: Runs) -> list[Goal]:
    mode = "ours-grpcio-strong-committed"
    return [
        _over_floor(runs, name_of("grpcio", "sqlite", "repeated"), _FLOOR_SYNC, 0.60),
        ratio(rows, "transport", mode, _FLOOR_SYNC, 2, measure="p99_ms", kind="steady", most=True),
    ]


def _peers(runs: Runs) -> list[Goal]:
    default = next((run for run in runs.values() if any("default" in row for row in run.of("begin"))), None)
    shown = default.name if default else "what `up` starts"
    spicedb = _best(run for name, run in runs.items() if name.startswith("spicedb"))
    made = []
    for name, run, wanted in (
        (shown, default, (1.2, 1.4)),
        (name_of("native", "sqlite", "repeated"), runs.get(name_of("native", "sqlite", "repeated")), (5, 6)),
    ):
        for peer, target in zip((runs.get("cerbos, repeated"), spicedb), wanted, strict=True):
            value = _quotient(run, peer)
            what = f"{name}, requests per CPU second, over {peer.name if peer else 'a peer that was not measured'}"
            goal = Goal(what=what, unit="x", target=target, at_least=True, rounds=value)
            made.append(_long_enough(goal, run, least=_ENOUGH_SECONDS))
    return made


def _disk(runs: Runs) -> list[Goal]:
    made = []
    for name in _LARGE:
        for kind, word, target in (("rest", "a minute after it", 120), ("window", "at the end of the run", 250)):
            goal = Goal(what=f"{name}: disk for a check, {word}", unit="B", target=target, at_least=False, rounds=())
            goal = _of(runs, name, goal, lambda run, kind=kind: run.disk_per_check(kind))  # type: ignore[misc]
            made.append(_of_ten_million(goal, runs.get(name)))
    return made


def _searches(rows: Sequence[Row], runs: Runs) -> list[Goal]:
    made = []
    for name in _LARGE:
        run = runs.get(name)
        for what, kind, measure, keep, target in (
            ("newest page by any of six filters, the slowest", "search", "p99_ms", _not_id, 100),
            ("the same in the seconds after the load", "search at once", "first_ms", _not_id, 100),
            ("by decision_id", "search", "p99_ms", _is_id, 50),
        ):
            found = [row[measure] for row in (run.of(kind) if run else []) if keep(row)]
            goal = Goal(what=f"{name}: {what}", unit="ms", target=target, at_least=False, rounds=_most(found))
            made.append(_of_ten_million(_fault_of(goal, run, kind), run))
    slowest = [row["p99_ms"] for row in rows if _is_list(row, "audit", 10_000_000) and row.get("filter") in _NEWEST]
    what = "of ten million records of part lists, newest page by any of six filters, p99 of the slowest"
    made.append(Goal(what=what, unit="ms", target=100, at_least=False, rounds=_most(slowest)))
    return made


def _reading(rows: Sequence[Row], runs: Runs) -> list[Goal]:
    name = name_of("native", "sqlite", "repeated")
    run = runs.get(name)
    whole, new = (run.fact(kind, "seconds") if run else None for kind in ("verify", "verify from a checkpoint"))
    return [
        _fault_of(_verified(name, run, whole, new), run, "verify"),
        Goal(
            what=f"{name}: verify from a checkpoint with nothing new, over verify of all",
            unit="x",
            target=0.05,
            at_least=False,
            rounds=(new / whole,) if new is not None and whole else (),
        ),
        _read(run, Goal(what=f"{name}: export", unit="records/s", target=150_000, at_least=True, rounds=()), "export"),
        *(_told(each) for each in runs.values() if each.name == name or each.fact("tail", "told") is not None),
        *_reading_of_lists(rows),
    ]


def _told(run: LongRun) -> Goal:
    what = f"{run.name}: of the records, told by tail when the load ended"
    return _read(run, Goal(what=what, unit="x", target=0.99, at_least=True, rounds=()), "tail", "told")


def _verified(name: str, run: LongRun | None, whole: float | None, new: float | None) -> Goal:
    """Returns how quickly records are recomputed. The rows' seals take as long whatever the log, and are told apart."""
    records = run.fact("verify", "records") if run else None
    alone = whole - (new or 0.0) if whole is not None else 0.0
    rounds = (records / alone,) if records and alone > 0 else ()
    note = f"without the seals of the rows, {new:.1f} s" if rounds and new is not None else ""
    return Goal(what=f"{name}: verify", unit="records/s", target=400_000, at_least=True, rounds=rounds, note=note)


def _reading_of_lists(rows: Sequence[Row]) -> list[Goal]:
    """Returns what reading the largest log of part lists takes, on the slower database."""
    made = []
    for kind, target in (("verify", 400_000), ("export", 150_000)):
        of = [row for row in rows if (row["part"], row["kind"]) == (_LISTS, kind)]
        size = max((row["size"] for row in of), default=0)
        rates = [row.get("records_per_second", 0.0) for row in of if row["size"] == size]
        what = f"of {size:,} records of part lists: {kind}"
        goal = Goal(what=what, unit="records/s", target=target, at_least=True, rounds=(min(rates),) if rates else ())
        made += [goal] if of else []
    return made


def _batches(runs: Runs) -> list[Goal]:
    made = []
    for transport in ("native", "grpcio"):
        name = name_of(transport, "sqlite", "batches of 100")
        goal = Goal(what=f"{name}: CPU for each item", unit="µs", target=12, at_least=False, rounds=())
        made.append(_of(runs, name, goal, lambda run: run.all("cpu_us"), least=_ENOUGH_SECONDS))
    return made


def _rest(rows: Sequence[Row]) -> list[Goal]:
    return [
        ratio(rows, "rest", f"REST through Envoy{of}", f"{floor}, REST through Envoy{of}", target)
        for of in ("", ", grpcio")
        for floor, target in (("same bytes", 0.9), ("empty", 0.8))
    ]


def _grants(rows: Sequence[Row]) -> list[Goal]:
    own = [row["p50_ms"] for row in rows if _is_list(row, "grants of one", 1_000_000) and row.get("filter") == "mine"]
    inbox = [row["p50_ms"] for row in rows if _is_list(row, "pending", 100_000) and row.get("filter") == "reviewable"]
    cycles = by_round(rows, "writes", "cycles-sqlite", "cycles_per_second", kind="cycles")
    return [
        Goal(
            what="own grants, first page of 1e6, p50, slowest database",
            unit="ms",
            target=10,
            at_least=False,
            rounds=_most(own),
        ),
        Goal(
            what="inbox with 1e5 pending, p50, slowest database",
            unit="ms",
            target=20,
            at_least=False,
            rounds=_most(inbox),
        ),
        Goal(
            what="request, approve and revoke on SQLite",
            unit="cycles/s",
            target=600,
            at_least=True,
            rounds=tuple(cycles.values()),
        ),
    ]


def _growth(rows: Sequence[Row], runs: Runs) -> list[Goal]:
    start = by_round(rows, "growth", "1000000 grants", "seconds", kind="load")
    made = [Goal(what="start with 1e6 grants", unit="s", target=5, at_least=False, rounds=tuple(start.values()))]
    name = name_of("native", "sqlite", "repeated")
    goal = Goal(what=f"{name}: start on the database that the run left", unit="s", target=3, at_least=False, rounds=())
    goal = _of(runs, name, goal, lambda run: run.fact("restart", "seconds"), least=0)
    made.append(_of_ten_million(goal, runs.get(name)))
    restarts = [row for row in rows if (row["part"], row["kind"]) == (_LISTS, "restart")]
    size = max((row["size"] for row in restarts), default=0)
    if restarts:
        again = [row["seconds"] for row in restarts if row["size"] == size]
        what = f"start with {size:,} records of part lists"
        made.append(Goal(what=what, unit="s", target=3, at_least=False, rounds=_most(again)))
    for transport in ("native", "grpcio"):
        name = name_of(transport, "sqlite", "new")
        goal = Goal(what=f"{name}: growth of memory", unit="MiB/h", target=10, at_least=False, rounds=())
        made.append(_of(runs, name, goal, LongRun.memory_growth))
    return made


_OURS: Final = tuple(
    name_of(transport, database, questions)
    for transport in ("native", "grpcio")
    for database in ("sqlite", "postgresql")
    for questions in ("repeated", "new")
)
# Batches write more records in ten minutes than single checks, which reach ten million on a fast machine only.
_LARGE: Final = (
    *(name_of("native", database, "repeated") for database in ("sqlite", "postgresql")),
    name_of("grpcio", "sqlite", "batches of 100"),
)
_NEWEST: Final = ("subject", "resource", "grant", "principal", "event", "time")


def _of(
    runs: Runs, name: str, goal: Goal, value: Callable[[LongRun], float | None], *, least: float = TEN_MINUTES
) -> Goal:
    """Returns the goal with its value in the run of that name, if there is one of at least so many seconds."""
    run = runs.get(name)
    found = value(run) if run else None
    goal = replace(goal, rounds=() if found is None else (found,))
    return _long_enough(goal, run, least=least) if least else goal


def _over_floor(runs: Runs, name: str, floor: str, target: float) -> Goal:
    goal = Goal(what=f"{name}, requests/s, over {floor}", unit="x", target=target, at_least=True, rounds=())
    return _of(runs, name, goal, lambda run: run.of_floor(floor), least=_ENOUGH_SECONDS)


def _long_enough(goal: Goal, run: LongRun | None, *, least: float = TEN_MINUTES) -> Goal:
    """Returns the goal without its value if the run was shorter than the least, with a note if than ten minutes."""
    if run is None or run.seconds >= TEN_MINUTES or goal.value is None:
        return goal
    if run.seconds >= least:
        return replace(goal, note=f"over {run.seconds:.0f} s")
    note = f"the run had only {run.seconds:g} s; in these it was {goal.value:.4g}"
    return replace(goal, rounds=(), note=note)


def _of_ten_million(goal: Goal, run: LongRun | None) -> Goal:
    """Returns the goal without its value if the run left fewer than nine million records."""
    records = (run.fact("rest", "records") if run else None) or 0
    if records >= _ENOUGH_RECORDS or goal.value is None:
        return goal
    return replace(goal, rounds=(), note=f"there were only {records:,.0f} records; with these it was {goal.value:.4g}")


def _read(run: LongRun | None, goal: Goal, kind: str, measure: str = "records_per_second") -> Goal:
    value = run.fact(kind, measure) if run else None
    return _fault_of(replace(goal, rounds=() if value is None else (value,)), run, kind)


def _fault_of(goal: Goal, run: LongRun | None, kind: str) -> Goal:
    """Returns the goal as missed if what it is about failed."""
    voids = [row["void"] for row in (run.rows if run else ()) if row["kind"] == kind and "void" in row]
    return replace(goal, failed=f"{kind}: {voids[0]}") if voids else goal


def _best(runs: Iterable[LongRun]) -> LongRun | None:
    return max(runs, key=lambda run: run.all("requests_per_core_second") or 0, default=None)


def _quotient(above: LongRun | None, below: LongRun | None) -> tuple[float, ...]:
    values = [run.all("requests_per_core_second") if run else None for run in (above, below)]
    return (values[0] / values[1],) if values[0] and values[1] else ()


def _most(values: Sequence[float]) -> tuple[float, ...]:
    return (max(values),) if values else ()


def _is_id(row: Row) -> bool:
    return bool(row["filter"] == "decision_id")


def _not_id(row: Row) -> bool:
    return not _is_id(row)


def _is_list(row: Row, what: str, size: int) -> bool:
    return (
        row["part"] == _LISTS
        and row["kind"] == "list"
        and "void" not in row
        and (row["what"], row["size"]) == (what, size)
    )
