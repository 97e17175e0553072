"""Counters and histograms of this process, and the values of gauges. Any thread may count.

They are plain numbers, folded only when somebody asks: a check may cost three hundredths of its time more, and a
library's counter takes as long for one call as this takes for a batch (docs/adr/0060-watch-the-service.md). Values are
JSON, so that those of several processes can be added up.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter as Tally
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from itertools import accumulate
from typing import Final

Sample = tuple[tuple[str, ...], tuple[float, ...]]
"""The labels' values, and the number of a counter or gauge; of a histogram the count of each bucket and the sum."""
Values = Mapping[str, Sequence[Sample]]
"""The samples of each family, by its name."""
MAX_SAMPLES: Final = 2_000
"""How many samples one family has at most; what comes under further labels is not counted."""


class Across(StrEnum):
    """What the values of several processes are together."""

    SUM = "sum"
    MAX = "max"
    MIN = "min"


@dataclass(frozen=True, kw_only=True)
class Family:
    """What the metrics of one name mean. `name` is without `_total`. `labels` have values of a bounded set."""

    name: str
    help: str
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Gauge(Family):
    """A number that may go down. It is read when somebody asks, so it has no state here."""

    across: Across = Across.SUM

    def sample(self, value: float, *labels: str) -> tuple[str, Sample]:
        """Returns the family's name, and one sample of it."""
        return self.name, (labels, (float(value),))


@dataclass(frozen=True, kw_only=True)
class Counter(Family):
    """A number that only goes up."""

    _counts: dict[tuple[str, ...], float] = field(default_factory=dict, repr=False, compare=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def add(self, *labels: str, by: float = 1) -> None:
        """Adds `by` under the labels."""
        with self._lock:
            if labels in self._counts or len(self._counts) < MAX_SAMPLES:
                self._counts[labels] = self._counts.get(labels, 0) + by

    def samples(self) -> list[Sample]:
        """Returns the numbers until now."""
        with self._lock:
            return [(labels, (count,)) for labels, count in self._counts.items()]


@dataclass(frozen=True, kw_only=True)
class Histogram(Family):
    """How often values were up to each of the `bounds`, in the unit that the name ends with."""

    bounds: tuple[float, ...]
    _counts: dict[tuple[str, ...], list[float]] = field(default_factory=dict, repr=False, compare=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def observe(self, value: float, *labels: str) -> None:
        """Counts one value."""
        place = bisect_left(self.bounds, value)
        with self._lock:
            counts = self._of(labels)
            counts[place] += 1
            counts[-1] += value

    def observe_all(self, values: Sequence[float], *labels: str) -> None:
        """Counts values at once, for much less than each by itself."""
        places = Tally(map(partial(bisect_left, self.bounds), values))
        with self._lock:
            counts = self._of(labels)
            for place, count in places.items():
                counts[place] += count
            counts[-1] += sum(values)

    def samples(self) -> list[Sample]:
        """Returns the counts until now."""
        with self._lock:
            return [(labels, tuple(counts)) for labels, counts in self._counts.items()]

    def cumulative(self, numbers: Sequence[float]) -> list[tuple[float, float]]:
        """Returns how many values of a sample were up to each bound; the last bound is infinite."""
        return list(zip((*self.bounds, float("inf")), accumulate(numbers[:-1]), strict=True))

    def _of(self, labels: tuple[str, ...]) -> list[float]:
        if (counts := self._counts.get(labels)) is None:
            counts = [0.0] * (len(self.bounds) + 2)
            if len(self._counts) < MAX_SAMPLES:
                self._counts[labels] = counts
        return counts


def grouped(samples: Iterable[tuple[str, Sample]]) -> dict[str, list[Sample]]:
    """Returns the samples by their families."""
    found: dict[str, list[Sample]] = {}
    for name, sample in samples:
        found.setdefault(name, []).append(sample)
    return found


def added(families: Iterable[Family], parts: Iterable[Values]) -> dict[str, list[Sample]]:
    """Returns the values of several processes as one."""
    known = {family.name: family for family in families}
    totals: dict[str, dict[tuple[str, ...], tuple[float, ...]]] = {}
    for part in parts:
        for name, samples in part.items():
            family = known[name]
            total = totals.setdefault(name, {})
            for labels, numbers in _unpacked(samples):
                before = total.get(labels)
                total[labels] = numbers if before is None else _together(family, before, numbers)
    return {name: sorted(total.items()) for name, total in totals.items()}


def only_counts(families: Iterable[Family], values: Values) -> dict[str, Sequence[Sample]]:
    """Returns the values without gauges: what remains of a process that has ended."""
    gauges = {family.name for family in families if isinstance(family, Gauge)}
    return {name: samples for name, samples in values.items() if name not in gauges}


def _unpacked(samples: Sequence[Sample]) -> Iterator[Sample]:
    # From another process they come as JSON's lists.
    for labels, numbers in samples:
        yield tuple(labels), tuple(numbers)


def _together(family: Family, one: tuple[float, ...], other: tuple[float, ...]) -> tuple[float, ...]:
    across = family.across if isinstance(family, Gauge) else Across.SUM
    if across is Across.SUM:
        return tuple(map(sum, zip(one, other, strict=True)))
    return max(one, other) if across is Across.MAX else min(one, other)
