"""docs/metrics.md, from the list of metrics."""

from __future__ import annotations

from typing import Final

from jit_service.metrics.catalogue import FAMILIES
from jit_service.metrics.families import Counter, Family, Gauge, Histogram


def exposed(family: Family) -> tuple[str, ...]:
    """Returns the names under which Prometheus has the family."""
    if isinstance(family, Counter):
        return (f"{family.name}_total",)
    if isinstance(family, Histogram):
        return tuple(f"{family.name}_{part}" for part in ("bucket", "count", "sum"))
    return (family.name,)


def page() -> str:
    """Returns the page."""
    rows = []
    for family in FAMILIES:
        name = f"{family.name}_total" if isinstance(family, Counter) else family.name
        labels = ", ".join(f"`{label}`" for label in family.labels)
        rows.append(f"| `{name}` | {_kind(family)} | {labels} | {family.help} |")
    return _PAGE + "\n".join(rows) + "\n"


def _kind(family: Family) -> str:
    if isinstance(family, Gauge):
        return f"gauge, {family.across}"
    return "histogram" if isinstance(family, Histogram) else "counter"


_PAGE: Final = """# Metrics

`make proto` writes this page from `jit_service/metrics/catalogue.py`. [Operating](operating.md#watch) says how to
have them served, and which of them to be woken by.

All processes of a service are one target. Counters and histograms are added up, also those of workers that have
ended; of a gauge the table says what the values of several processes are together. What is read from the store is
read by one process, at most every five seconds, and stays as it was while the store is away.

No label has a principal, a resource, an address or a text that a caller wrote. `policy`, `receiver` and `issuer` are
names that an admin or operator chose.

| metric | kind | labels | meaning |
| --- | --- | --- | --- |
"""
