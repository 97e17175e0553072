"""What the windows of a long run say, and how they are judged: pure, so no server runs here."""

from __future__ import annotations

from typing import Any

import pytest

from bench import page_of_long_runs
from bench.long_runs import LongRun, long_runs
from bench.targets import summary

NAME = "ours-native-sqlite, repeated"


def row(kind: str, number: int = 1, name: str = NAME, **facts: Any) -> dict[str, Any]:
    return {"part": "sustained", "candidate": name, "kind": kind, "round": number, **facts}


def windows(*rates: float, seconds: float = 600, **facts: Any) -> list[dict[str, Any]]:
    """Windows of equal length over so many seconds, with these rates."""
    each = seconds / len(rates)
    return [
        row("window", n, at_second=each * n, requests_per_second=rate, p99_ms=2.0, checks=n * 1_000_000, **facts)
        for n, rate in enumerate(rates, start=1)
    ]


def ran(*rows: dict[str, Any]) -> LongRun:
    return long_runs(rows)[NAME]


def goal(rows: list[dict[str, Any]], target: str, what: str) -> dict[str, Any]:
    found = [each for each in summary(rows, {})["targets"][target]["goals"] if what in each["what"]]
    assert found, f"{target} has no goal with {what!r}"
    return found[0]


def test_the_last_minute_is_held_against_the_first():
    run = ran(*windows(1000, 2000, 2000, 2000, 2000, 2000, 2000, 2000, 2000, 900))

    assert (run.first("requests_per_second"), run.last("requests_per_second")) == (1000, 900)
    assert run.kept("requests_per_second") == 0.9


def test_a_short_run_is_held_against_its_first_fifth():
    assert ran(*windows(1, 2, 3, 4, 5, seconds=50)).minute == 10


def test_a_void_window_counts_nowhere():
    rows = windows(1000, 1000)
    rows[1]["void"] = "1 x wrong answer"

    assert ran(*rows).all("requests_per_second") == 1000
    assert len(ran(*rows).windows) == 1


def test_the_floor_is_the_median_of_its_turns_before_and_after():
    floors = [row("floor", n, floor="floor-native", requests_per_second=rate) for n, rate in ((1, 30_000), (2, 50_000))]

    assert ran(*windows(20_000, 20_000), *floors).of_floor("floor-native") == 0.5


def test_disk_for_a_check_counts_only_what_came_with_the_checks():
    rows = [row("begin", 0, disk_bytes=75_000_000), *windows(1, 1, disk_bytes=375_000_000)]
    rows.append(row("rest", disk_bytes=175_000_000, checks=2_000_000))

    assert ran(*rows).disk_per_check() == 150
    assert ran(*rows).disk_per_check("rest") == 50


def test_memory_that_grows_by_a_mib_a_minute_grows_by_60_an_hour():
    rows = windows(*[1.0] * 10)
    for number, each in enumerate(rows):
        each["memory_mib"] = 200 + number

    assert ran(*rows).memory_growth() == pytest.approx(60)


def test_the_growth_of_memory_is_not_told_from_seconds():
    assert ran(*windows(1, 1, 1, seconds=30, memory_mib=200)).memory_growth() is None


def test_a_run_that_slows_down_misses():
    assert goal(windows(1000, *[1000] * 8, 949), "S1", f"{NAME}: requests/s")["met"] is False
    assert goal(windows(1000, *[1000] * 8, 950), "S1", f"{NAME}: requests/s")["met"] is True


def test_a_run_of_a_minute_is_shown_and_not_judged():
    shown = goal(windows(1000, 1000, 1000, 1000, 500, seconds=60), "S1", f"{NAME}: requests/s")

    assert shown["met"] is None
    assert shown["note"] == "the run had only 60 s; in these it was 0.5"


def test_a_ratio_of_medians_is_judged_after_two_minutes_and_says_how_many_they_were():
    floors = [row("floor", floor="floor-native", requests_per_second=1000)]

    short, enough = (
        goal([*windows(700, 700, seconds=seconds), *floors], "S2", f"{NAME}, requests/s") for seconds in (119, 150)
    )

    assert (short["met"], short["note"]) == (None, "the run had only 119 s; in these it was 0.7")
    assert (enough["met"], enough["note"]) == (True, "over 150 s")


def test_the_page_says_how_short_a_run_was_and_what_disturbed_it():
    rows = [row("started", note="a soak test ran"), *windows(1, 1, seconds=150)]

    assert f"- {NAME}: 150 s; meanwhile a soak test ran." in page_of_long_runs.over_time(rows, [])
    assert "600 s" not in page_of_long_runs.over_time(windows(1, 1), [])


def test_disk_is_judged_only_after_ten_million_records():
    rows = [row("begin", 0, disk_bytes=0), *windows(1, 1, disk_bytes=0)]

    few = goal([*rows, row("rest", disk_bytes=10**8, checks=10**6, records=10**6)], "S5", f"{NAME}: disk for a check")
    enough = goal(
        [*rows, row("rest", disk_bytes=10**9, checks=10**7, records=10**7)], "S5", f"{NAME}: disk for a check"
    )

    assert (few["met"], few["note"]) == (None, "there were only 1,000,000 records; with these it was 100")
    assert (enough["met"], enough["value"]) == (True, 100)


def test_a_verify_that_fails_misses_and_says_why():
    shown = goal([*windows(1, 1), row("verify", void="status 4", errors=1)], "S7", "verify")

    assert shown["met"] is False
    assert "status 4" in shown["note"]


def test_the_page_begins_with_what_the_default_gives():
    name = "ours-grpcio-sqlite, repeated"
    rows = [row("begin", 0, name, default=True), *({**each, "candidate": name} for each in windows(4000, 4000))]
    rows += [{**each, "candidate": "cerbos, repeated"} for each in windows(6000, 6000)]

    page = page_of_long_runs.by_default(rows + windows(20_000, 20_000))

    assert "| ours-grpcio-sqlite, repeated | 4,000 |" in page
    assert "| cerbos, repeated | 6,000 |" in page
    assert "native" not in page


def test_without_long_runs_the_page_has_no_section_of_them():
    assert page_of_long_runs.by_default([]) == page_of_long_runs.over_time([], []) == ""
