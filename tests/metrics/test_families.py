"""Counting, and adding up what several processes counted."""

from __future__ import annotations

import json

import pytest

from jit_service.metrics import families
from jit_service.metrics.families import Across, Counter, Gauge, Histogram, added, only_counts

CALLS = Counter(name="calls", help="Calls.", labels=("method",))
SECONDS = Histogram(name="seconds", help="Seconds.", bounds=(0.1, 1.0))
STREAMS = Gauge(name="streams", help="Streams.")
AGE = Gauge(name="age", help="Age.", across=Across.MAX)
UP = Gauge(name="up", help="Up.", across=Across.MIN)
ALL = (CALLS, SECONDS, STREAMS, AGE, UP)


def test_a_value_counts_up_to_its_bound_and_not_just_above_it() -> None:
    histogram = Histogram(name="seconds", help="Seconds.", bounds=(0.1, 1.0))

    histogram.observe(0.1)
    histogram.observe_all([0.1000001, 1.0, 1.0000001])

    ((labels, numbers),) = histogram.samples()
    assert labels == ()
    assert histogram.cumulative(numbers) == [(0.1, 1), (1.0, 3), (float("inf"), 4)]
    assert numbers[-1] == pytest.approx(2.2000002)


def test_of_several_processes_counts_are_added_and_a_gauge_is_what_it_says() -> None:
    one = {
        "calls": [(("A",), (2.0,))],
        "seconds": [((), (1.0, 0.0, 2.0, 9.0))],
        "streams": [((), (3.0,))],
        "age": [((), (4.0,))],
        "up": [((), (1.0,))],
    }
    other = {
        "calls": [(("A",), (1.0,)), (("B",), (5.0,))],
        "seconds": [((), (1.0, 1.0, 0.0, 0.5))],
        "streams": [((), (1.0,))],
        "age": [((), (2.0,))],
        "up": [((), (0.0,))],
    }

    # As they come from a worker.
    together = added(ALL, [one, json.loads(json.dumps(other))])

    assert together == {
        "calls": [(("A",), (3.0,)), (("B",), (5.0,))],
        "seconds": [((), (2.0, 1.0, 2.0, 9.5))],
        "streams": [((), (4.0,))],
        "age": [((), (4.0,))],
        "up": [((), (0.0,))],
    }


def test_of_a_process_that_has_ended_only_its_counts_remain() -> None:
    values = {"calls": [(("A",), (2.0,))], "streams": [((), (3.0,))], "age": [((), (4.0,))]}

    assert only_counts(ALL, values) == {"calls": [(("A",), (2.0,))]}


def test_labels_beyond_the_bound_take_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(families, "MAX_SAMPLES", 2)
    counter = Counter(name="calls", help="Calls.", labels=("method",))
    histogram = Histogram(name="seconds", help="Seconds.", labels=("method",), bounds=(1.0,))

    for method in ("A", "B", "C", "A"):
        counter.add(method)
        histogram.observe(0.5, method)

    assert counter.samples() == [(("A",), (2,)), (("B",), (1,))]
    assert [labels for labels, _ in histogram.samples()] == [("A",), ("B",)]
