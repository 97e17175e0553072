"""The judge of a run finds a seeded violation of each property, and blames nobody for a run that was right."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from math import inf
from typing import Any

import pytest

from jitaccess import Internal, JitError, NotFound, Unavailable
from tests.soak.bystanders import Watcher
from tests.soak.judge import Log, Property, judge
from tests.soak.memory import Growth, Sample, growths
from tests.soak.told import Told

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


@dataclass
class Run:
    """A run in which all was right: one grant, from its request to its end, with a check before and one after."""

    told: Told = field(default_factory=Told)
    log: Log = field(default_factory=Log)
    states: dict[str, str] = field(default_factory=dict)
    recoveries: list[float] = field(default_factory=list)
    growths: list[Growth] = field(default_factory=list)
    verified: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for event, request_id in (("GRANT_REQUESTED", "r1"), ("GRANT_REVOKED", "r2")):
            self.told.acked(event, "grants/a", request_id, state="REVOKED" if event == "GRANT_REVOKED" else "")
            self.log.add(event, "grants/a", request_id)
        self.told.wrote("a", True, 0, 1)
        self.told.saw("a", True, 1.1, 1.2, "worker 0")
        self.told.wrote("a", False, 2, 3)
        self.told.saw("a", False, 3.1, 3.2, "worker 1")
        self.told.not_expired(NOW, NOW + SECOND, "worker 0")
        self.told.decided("d1", True)
        self.log.decisions["d1"] = True
        self.log.records = 3
        self.told.call("check", lambda: None)
        self.told.must_refuse("approval of one's own", was_allowed=False)
        self.told.watch_told()
        self.states["grants/a"] = "REVOKED"
        self.recoveries.append(2.5)
        self.growths.append(growth(0))
        self.verified.append("")

    def judged(self) -> list[Property]:
        self.told.settle_all()
        return judge(
            self.told,
            self.log,
            states=self.states,
            recoveries=self.recoveries,
            growths=self.growths,
            verified=self.verified,
        )

    def violated(self) -> set[str]:
        return {each.name for each in self.judged() if each.violations}


def growth(mib_per_hour: float, *, seconds: float = 3600) -> Growth:
    return Growth(
        role="worker 1",
        seconds=seconds,
        first_mib=100,
        last_mib=100,
        mib_per_hour=mib_per_hour,
        mib_per_million_calls=None,
    )


def call_that_ends(run: Run, fault: JitError) -> None:
    def fail() -> None:
        raise fault

    with pytest.raises(JitError):
        run.told.call("check", fail)


def watches(run: Run, *told: tuple[str, str, int]) -> None:
    watcher = Watcher(None, run.told, None)  # type: ignore[arg-type]  # It connects to nothing.
    for event in told:
        watcher.take(*event)


HISTORY = "a check sees what was acknowledged before it began, and no end is undone"
EXPIRED = "no yes by a grant whose time was over when it was asked"
RECORDED = "an acknowledged transition is in the audit log exactly once"
ONCE = "no grant ends twice"
KEPT = "a grant is in the state that was acknowledged"
DECIDED = "an acknowledged STRONG check has its audit record"
CHAIN = "the audit chain is whole"
CODES = "no call ends INTERNAL or UNKNOWN"
REFUSED = "who must be refused is refused"
WATCHED = "a watch tells every change of its grants once, in order"
RECOVERED = "what was killed answers within 60 s"
BOUNDED = "memory does not grow without bound"

SEEDED: dict[str, tuple[str, Callable[[Run], Any]]] = {
    "a yes after a revoke's ack": (HISTORY, lambda run: run.told.saw("a", True, 3.3, 3.4, "worker 0")),
    "a no after a grant's ack": (HISTORY, lambda run: run.told.saw("a", False, 1.3, 1.4, "worker 0")),
    "a yes where nothing was given": (HISTORY, lambda run: run.told.saw("b", True, 1, 2, "REST")),
    "a yes by an expired grant": (EXPIRED, lambda run: run.told.not_expired(NOW, NOW - SECOND, "worker 0")),
    "a transition that is lost": (RECORDED, lambda run: run.told.acked("SIGNAL_SET", "signals/s", "r3")),
    "a transition on record twice": (RECORDED, lambda run: run.log.add("GRANT_REQUESTED", "grants/a", "r1")),
    "a transition of another call": (RECORDED, lambda run: run.told.acked("GRANT_REVOKED", "grants/a", "r9")),
    "two ends": (ONCE, lambda run: run.log.add("GRANT_EXPIRED", "grants/a", "")),
    "a grant that is live again": (KEPT, lambda run: run.states.update({"grants/a": "ACTIVE"})),
    "a grant that is gone": (KEPT, lambda run: run.states.clear()),
    "a check without a record": (DECIDED, lambda run: run.told.decided("d2", False)),
    "a check on record as another": (DECIDED, lambda run: run.told.decided("d1", False)),
    "a chain that is broken": (CHAIN, lambda run: setattr(run.log, "problem", "the hash of 2 is another")),
    "a chain that was broken": (CHAIN, lambda run: run.verified.append("the hash of 2 is another")),
    "an internal error": (CODES, lambda run: call_that_ends(run, Internal("it failed"))),
    "an unknown error": (CODES, lambda run: call_that_ends(run, Internal("Stream removed", code="UNKNOWN"))),
    "an attempt that worked": (REFUSED, lambda run: run.told.must_refuse("a forged token", was_allowed=True)),
    "a watch that goes back": (WATCHED, lambda run: watches(run, ("g", "GRANT_USED", 5), ("h", "GRANT_USED", 4))),
    "a watch that says it twice": (WATCHED, lambda run: watches(run, ("g", "GRANT_USED", 5), ("g", "GRANT_USED", 5))),
    "what never came back": (RECOVERED, lambda run: run.recoveries.append(inf)),
    "a leak": (BOUNDED, lambda run: run.growths.append(growth(60))),
}


@pytest.mark.parametrize(("violated", "seed"), SEEDED.values(), ids=list(SEEDED))
def test_a_seeded_violation_is_found(violated: str, seed: Callable[[Run], Any]) -> None:
    run = Run()

    seed(run)

    assert run.violated() == {violated}


def test_each_property_has_a_seeded_violation() -> None:
    assert {name for name, _ in SEEDED.values()} == {each.name for each in Run().judged()}


def test_a_run_in_which_all_was_right_is_not_blamed() -> None:
    run = Run()
    call_that_ends(run, NotFound("there is no such grant"))
    watches(run, ("g", "CURRENT", 5), ("h", "CURRENT", 3), ("g", "GRANT_USED", 6), ("h", "GRANT_USED", 6))

    judged = run.judged()

    assert not run.violated()
    assert all(each.trials for each in judged)
    assert {each.bound for each in judged} >= {3.0, 1.5}


def test_what_has_violations_has_no_bound() -> None:
    run = Run()
    run.recoveries.append(inf)

    (recovered,) = [each for each in run.judged() if each.name == RECOVERED]

    assert (recovered.trials, recovered.violations, recovered.bound) == (2, 1, None)


def test_what_is_settled_must_stay_off() -> None:
    told = Told()
    told.wrote("a", True, 0, 1)
    told.wrote("a", False, 2, 3)
    told.close("a")

    told.settle(time.monotonic() + 60)
    told.saw("a", False, 70, 71, "worker 0")
    told.settle_all()
    assert told.history.violations == 0
    told.saw("a", True, 72, 73, "worker 0")
    told.settle_all()

    assert told.history.violations == 1


def test_what_is_closed_is_not_settled_while_a_read_of_it_may_be_under_way() -> None:
    told = Told()
    told.wrote("a", True, 0, 1)
    told.close("a")

    told.settle(time.monotonic() + 1)
    told.saw("a", True, 2, 3, "worker 0")
    told.settle_all()

    assert told.history.violations == 0


def test_a_key_whose_fate_nobody_knows_is_not_judged() -> None:
    told = Told()
    told.forget("a")

    told.saw("a", True, 2, 3, "worker 0")
    told.settle_all()

    assert (told.history.trials, told.history.violations) == (0, 0)


def series(role: str, pid: int, *mib: float, first: float = 0) -> dict[tuple[str, int], list[Sample]]:
    """A process that is looked at once a minute, with 1,000 calls in between."""
    return {(role, pid): [Sample(first + 60 * at, 1000 * at, each) for at, each in enumerate(mib)]}


def test_a_slope_is_that_of_the_process_that_lived_longest_after_the_warm_up() -> None:
    short, long = series("worker 0", 7, 10, 90), series("worker 0", 8, 500, 100, 101, 102, first=60)

    (grown,) = growths(short | long, after=120)

    assert (grown.role, grown.seconds, grown.first_mib, grown.last_mib) == ("worker 0", 120, 100, 102)
    assert grown.mib_per_hour == pytest.approx(60)
    assert grown.mib_per_million_calls == pytest.approx(1000)
    assert grown.is_bounded


@pytest.mark.parametrize(("mib_per_hour", "bounded"), [(149.9, True), (150, False)])
def test_growth_by_half_in_minutes_is_a_leak(mib_per_hour: float, bounded: bool) -> None:
    assert growth(mib_per_hour, seconds=1200).is_bounded is bounded


@pytest.mark.parametrize(("mib_per_hour", "bounded"), [(9.9, True), (10, False)])
def test_who_was_looked_at_for_half_an_hour_must_be_flat(mib_per_hour: float, bounded: bool) -> None:
    assert growth(mib_per_hour, seconds=1800).is_bounded is bounded


def test_a_process_is_warm_by_its_own_age() -> None:
    (grown,) = growths(series("worker 0", 7, 100, 150, 160, 161, first=600), after=60, warm_up=120)

    assert (grown.seconds, grown.first_mib, grown.last_mib) == (60, 160, 161)


def test_a_call_without_an_answer_is_no_trial() -> None:
    run = Run()
    before = run.told.calls
    call_that_ends(run, Unavailable("no answer"))

    assert run.told.calls == before
    assert run.told.outcomes["check: UNAVAILABLE"] == 1


def test_a_process_that_was_seen_once_has_no_slope() -> None:
    assert growths(series("envoy", 1, 30), after=0) == []
