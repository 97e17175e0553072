"""Memory over time: the slope of each process, and what counts as growing without bound."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import StatisticsError, linear_regression
from typing import NamedTuple

ALLOWED_SHARE = 0.5
ALLOWED_MIB = 48.0
FLAT_MIB_PER_HOUR = 10.0
LONG_SECONDS = 1500.0
"""From how long a process is followed its memory must be flat: until then, its caches may still fill."""


class Sample(NamedTuple):
    """The memory of a process at an instant: seconds of the run, calls so far, resident MiB."""

    at: float
    calls: int
    mib: float


@dataclass(frozen=True, kw_only=True)
class Growth:
    """How the memory of one process grew over `seconds`, by the straight line that fits best."""

    role: str
    seconds: float
    first_mib: float
    last_mib: float
    mib_per_hour: float
    mib_per_million_calls: float | None

    @property
    def mib(self) -> float:
        """How much it grew in all, by that line."""
        return self.mib_per_hour * self.seconds / 3600

    @property
    def is_bounded(self) -> bool:
        """Whether it is flat where it was followed for long; else, whether it grew by less than half of what it was.

        Noise counts as nothing: what is less than 48 MiB in a short time.
        """
        if self.seconds >= LONG_SECONDS:
            return self.mib_per_hour < FLAT_MIB_PER_HOUR
        return self.mib < max(ALLOWED_MIB, ALLOWED_SHARE * self.first_mib)

    def __str__(self) -> str:
        return f"{self.role} grew by {self.mib:.0f} MiB from {self.first_mib:.0f} in {self.seconds:.0f} s"


def growths(series: Mapping[tuple[str, int], Sequence[Sample]], *, after: float, warm_up: float = 0.0) -> list[Growth]:
    """Returns the growth of each role's longest-lived process: after so many seconds of the run, and of its own."""
    kept: defaultdict[str, list[Sample]] = defaultdict(list)
    for (role, _), samples in series.items():
        warm = [sample for sample in samples if sample.at >= max(after, samples[0].at + warm_up)]
        kept[role] = max(kept[role], warm, key=_length)
    return [_growth(role, samples) for role, samples in kept.items() if _length(samples) > 0]


def _length(samples: Sequence[Sample]) -> float:
    return samples[-1].at - samples[0].at if samples else 0.0


def _growth(role: str, samples: Sequence[Sample]) -> Growth:
    mib = [sample.mib for sample in samples]
    calls = [float(sample.calls) for sample in samples]
    per_call = slope(calls, mib)
    return Growth(
        role=role,
        seconds=_length(samples),
        first_mib=mib[0],
        last_mib=mib[-1],
        mib_per_hour=(slope([sample.at for sample in samples], mib) or 0.0) * 3600,
        mib_per_million_calls=None if per_call is None else per_call * 1e6,
    )


def slope(xs: Sequence[float], ys: Sequence[float]) -> float | None:
    """Returns the slope of the least squares' line; None where all x are one."""
    try:
        return linear_regression(xs, ys).slope
    except StatisticsError:
        return None
