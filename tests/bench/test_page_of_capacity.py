"""The page of capacity multiplies what was measured, and says from which rows each cost is."""

from __future__ import annotations

from typing import Any

from bench.page_of_capacity import text

GRANTS: dict[str, Any] = {
    "at": "2026-11-29T09:00:00+00:00",
    "command": "python -m bench.capacity",
    "versions": {"commit": "abc1234"},
    "sizes": [
        {"grants": 0, "start_seconds": 1.0, "service_bytes": 0, "file_bytes": 0, "replica_bytes": 0,
         "replica_seconds": 0.0},
        {"grants": 1000, "start_seconds": 2.0, "service_bytes": 500_000, "file_bytes": 800_000,
         "replica_bytes": 2_000_000, "replica_seconds": 1.0},
    ],
    "watchers": {"watchers": 12, "memory_bytes": 2048, "change_cpu_us": 100.0},
}  # fmt: skip
LOG: dict[str, Any] = {
    "database": "sqlite", "records": 100_000_000, "pieces": 97_656, "start_seconds": 2.04,
    "service_bytes": 200 * 2**20, "disk_bytes": 5 * 2**30,
    "searches": [
        {"filter": "all", "found": 50, "p50_ms": 3.14, "p99_ms": 4.0, "errors": 0},
        {"filter": "grant", "found": 7, "p50_ms": 3.0, "p99_ms": 4.0, "errors": 0},
        {"filter": "policy", "void": "it ended", "errors": 1},
    ],
}  # fmt: skip
STAMP = {key: GRANTS[key] for key in ("at", "command", "versions")}
MEASURED = {"grants": GRANTS, "logs": STAMP | {"logs": [LOG, LOG | {"database": "postgresql", "start_seconds": 3.0}]}}
OURS = {"part": "sustained", "candidate": "ours-native-sqlite, repeated"}
ROWS: list[dict[str, Any]] = [
    OURS | {"kind": "begin", "disk_bytes": 1000},
    OURS | {"kind": "window", "cpu_us": 40.0, "checks": 50},
    OURS | {"kind": "window", "cpu_us": 50.0, "checks": 100},
    OURS | {"kind": "window", "cpu_us": 60.0, "checks": 200},
    OURS | {"kind": "rest", "disk_bytes": 11_000},
    {"part": "transport", "candidate": "ours-native-strong-off", "kind": "saturation", "cpu_us": 25.0},
]


def test_each_further_grant_costs_the_difference_of_the_sizes() -> None:
    assert "| live grant | 500 B in each process, 800 B in SQLite, 2,000 B in each replica |" in text(MEASURED, ROWS)


def test_a_check_costs_the_median_of_its_rows_and_a_record_what_stays_on_disk() -> None:
    page = text(MEASURED, ROWS)

    assert "| native, committed (minutes at saturation) | 50 | 10,000 |" in page
    assert "| native, off (turns of seconds) | 25 | 20,000 |" in page
    assert "| check's record | 50 B on disk once it is merged |" in page


def test_the_model_is_those_costs_multiplied() -> None:
    page = text(MEASURED, ROWS)

    assert "| grants in memory of each process | 47 GiB | **breaks first** |" in page
    assert "| audit log | 47 GiB a day |" in page
    assert "| cores for the peak, native, committed (minutes at saturation) | 3.5 |" in page
    assert "| a change, told to a watcher on each host | 20.0 ms of CPU |" in page


def test_a_long_log_has_a_column_each_database_and_says_where_a_page_is_not_full() -> None:
    page = text(MEASURED, ROWS)

    assert "a log of 100,000,000 records, in 97,656 pieces" in page
    assert "| | sqlite | postgresql |" in page
    assert "| on the disk, GiB | 5.0 | 5.0 |" in page
    assert "| start, s | 2.0 | 3.0 |" in page
    assert "| search: all | 3.1 (4.0) | 3.1 (4.0) |" in page
    assert "| search: grant | 3.0 (4.0), 7 found |" in page
    assert "| search: policy | failed: it ended |" in page


def test_parts_that_were_measured_apart_say_so() -> None:
    page = text({"grants": GRANTS, "logs": MEASURED["logs"] | {"at": "2026-11-30T00:00:00+00:00"}}, ROWS)

    assert "grants: `python -m bench.capacity`, at 2026-11-29T09:00:00+00:00, commit abc1234; logs: `python" in page
    assert "at 2026-11-30T00:00:00+00:00" in page
    assert "## A long audit log" not in text({"grants": GRANTS}, ROWS)
