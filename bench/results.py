"""Rows: one measurement each, appended to a JSON-lines file per part, and the statistics of them."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Row = dict[str, Any]


@dataclass(kw_only=True)
class Recorder:
    """Writes the rows of one part, in place of those that were there, but for those of candidates to keep.

    `note` says what disturbed the run, and is printed beside its numbers.
    """

    part: str
    directory: Path
    versions: dict[str, str]
    rows: list[Row] = field(default_factory=list)
    keep: Callable[[str], bool] = lambda _candidate: False
    note: str = ""

    def __post_init__(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        lines = self._file.read_text().splitlines() if self._file.exists() else []
        kept = [line for line in lines if self.keep(json.loads(line)["candidate"])]
        self._file.write_text("".join(f"{line}\n" for line in kept))

    @property
    def _file(self) -> Path:
        return self.directory / f"{self.part}.jsonl"

    def row(self, candidate: str, number: int, kind: str, facts: Row) -> Row:
        """Writes one measurement, and prints it."""
        row = {"part": self.part, "candidate": candidate, "round": number, "kind": kind, **_rounded(facts)}
        self._keep(row)
        shown = {key: row[key] for key in _SHOWN if key in row}
        print(f"  {self.part:<10} {number:>2} {candidate:<40} {kind:<11} {_words(shown)}", file=sys.stderr, flush=True)
        return row

    def skip(self, candidate: str, why: str) -> None:
        """Writes why a candidate was not measured."""
        self._keep({"part": self.part, "candidate": candidate, "kind": "skipped", "why": why})
        print(f"  {self.part:<10}  - {candidate:<40} skipped: {why}", file=sys.stderr, flush=True)

    def started(self, candidate: str, *, seconds: float, caveat: str = "") -> None:
        """Writes how long a candidate took to start, and the caveat of its numbers."""
        self._keep(
            {"part": self.part, "candidate": candidate, "kind": "started", "seconds": round(seconds, 3)}
            | ({"caveat": caveat} if caveat else {})
            | ({"note": self.note} if self.note else {})
        )

    def _keep(self, row: Row) -> None:
        row = row | {"at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "versions": self.versions}
        self.rows.append(row)
        with self._file.open("a") as file:
            file.write(json.dumps(row) + "\n")


_SHOWN = (
    "requests_per_second",
    "cycles_per_second",
    "tries",
    "stale",
    "valid",
    "records",
    "floor",
    "filter",
    "at_second",
    "seconds",
    "disk_bytes",
    "records_per_second",
    "cpu_us",
    "edge_cpu_us",
    "p50_ms",
    "p99_ms",
    "p50",
    "p99",
    "value",
    "unit",
    "server_busy",
    "load_busy",
    "void",
)


def append_skip(directory: Path, part: str, why: str) -> None:
    """Adds a row that says that the part could not be finished."""
    with (directory / f"{part}.jsonl").open("a") as file:
        file.write(json.dumps({"part": part, "candidate": part, "kind": "skipped", "why": why}) + "\n")


def read(directory: Path) -> list[Row]:
    """Returns all rows of all parts that have been measured."""
    return [
        json.loads(line) for path in sorted(directory.glob("*.jsonl")) for line in path.read_text().splitlines() if line
    ]


def by_round(
    rows: Iterable[Row], part: str, candidate: str, measure: str, *, kind: str = "saturation"
) -> dict[int, float]:
    """Returns a candidate's numbers by round, without void rows."""
    return {
        row["round"]: float(row[measure])
        for row in rows
        if (row["part"], row["candidate"], row["kind"]) == (part, candidate, kind)
        and "void" not in row
        and measure in row
    }


def ratios(above: dict[int, float], below: dict[int, float]) -> list[float]:
    """Returns the ratio of two candidates in each round that has both."""
    return [above[number] / below[number] for number in sorted(above) if below.get(number)]


def median(values: Iterable[float]) -> float | None:
    """Returns the median, or None of no values."""
    kept = list(values)
    return statistics.median(kept) if kept else None


def quantile(ordered: Sequence[float], q: float) -> float:
    """Returns the q-quantile of sorted values by nearest rank; the largest for a q near 1."""
    if not ordered:
        raise ValueError("nothing has no quantile")
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))]


def candidates(rows: Iterable[Row], part: str, keep: Callable[[Row], bool] = lambda _row: True) -> list[str]:
    """Returns the names of a part's candidates in their order of measurement."""
    return list(dict.fromkeys(row["candidate"] for row in rows if row["part"] == part and keep(row)))


def _rounded(facts: Row) -> Row:
    return {key: round(value, 4) if isinstance(value, float) else value for key, value in facts.items()}


def _words(facts: Row) -> str:
    return "  ".join(
        f"{key}={value:,}" if isinstance(value, int | float) else f"{value}" for key, value in facts.items()
    )
