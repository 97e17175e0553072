"""A goal: a number of the rows that must be at least, or at most, another. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from bench.results import Row, by_round, median, ratios

RPS: Final = "requests_per_second"
PER_CORE: Final = "requests_per_core_second"


@dataclass(frozen=True, kw_only=True)
class Goal:
    """A number that must be at least, or at most, another. `failed` says why a goal without a number is missed."""

    what: str
    unit: str
    target: float
    at_least: bool
    rounds: tuple[float, ...]
    note: str = ""
    failed: str = ""

    @property
    def value(self) -> float | None:
        return median(self.rounds)

    @property
    def met(self) -> bool | None:
        """Whether it is met; None if nothing was measured."""
        if self.failed:
            return False
        if self.value is None:
            return None
        return self.value >= self.target if self.at_least else self.value <= self.target

    @property
    def margin(self) -> float:
        """By which factor it is met: 1 is exactly met, less is missed."""
        if self.failed:
            return 0.0
        if self.value is None:
            return float("inf")
        good, bad = (self.value, self.target) if self.at_least else (self.target, self.value)
        return good / bad if bad else float("inf")


def ratio(
    rows: Sequence[Row],
    part: str,
    above: str,
    below: str,
    target: float,
    *,
    measure: str = RPS,
    kind: str = "saturation",
    most: bool = False,
) -> Goal:
    """Returns the ratio of two candidates in each round."""
    found = ratios(by_round(rows, part, above, measure, kind=kind), by_round(rows, part, below, measure, kind=kind))
    what = f"{above}, {_MEASURES[measure]}, over {below}"
    return Goal(
        what=what,
        unit="x",
        target=target,
        at_least=not most,
        rounds=tuple(found),
        note=missing(rows, part, (above, below), kind),
    )


_MEASURES: Final = {
    RPS: "requests/s",
    PER_CORE: "requests per CPU second",
    "p99_ms": "p99",
    "cpu_us": "CPU per request",
}


def missing(rows: Sequence[Row], part: str, names: Iterable[str], kind: str) -> str:
    """Returns why a candidate has no numbers of that kind, or not all of them."""
    for name in names:
        of = [row for row in rows if (row["part"], row["candidate"]) == (part, name)]
        for row in of:
            if row["kind"] == "skipped":
                return f"{name}: {row['why']}"
        measured = [row for row in of if row["kind"] == kind]
        if voids := [row for row in measured if "void" in row]:
            return f"{name}: {len(voids)} of {len(measured)} rows are void: {voids[0]['void']}"
    return ""
