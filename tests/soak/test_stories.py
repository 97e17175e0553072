"""What a driver whose write has no outcome knows of the access: nothing, so nothing of it is judged."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from jitaccess import RevocationPlan, Unavailable
from tests.soak.asking import Board
from tests.soak.stories import Driver
from tests.soak.told import Told


class Place:
    ways = ("worker 0", "REST")


class Unanswered:
    """Answers a plan, and nothing else."""

    def until_known(self, _: object, kind: str, __: object) -> RevocationPlan:
        if kind == "plan":
            return RevocationPlan.__new__(RevocationPlan)
        raise Unavailable("no answer for a minute")


def test_lives_whose_common_end_nobody_confirmed_are_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    place: Any = Place()
    told = Told()
    driver = Driver(place, told, Board(), 1, Random(1))
    monkeypatch.setattr(driver, "_clients", Unanswered())
    lives = [driver.life("auto"), driver.life("auto")]
    for life in lives:
        told.wrote(life.resource, True, 1.0, 2.0)

    with pytest.raises(Unavailable):
        driver.plan_and_revoke(lives, {"batch": "one"})
    for life in lives:
        told.saw(life.resource, False, 70.0, 71.0, by="a check")
    told.settle_all()

    assert (told.history.trials, told.history.violations) == (0, 0)
