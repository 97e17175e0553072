"""How rows become verdicts: pure, so no server runs here."""

from __future__ import annotations

from typing import Any

import pytest

from bench.goals import Goal
from bench.results import by_round, median, quantile, ratios
from bench.targets import goals, summary

FLOOR, COMMITTED = "floor-native", "ours-native-strong-committed"


def row(candidate: str, number: int, part: str = "transport", kind: str = "saturation", **facts: Any) -> dict[str, Any]:
    return {"part": part, "candidate": candidate, "round": number, "kind": kind, **facts}


def goal(*rounds: float, at_least: bool = True, target: float = 0.5) -> Goal:
    return Goal(what="it", unit="x", target=target, at_least=at_least, rounds=rounds)


def p1(committed: float) -> list[dict[str, Any]]:
    """Five rounds in which the floor does 1,000/s, and the three modes of P1 what is given, 700 and 850."""
    modes = {FLOOR: 1000, COMMITTED: committed, "ours-native-strong-buffered": 700, "ours-native-bounded-off": 850}
    return [row(name, n, requests_per_second=rate) for n in range(1, 6) for name, rate in modes.items()]


def test_a_ratio_is_taken_within_each_round():
    rows = [row("a", 1, rps=10), row("b", 1, rps=5), row("a", 2, rps=90), row("b", 2, rps=30)]

    found = ratios(by_round(rows, "transport", "a", "rps"), by_round(rows, "transport", "b", "rps"))

    assert found == [2, 3]


def test_a_void_row_counts_nowhere():
    rows = [row("a", 1, rps=10), row("a", 2, rps=99, void="1 x status 14")]

    assert by_round(rows, "transport", "a", "rps") == {1: 10}


def test_a_round_without_the_other_candidate_gives_no_ratio():
    assert ratios({1: 10, 2: 10}, {2: 5}) == [2]


@pytest.mark.parametrize(("q", "expected"), [(0.5, 51), (0.99, 100), (1, 100)])
def test_a_quantile_is_one_of_the_values(q: float, expected: float):
    assert quantile(list(range(1, 101)), q) == expected


def test_nothing_has_no_median_and_no_quantile():
    assert median([]) is None
    with pytest.raises(ValueError, match="no quantile"):
        quantile([], 0.5)


@pytest.mark.parametrize(
    ("judged", "met"),
    [
        (goal(0.5), True),
        (goal(0.4999), False),
        (goal(0.5, at_least=False), True),
        (goal(0.5001, at_least=False), False),
        (goal(0.0, at_least=False, target=0), True),
        (goal(1.0, at_least=False, target=0), False),
        (goal(), None),
    ],
)
def test_a_goal_is_met_at_its_bound_and_missed_just_past_it(judged: Goal, met: bool | None):
    assert judged.met is met


def test_one_round_of_five_that_misses_does_not_miss_the_target():
    assert goal(0.1, 0.6, 0.6, 0.6, 0.6).met is True


def test_the_summary_shows_the_goal_that_is_furthest_from_being_met():
    target = summary(p1(committed=400), {})["targets"]["P1"]

    assert (target["met"], target["value"], target["target"]) == (False, 0.4, 0.5)
    assert target["rounds"] == [0.4] * 5
    assert [each["met"] for each in target["goals"]] == [False, True, True]


def test_a_target_with_every_goal_met_is_met():
    assert summary(p1(committed=500), {})["targets"]["P1"]["met"] is True


def test_a_target_with_a_goal_that_was_not_measured_is_not_met():
    rows = [each for each in p1(committed=500) if each["candidate"] != "ours-native-bounded-off"]

    assert summary(rows, {})["targets"]["P1"]["met"] is None


def test_a_goal_that_was_not_measured_says_why():
    rows = [{"part": "transport", "candidate": COMMITTED, "kind": "skipped", "why": "no setting JIT_TRANSPORT"}]

    first = summary(rows, {})["targets"]["P1"]["goals"][0]

    assert first["note"] == f"{COMMITTED}: no setting JIT_TRANSPORT"


def test_the_summary_has_every_target_in_the_shape_that_the_page_reads():
    made = summary([], {"cores": 2})

    assert list(made["targets"]) == [*(f"S{n}" for n in range(1, 12)), *(f"P{n}" for n in range(1, 13))]
    assert made["environment"] == {"cores": 2}
    for target in made["targets"].values():
        assert {"value", "target", "met", "rounds", "goals"} <= set(target)
        assert target["met"] is None


@pytest.mark.parametrize(("bare", "target"), [(100, 80), (10_000, 300)])
def test_writes_must_reach_300_a_second_or_0_8_of_bare_commits_whichever_is_lower(bare: float, target: float):
    rows = [row("bare-sqlite", 1, part="writes", kind="cycles", cycles_per_second=bare)]

    _, (writes, _) = goals(rows)["P11"]

    assert writes.target == target


def test_two_workers_that_share_a_core_with_the_load_are_not_judged():
    rows = [row(name, 1, part="workers", requests_per_second=1000) for name in ("1 workers", "2 workers")]
    rows.append({"part": "workers", "candidate": "2 workers", "kind": "started", "seconds": 1, "caveat": "shared"})

    _, (workers,) = goals(rows)["P10"]

    assert workers.met is None
    assert "not free" in workers.note


def test_one_stale_answer_after_a_revoke_misses():
    rows = [row("revoke-to-deny-strong", 1, part="revoke", kind="stale", tries=100_000, stale=1)]

    assert summary(rows, {})["targets"]["P8"]["met"] is False


def test_a_server_that_does_not_reach_the_fixed_rate_misses_the_latency_target():
    rows = [
        row(FLOOR, 1, kind="steady", p99_ms=1.0),
        row(COMMITTED, 1, kind="steady", void="it does not reach 1,000/s"),
    ]

    target = summary(rows, {})["targets"]["P5"]

    assert target["met"] is False
    assert "does not reach" in target["goals"][0]["note"]
