"""Judges the targets by the rows: P1 to P12, and S1 to S11 of long_targets.

The module is pure, except that it reads and writes the summary.

Each target is one or more goals. A goal's value is the median of what its rounds gave; a target is met when all its
goals are, and not judged (None) where a goal could not be measured and none was missed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from bench import long_targets
from bench.goals import PER_CORE, Goal, ratio
from bench.results import Row, by_round, median

FLOOR_AIO, FLOOR_NATIVE = "floor-aio", "floor-native"
COMMITTED: Final = "ours-native-strong-committed"


def summary(rows: Sequence[Row], environment: dict[str, Any]) -> dict[str, Any]:
    """Returns `{"targets": {"P1": {"value", "target", "met", "rounds", …}, …}, "environment": …}`.

    Value, target and rounds are those of the goal that is furthest from being met; all are in `goals`.
    """
    judged = {name: _judged(title, goals) for name, (title, goals) in goals(rows).items()}
    return {"targets": judged, "environment": environment}


def goals(rows: Sequence[Row]) -> dict[str, tuple[str, list[Goal]]]:
    """Returns each target's title and goals."""
    return long_targets.goals(rows) | {
        "P1": ("Check on pygrpc-native", _transport_goals(rows, "native", FLOOR_NATIVE, (0.50, 0.70, 0.85))),
        "P2": ("Check on grpcio", _transport_goals(rows, "grpcio", FLOOR_AIO, (0.80, None, 0.95))),
        "P3": ("Check beside Cerbos and SpiceDB", _peer_goals(rows)),
        "P4": ("Check on PostgreSQL", _postgresql_goals(rows)),
        "P5": ("p99 at 1,000/s", _latency_goals(rows)),
        "P6": ("Growth", _growth_goals(rows)),
        "P7": ("Batches", _batch_goals(rows)),
        "P8": ("Replica and revokes", _revoke_goals(rows)),
        "P9": ("REST through Envoy", _rest_goals(rows)),
        "P10": ("Two workers", _worker_goals(rows)),
        "P11": ("Writes", _write_goals(rows)),
        "P12": ("Metrics, scraped each second", _metrics_goals(rows)),
    }


