"""A fixed rate: what the clients of a long run call together, whatever each of them does at its turn."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.soak import pace
from tests.soak.told import Told


@dataclass
class Clock:
    """A clock that goes on only while somebody waits; it is the run's `stopping` too."""

    now: float = 100.0
    waits: list[float] = field(default_factory=list)

    def monotonic(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.waits.append(round(seconds, 6))
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(pace, "time", clock)
    return clock


def paced(clock: Clock, told: Told, per_second: float) -> pace.Fixed:
    class Place:
        stopping = clock

    place: Any = Place()
    return pace.Fixed(place, told, per_second)


def test_so_many_turns_with_a_call_each_take_a_second(clock: Clock) -> None:
    told = Told()
    fixed = paced(clock, told, per_second=10)

    for _ in range(10):
        fixed.wait()
        told.counted("check", "OK")

    assert clock.now == pytest.approx(101)


def test_what_others_ask_at_a_pace_of_their_own_is_not_paid_for(clock: Clock) -> None:
    told = Told()
    fixed = paced(clock, told, per_second=10)

    for _ in range(10):
        fixed.wait()
        told.counted("check", "OK")
        told.counted("new question", "OK", apart=True)
        told.counted("new question", "UNAVAILABLE", apart=True)

    assert clock.now == pytest.approx(101)


def test_a_story_of_many_calls_is_paid_for_by_who_begins_next(clock: Clock) -> None:
    told = Told()
    fixed = paced(clock, told, per_second=10)
    fixed.wait()
    for _ in range(20):
        told.counted("check", "OK")

    fixed.wait()

    assert clock.waits[-1] == 2.0


def test_a_flood_is_not_followed_by_silence(clock: Clock) -> None:
    told = Told()
    fixed = paced(clock, told, per_second=10)
    for _ in range(2000):
        told.counted("flood", "OK")

    fixed.wait()

    assert clock.waits[-1] == pace.PAID_SECONDS


def test_an_outage_is_made_up_for_by_a_second_of_calls_at_most(clock: Clock) -> None:
    told = Told()
    fixed = paced(clock, told, per_second=10)
    clock.now += 3600

    turns = 0
    while not clock.waits or not clock.waits[-1]:
        fixed.wait()
        told.counted("check", "OK")
        turns += 1

    assert turns == 11
