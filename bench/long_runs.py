"""What the windows of a long run say: its first and its last minute, its floor, its disk and memory. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from bench.results import Row, median

PART: Final = "sustained"
TEN_MINUTES: Final = 590
"""Of so many seconds a run counts as one of ten minutes."""
_MINUTE: Final = 60.0


@dataclass(frozen=True)
class LongRun:
    """The rows of one candidate of part `sustained`."""

    name: str
    rows: Sequence[Row]

    def of(self, kind: str) -> list[Row]:
        """Returns its rows of a kind, without void ones."""
        return [row for row in self.rows if row["kind"] == kind and "void" not in row]

    @cached_property
    def windows(self) -> list[Row]:
        return self.of("window")

    @property
    def seconds(self) -> float:
        """How long it ran."""
        return float(self.windows[-1]["at_second"]) if self.windows else 0.0

    @property
    def minute(self) -> float:
        """The seconds of its first and of its last minute: in a shorter run than five minutes, a fifth of it."""
        return min(_MINUTE, self.seconds / 5)

    def first(self, measure: str) -> float | None:
        """Returns the median of a measure in the first minute."""
        return self._median(measure, 0, self.minute)

    def last(self, measure: str) -> float | None:
        """Returns the median of a measure in the last minute."""
        return self._median(measure, self.seconds - self.minute, self.seconds)

    def all(self, measure: str) -> float | None:
        """Returns the median of a measure over the whole run."""
        return self._median(measure, 0, self.seconds)

    def kept(self, measure: str) -> float | None:
        """Returns the last minute over the first: 1 is no change."""
        first, last = self.first(measure), self.last(measure)
        return last / first if first and last is not None else None

    def of_floor(self, floor: str, measure: str = "requests_per_second") -> float | None:
        """Returns a measure over the median of the floor's turns before and after the run."""
        below = median(row[measure] for row in self.of("floor") if row["floor"] == floor and measure in row)
        mine = self.all(measure)
        return mine / below if below and mine is not None else None

    def disk_per_check(self, kind: str = "window") -> float | None:
        """Returns the bytes that the database grew by for each check, while it ran or at `rest`."""
        begin, end = self.of("begin"), self.of(kind)
        if not begin or not end or not end[-1].get("checks") or "disk_bytes" not in end[-1]:
            return None
        return float(end[-1]["disk_bytes"] - begin[0]["disk_bytes"]) / float(end[-1]["checks"])

    def memory_growth(self) -> float | None:
        """Returns MiB an hour, by least squares over the second half; None for less than two minutes of it."""
        half = [row for row in self.windows if row["at_second"] > self.seconds / 2 and "memory_mib" in row]
        if len(half) < 2 or half[-1]["at_second"] - half[0]["at_second"] < 2 * _MINUTE:
            return None
        return 3600 * _slope([(row["at_second"], row["memory_mib"]) for row in half])

    def fact(self, kind: str, measure: str) -> float | None:
        """Returns a measure of its last row of a kind."""
        rows = [row for row in self.of(kind) if measure in row]
        return float(rows[-1][measure]) if rows else None

    def _median(self, measure: str, begin: float, end: float) -> float | None:
        return median(row[measure] for row in self.windows if begin < row["at_second"] <= end and measure in row)


def long_runs(rows: Sequence[Row]) -> dict[str, LongRun]:
    """Returns the long runs by name, in their order."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        if row["part"] == PART:
            found.setdefault(row["candidate"], []).append(row)
    return {name: LongRun(name, own) for name, own in found.items() if any(row["kind"] == "window" for row in own)}


def name_of(transport: str, database: str, questions: str) -> str:
    """Returns the name of a candidate of ours: strong and committed."""
    return f"ours-{transport}-{database}, {questions}"


def _slope(points: Sequence[tuple[float, Any]]) -> float:
    middle_x, middle_y = (sum(values) / len(points) for values in zip(*points, strict=True))
    spread = sum((x - middle_x) ** 2 for x, _ in points)
    return sum((x - middle_x) * (y - middle_y) for x, y in points) / spread if spread else 0.0