def write(directory: Path, summary: dict[str, Any]) -> None:
    """Writes DIRECTORY/summary.json."""
    (directory / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")


def kept_environment(directory: Path) -> dict[str, Any]:
    """Returns the environment in the existing summary."""
    path = directory / "summary.json"
    kept: dict[str, Any] = json.loads(path.read_text())["environment"] if path.exists() else {}
    return kept


def table(summary: dict[str, Any]) -> str:
    """Returns the goals as text for a terminal."""
    lines = []
    for name, target in summary["targets"].items():
        for goal in target["goals"]:
            sign = ">=" if goal["at_least"] else "<="
            value = "-" if goal["value"] is None else f"{goal['value']:.4g}"
            bound = f"{sign} {goal['target']:<8.4g} {goal['unit']:<13}"
            lines.append(f"{name:<4} {MET[goal['met']]:<12} {value:>9} {bound} {goal['what']}")
    return "\n".join(lines)


_TRIES: Final = 100_000
MET: Final = {True: "met", False: "MISSED", None: "not measured"}


def _judged(title: str, all_goals: list[Goal]) -> dict[str, Any]:
    worst = min(all_goals, key=lambda goal: goal.margin)
    verdicts = [goal.met for goal in all_goals]
    met = False if False in verdicts else None if None in verdicts else True
    return {
        "title": title,
        "value": _round(worst.value),
        "target": worst.target,
        "met": met,
        "rounds": [_round(value) for value in worst.rounds],
        "what": worst.what,
        "goals": [
            {
                "what": goal.what,
                "unit": goal.unit,
                "value": _round(goal.value),
                "target": goal.target,
                "at_least": goal.at_least,
                "met": goal.met,
                "rounds": [_round(value) for value in goal.rounds],
            }
            | ({"note": goal.failed or goal.note} if goal.failed or goal.note else {})
            for goal in all_goals
        ],
    }


def _transport_goals(
    rows: Sequence[Row], transport: str, floor: str, wanted: tuple[float, float | None, float]
) -> list[Goal]:
    modes = ("strong-committed", "strong-buffered", "bounded-off")
    return [
        ratio(rows, "transport", f"ours-{transport}-{mode}", floor, target)
        for mode, target in zip(modes, wanted, strict=True)
        if target is not None
    ]


def _peer_goals(rows: Sequence[Row]) -> list[Goal]:
    best = _best(rows, "peers", ("spicedb-memory-1e3", "spicedb-memory", "spicedb-postgresql"), PER_CORE)
    return [
        ratio(rows, "peers", COMMITTED, "cerbos", 3, measure=PER_CORE),
        ratio(rows, "peers", COMMITTED, best or "spicedb-postgresql", 4, measure=PER_CORE),
    ]


def _postgresql_goals(rows: Sequence[Row]) -> list[Goal]:
    ours = f"{COMMITTED}-postgresql"
    return [
        ratio(rows, "peers", ours, FLOOR_NATIVE, 0.30),
        ratio(rows, "peers", ours, "spicedb-postgresql-fully", 6, measure=PER_CORE),
    ]


def _latency_goals(rows: Sequence[Row]) -> list[Goal]:
    made = []
    for transport, floor in (("native", FLOOR_NATIVE), ("grpcio", FLOOR_AIO)):
        ours = f"ours-{transport}-strong-committed"
        goal = ratio(rows, "transport", ours, floor, 2, measure="p99_ms", kind="steady", most=True)
        own = [row for row in rows if (row["part"], row["candidate"], row["kind"]) == ("transport", ours, "steady")]
        if own and all("void" in row for row in own):
            goal = replace(goal, failed=f"{ours}: {own[0]['void']}")
        made.append(goal)
    return made


def _growth_goals(rows: Sequence[Row]) -> list[Goal]:
    small, large = 1_000, 1_000_000
    load = [_single(rows, "growth", f"{size} grants", "seconds", kind="load") for size in (small, large)]
    memory = [median(by_round(rows, "growth", f"{size} grants", "memory_mib").values()) for size in (small, large)]
    loading = (load[1] - load[0],) if load[0] is not None and load[1] is not None else ()
    each: tuple[float, ...] = ()
    if memory[0] is not None and memory[1] is not None:
        each = ((memory[1] - memory[0]) * 2**20 / (large - small),)
    return [
        ratio(rows, "growth", f"{large} grants", f"{small} grants", 1.15, measure="cpu_us", most=True),
        Goal(what="loading 1e6 grants, beyond the start with 1e3", unit="s", target=10, at_least=False, rounds=loading),
        Goal(what="resident memory for each grant", unit="B", target=1024, at_least=False, rounds=each),
    ]


def _batch_goals(rows: Sequence[Row]) -> list[Goal]:
    recorded, unrecorded = (
        tuple(by_round(rows, "batch", name, "cpu_us").values()) for name in ("batch of 100", "unrecorded batch of 100")
    )
    note = f"without records it is {bare:.1f} µs" if (bare := median(unrecorded)) is not None else ""
    what = "CPU for each item of a batch of 100"
    return [Goal(what=what, unit="µs", target=8, at_least=False, rounds=recorded, note=note)]


def _revoke_goals(rows: Sequence[Row]) -> list[Goal]:
    strong = [row for row in rows if row["candidate"] == "revoke-to-deny-strong" and "stale" in row]
    tries = sum(row["tries"] for row in strong)
    note = f"none stale in n tries bounds the rate at about 3/n, here {3 / tries:.1e}" if tries else ""
    return [
        Goal(
            what="LocalChecker.check in-process, p50",
            unit="µs",
            target=5,
            at_least=False,
            rounds=_replica(rows, "check_us", "p50"),
        ),
        Goal(
            what=f"answers that were stale after a revoke's ack, STRONG, in {tries:,} tries",
            unit="answers",
            target=0,
            at_least=False,
            rounds=tuple(float(row["stale"]) for row in strong),
            note=note if tries >= _TRIES or not tries else f"{note}; fewer than {_TRIES:,}, for want of time",
        ),
        Goal(
            what="from sending a revoke to the replica's first no, p99",
            unit="ms",
            target=100,
            at_least=False,
            rounds=_replica(rows, "revoke_to_deny_ms", "p99"),
        ),
    ]


def _replica(rows: Iterable[Row], metric: str, measure: str) -> tuple[float, ...]:
    return tuple(float(row[measure]) for row in rows if (row["part"], row["kind"]) == ("replica", metric))


def _rest_goals(rows: Sequence[Row]) -> list[Goal]:
    return [
        ratio(rows, "rest", f"REST through Envoy{of}", f"empty, REST through Envoy{of}", 0.9) for of in ("", ", grpcio")
    ]


def _worker_goals(rows: Sequence[Row]) -> list[Goal]:
    shared = any(row["part"] == "workers" and row["kind"] == "started" and "caveat" in row for row in rows)
    goal = ratio(rows, "workers", "2 workers", "1 workers", 1.8)
    if not shared:
        return [goal]
    note = (
        f"two cores are not free for them here; sharing one with the load it was {goal.value:.2f}" if goal.value else ""
    )
    return [Goal(what=goal.what, unit=goal.unit, target=1.8, at_least=True, rounds=(), note=note)]


def _write_goals(rows: Sequence[Row]) -> list[Goal]:
    ours, bare = (
        by_round(rows, "writes", name, "cycles_per_second", kind="cycles") for name in ("cycles-sqlite", "bare-sqlite")
    )
    floor = median(bare.values())
    target = round(min(300.0, 0.8 * floor), 1) if floor is not None else 300.0
    note = f"0.8 of three bare commits a cycle is {0.8 * floor:,.0f}/s" if floor is not None else ""
    verified = [bool(row.get("valid")) for row in rows if row["part"] == "writes" and row["kind"] == "verified"]
    return [
        Goal(
            what="request, approve and revoke on SQLite",
            unit="cycles/s",
            target=target,
            at_least=True,
            rounds=tuple(ours.values()),
            note=note,
        ),
        Goal(
            what="audit logs that were whole afterwards",
            unit="of all",
            target=1,
            at_least=True,
            rounds=(sum(verified) / len(verified),) if verified else (),
        ),
    ]


def _metrics_goals(rows: Sequence[Row]) -> list[Goal]:
    return [
        ratio(
            rows,
            "metrics",
            f"ours-{transport}-strong-committed-metrics",
            f"ours-{transport}-strong-committed",
            1.03,
            measure="cpu_us",
            most=True,
        )
        for transport in ("grpcio", "native")
    ]


def _best(rows: Sequence[Row], part: str, names: Iterable[str], measure: str) -> str | None:
    scores = {name: median(by_round(rows, part, name, measure).values()) for name in names}
    known = {name: score for name, score in scores.items() if score is not None}
    return max(known, key=lambda name: known[name]) if known else None


def _single(rows: Sequence[Row], part: str, candidate: str, measure: str, *, kind: str) -> float | None:
    return median(by_round(rows, part, candidate, measure, kind=kind).values())


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
