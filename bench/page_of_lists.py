"""The page's section of lists and searches: times by size and database, and the plans. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from bench.results import Row

_PART: Final = "lists"
_WORDS: Final = {
    "grants": "Grants, ten of each subject",
    "grants of one": "Grants, all of one subject",
    "pending": "Pending requests, which one group of approvers decides",
    "audit": "Records of checks: newest page",
}
_READ: Final = ("verify", "verify from a checkpoint", "export")
_LONGEST: Final = 160


def section(rows: Sequence[Row]) -> str:
    """Returns a table for each kind of store: a line a list, a column a size and database."""
    found = [row for row in rows if row["part"] == _PART and row["kind"] == "list"]
    skipped = [row for row in rows if row["part"] == _PART and row["kind"] == "skipped"]
    if not found and not skipped:
        return ""
    lines = [
        "## Lists and searches",
        "p50 (p99) in ms of 20 first pages of 50, fewer where 10 s do not suffice, over gRPC with a new connection "
        "each. The plan is that of the "
        "largest store measured on SQLite; all plans, of PostgreSQL too, are in `bench/results/lists.jsonl`.\n",
    ]
    for what, words in _WORDS.items():
        if of := [row for row in found if row["what"] == what]:
            lines += [f"### {words}", *_table(of), ""]
    lines += [line for row in rows if row["part"] == _PART and (line := _reading(row))]
    lines += [f"- {row['candidate']} was not measured: {row['why']}." for row in skipped]
    return "\n".join(lines) + "\n"


def _reading(row: Row) -> str:
    """Returns a line for a row of what is read of a whole log."""
    if row["kind"] == "restart":
        return f"- {row['candidate']}: started again in {row['seconds']:.1f} s."
    if row["kind"] not in _READ:
        return ""
    if "void" in row:
        return f"- {row['candidate']}: {row['kind']} failed: {row['void']}."
    return (
        f"- {row['candidate']}: {row['kind']} of {row['records']:,} records in {row['seconds']:.1f} s, "
        f"{row['records_per_second']:,.0f} records/s."
    )


def _table(rows: Sequence[Row]) -> list[str]:
    stores = sorted({(row["database"] != "sqlite", row["size"], row["database"]) for row in rows})
    heads = [f"{database} {size:,}" for _, size, database in stores]
    lines = [f"| | {' | '.join(heads)} | plan |", "| --- " * (len(heads) + 2) + "|"]
    by_store = {(row["filter"], row["size"], row["database"]): row for row in rows}
    for name in dict.fromkeys(row["filter"] for row in rows):
        cells = [_time(by_store.get((name, size, database))) for _, size, database in stores]
        of = [row for row in rows if row["filter"] == name and row["database"] == "sqlite" and row.get("plans")]
        plan = _plan(max(of, key=lambda row: int(row["size"]))) if of else ""
        lines.append(f"| {name} | {' | '.join(cells)} | {plan} |")
    return lines


def _time(row: Row | None) -> str:
    if row is None:
        return ""
    if "void" in row:
        return f"refused: {row['void'].rpartition(': ')[2]}"
    return f"{row['p50_ms']:,.1f} ({row['p99_ms']:,.1f})"


def _plan(row: Row) -> str:
    steps = list(dict.fromkeys(step for plan in row["plans"].values() for step in plan))
    text = "; ".join(steps).replace("|", "\\|")
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} …"
