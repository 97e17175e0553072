"""What a run says: its facts as JSON, and whether all that must hold has held."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import inf
from pathlib import Path
from typing import Any

from bench.machine import environment
from tests.reliability.trial import RECOVERY_SECONDS, WHOLE, Outcome, Part, seen
from tests.soak.judge import LOST, WRONG, Log, Property, judge

SHOWN = 5
"""How many examples of a violation are kept."""


@dataclass(frozen=True, kw_only=True)
class Command:
    """What was run, and when. `skipped` are the faults that this machine cannot do."""

    text: str
    seed: int
    part: Part = WHOLE
    at: datetime
    skipped: Sequence[str] = ()


def of_trials(
    command: Command, outcomes: Sequence[Outcome], log: Log, states: Mapping[str, str], versions: Mapping[str, str]
) -> dict[str, Any]:
    """Returns the facts of faults that were done. The store was read when all of them were over."""
    judged = [(outcome, judge(outcome.told, log, states=states, recoveries=(), growths=())) for outcome in outcomes]
    rows = [_row(outcome, properties) for outcome, properties in judged]
    return {
        "passed": not log.problem and all(row["passed"] for row in rows),
        **about(command, versions),
        "chain": log.problem or f"whole, {log.records:,} records",
        "skipped": list(command.skipped),
        "rows": rows,
        "properties": _sums([properties for _, properties in judged]),
    }


def about(command: Command, versions: Mapping[str, str]) -> dict[str, Any]:
    """Returns what was run, when, and on what."""
    machine = environment()
    return {
        "command": command.text if command.part == WHOLE else f"{command.text} PART={command.part}",
        "part": str(command.part),
        "seed": command.seed,
        "at": command.at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "machine": {
            "cpu": machine["cpu"],
            "cores": machine["cores"],
            "kernel": machine["kernel"],
            "versions": {**machine["versions"], **versions},
        },
    }


def _row(outcome: Outcome, properties: Sequence[Property]) -> dict[str, Any]:
    violated = [each for each in properties if each.violations]
    late = outcome.seconds > RECOVERY_SECONDS
    return {
        "name": outcome.name,
        "sees": outcome.sees,
        "seen": seen(outcome),
        "broken": round(outcome.broken, 1),
        "recovered": {way: None if took == inf else round(took, 2) for way, took in sorted(outcome.recovered.items())},
        "lost": _harm(properties, LOST),
        "wrong": _harm(properties, WRONG),
        "passed": not violated and not late and not outcome.problem,
        "problems": [
            *([outcome.problem] if outcome.problem else []),
            *(f"{each.name}: {example}" for each in violated for example in each.examples[:SHOWN]),
        ],
    }


def _harm(properties: Iterable[Property], harm: str) -> int:
    return sum(each.violations for each in properties if each.harm == harm)


def _sums(judged: Sequence[Sequence[Property]]) -> list[dict[str, Any]]:
    """Returns each property over all faults. What is judged by the log alone counts once."""
    sums = []
    for each in zip(*judged, strict=True):
        of_log = each[0].name in ("no grant ends twice", "the audit chain is whole")
        trials = each[0].trials if of_log else sum(one.trials for one in each)
        violations = each[0].violations if of_log else sum(one.violations for one in each)
        if trials:
            sums.append({"name": each[0].name, "trials": trials, "violations": violations})
    return sums


def now() -> datetime:
    """Returns when a run begins."""
    return datetime.now(UTC)


def write(result: Mapping[str, Any], path: Path) -> None:
    """Writes a result."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")


def publish(result: Mapping[str, Any], path: Path) -> None:
    """Writes a result where the page is made from; a part goes beside the other parts of the same run."""
    others = [each for each in published(path) if _is_another_part(each, result)]
    write({"parts": sorted([*others, result], key=lambda each: Part.parse(each["part"]))}, path)


def published(path: Path) -> list[dict[str, Any]]:
    """Returns the results of the parts that are published; nothing where none is."""
    return list(json.loads(path.read_text())["parts"]) if path.exists() else []


def _is_another_part(each: Mapping[str, Any], than: Mapping[str, Any]) -> bool:
    one, other = Part.parse(each["part"]), Part.parse(than["part"])
    return each["seed"] == than["seed"] and one.count == other.count and one != other


def summary(result: Mapping[str, Any]) -> str:
    """Returns the verdict in a few lines."""
    lines = [f"{'passed' if result['passed'] else 'FAILED'}: {result['command']}"]
    lines += [
        f"  FAILED {row['name']}: {problem.splitlines()[0]}"
        for row in result.get("rows", ())
        if not row["passed"]
        for problem in (row["problems"] or [f"it took longer than {RECOVERY_SECONDS:g} s: {row['recovered']}"])[:3]
    ]
    for each in result["properties"]:
        mark = "FAILED" if each["violations"] else "ok"
        lines.append(f"  {mark:<6} {each['name']}: {each['violations']} of {each['trials']:,}")
    return "\n".join(lines)
