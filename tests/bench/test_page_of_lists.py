"""How the times and plans of lists become tables: pure, so no server runs here."""

from __future__ import annotations

from typing import Any

from bench import page_of_lists


def listed(size: int, database: str = "sqlite", **facts: Any) -> dict[str, Any]:
    own = {"part": "lists", "candidate": "it", "kind": "list", "what": "grants", "filter": "mine", "plans": {}}
    return own | {"size": size, "database": database} | facts


def test_each_size_and_database_has_a_column():
    rows = [
        listed(1_000_000, p50_ms=9, p99_ms=12, plans={"SELECT 1": ["SEARCH access_grant USING INDEX x"]}),
        listed(10_000, p50_ms=1, p99_ms=2, plans={"SELECT 1": ["SCAN access_grant"]}),
        listed(10_000, "postgresql", p50_ms=3, p99_ms=4),
    ]

    text = page_of_lists.section(rows)

    assert "| | sqlite 10,000 | sqlite 1,000,000 | postgresql 10,000 | plan |" in text
    assert "| mine | 1.0 (2.0) | 9.0 (12.0) | 3.0 (4.0) | SEARCH access_grant USING INDEX x |" in text


def test_a_list_that_is_refused_shows_the_status():
    text = page_of_lists.section([listed(1_000_000, void="/jitaccess.v1.GrantService/ListGrants: status 3")])

    assert "| mine | refused: status 3 |" in text


def test_a_store_that_could_not_be_filled_says_why():
    rows = [{"part": "lists", "candidate": "audit 10000000 sqlite", "kind": "skipped", "why": "the disk is full"}]

    assert "- audit 10000000 sqlite was not measured: the disk is full." in page_of_lists.section(rows)


def test_what_a_whole_log_costs_to_read_is_told_below_its_searches():
    log = {"part": "lists", "candidate": "audit 1000000 sqlite", "size": 1_000_000}
    verify = log | {"kind": "verify", "records": 1_000_000, "seconds": 2.5, "records_per_second": 400_000.0}
    rows = [
        listed(10, p50_ms=1, p99_ms=2),
        verify,
        log | {"kind": "export", "void": "status 14"},
        log | {"kind": "restart", "seconds": 1.5},
    ]

    shown = page_of_lists.section(rows)

    assert "- audit 1000000 sqlite: verify of 1,000,000 records in 2.5 s, 400,000 records/s." in shown
    assert "- audit 1000000 sqlite: export failed: status 14." in shown
    assert "- audit 1000000 sqlite: started again in 1.5 s." in shown
