"""Writes docs/soak.md from the results of runs, one for each database, so that no number there is typed by hand."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

_NAMES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}
_HEAD = """# A long run

Written by `make soak PUBLISH=1` from the results of runs; do not edit.

`make soak` runs `jit-service up` with two workers and Envoy for `SECONDS` (600), under many concurrent clients:

- six drivers that request, approve, deny, withdraw, extend, release, revoke one grant and many, change policies and
  signals, issue tokens, and let short grants expire;
- six readers that ask about their access by single, batch, STRONG and BOUNDED checks over gRPC and REST, by
  introspection, and by a `LocalChecker`;
- watchers of all grants, and a client that tries what must be refused.

Meanwhile, as `SEED` determines, a worker, Envoy or all processes at once are killed with `kill -9`, a worker or Envoy
is stopped for a while, and clients flood the service, die, or do not read. `TRANSPORT=native` and
`DATABASE=postgresql` run it on those. The seed fixes who does what, and which fault comes when. How the threads of a
run interleave depends on the machine, so a second run differs. `PAUSES="60 180"` are the least and the most seconds
between two faults. With `RATE` all clients together make so many calls a second, and as many as are answered without
it. With `NEW` two more clients ask each worker so many questions a second that nobody asked before or will again, half
of them many in a call and half one by one.

It exits with 1 if a property was violated. `.data/soak/DATABASE` then has `result.json` (everything), `soak.svg`,
`soak.log` (what happened when) and `service.log`, and in `d` the store and Envoy's log.

How to read it:

- Each answer to a check is a read of a register, and each transition a write of it. A search determines whether any
  order of instants explains them (`tests/faults/history.py`). A write whose client lost its answer is sent again with
  the same `request_id`, to any worker, until it has one. An answer that states how old its view may be counts from that
  much earlier.
- At the end everything is killed once more, and the audit log and the grants are read from the store itself.
- N trials without a violation bound its rate, with 95 % confidence, at about 3/N. A trial is one check, call, record or
  attempt. Trials are not independent, so the bound measures how much was examined; it is not a proof.
- The first half has every fault. The second half kills no parent, no Envoy, and only worker 0, so that the memory of
  the others can be followed. The slope is that of the best-fitting straight line, from when a process is as old as a
  tenth of the run. A process that was followed for 25 minutes or more, as in `SECONDS=3600`, must be flat: below 10 MiB
  an hour. One that was followed for less counts as bounded where it grew by less than half of what it was, or by less
  than 48 MiB.
- A young worker fills its caches: up to 20,000 decisions of 1 to 2 KiB
  ([ADR 33](adr/0033-cache-decisions-by-object-identity.md)), and here almost every question is a new one: one in six is
  about a resource that nobody asks about again, and all of `NEW` are. A run of minutes cannot tell a cache that fills
  from a leak, so its slopes are upper bounds; `SECONDS=3600` tells more, and `NEW=120` fills the caches in six minutes.
- Recovery is the time from the kill (or from SIGCONT) to the first answer to a client that connects anew: for the
  killed worker by that worker, and through Envoy by any worker.

What it does not show: **kill -9 does not test fsync**. The kernel keeps what a killed process has written, so this says
nothing of power loss. Several hosts, clock steps and broken disks are in [reliability.md](reliability.md); days of
running are covered nowhere.
"""


def text(results: Sequence[dict[str, Any]], *, pictures: Sequence[str]) -> str:
    """Returns the page of the results, each with the address of its picture."""
    parts = [_HEAD, _runs(results), _memory(results)]
    for result, picture in zip(results, pictures, strict=True):
        parts += [_about(result), f"![Latency and memory over time]({picture})\n"]
        parts += [_properties(result["properties"]), _recoveries(result["faults"]), _latency(result["latency"])]
    return "\n".join(parts)


def published(docs: Path) -> str:
    """Returns the page of what is published: of each database that has a result."""
    there = [name for name in _NAMES if (docs / "soak" / f"{name}.json").exists()]
    results = [json.loads((docs / "soak" / f"{name}.json").read_text(encoding="utf-8")) for name in there]
    return text(results, pictures=[f"soak/{name}.svg" for name in there])


def table(head: str, rows: Iterable[str]) -> str:
    """Returns a table of Markdown."""
    rule = "| --- " * (head.count("|") + 1) + "|"
    return "\n".join([f"| {head} |", rule, *(f"| {row} |" for row in rows)]) + "\n"


def _runs(results: Iterable[dict[str, Any]]) -> str:
    rows = [
        f"{_NAMES[each['database']]} | {each['at'][:10]} | `{each['command']}` | {_verdict(each)} | "
        f"{each['counts']['calls']:,} | {each['counts']['audit records']:,} | {each['counts']['kills']}"
        for each in results
    ]
    return "## The runs\n" + table("database | date | command | verdict | calls | audit records | kills", rows)


def _verdict(result: dict[str, Any]) -> str:
    return "passed" if result["passed"] else "**FAILED**"


def _about(result: dict[str, Any]) -> str:
    machine = result["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    counts = ", ".join(f"{count:,} {what}" for what, count in result["counts"].items())
    return (
        f"## The run on {_NAMES[result['database']]}\n"
        f"`{result['command']}` on {result['at'][:10]}: {_verdict(result)}.\n\n"
        f"{counts[:1].upper()}{counts[1:]}.\n\n"
        f"{machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}; {versions}.\n"
    )


def _properties(properties: Iterable[dict[str, Any]]) -> str:
    rows = [
        f"{each['name']} | {each['invariants']} | {each['trials']:,} | {each['violations']:,} | "
        f"{each.get('rate_below', '')}"
        for each in properties
    ]
    return "### What must hold\n" + table("property | invariants | trials | violations | rate below (3/N)", rows)


def _recoveries(faults: Iterable[dict[str, Any]]) -> str:
    took: defaultdict[str, list[float]] = defaultdict(list)
    counts: defaultdict[str, int] = defaultdict(int)
    for fault in faults:
        counts[fault["name"]] += 1
        for who, seconds in fault["recovered"].items():
            took[f"{fault['name']}, seen at {_group(fault['name'], who)}"].append(seconds or 0)
    rows = [
        f"{name} | {len(times)} | {min(times):.2f} | {median(times):.2f} | {max(times):.2f}"
        for name, times in sorted(took.items())
    ]
    others = [f"{count} x {name}" for name, count in sorted(counts.items()) if not any(name in row for row in rows)]
    head = "### Seconds until the first answer\n"
    return (
        head + table("fault | times | least | median | most", rows) + f"\nIn addition: {', '.join(others) or 'none'}.\n"
    )


def _group(fault: str, who: str) -> str:
    if who.startswith("worker"):
        return "that worker" if "worker" in fault else "a worker"
    return who


def _memory(results: Iterable[dict[str, Any]]) -> str:
    rows = [
        f"{_NAMES[result['database']]} | {each['role']} | {each['seconds']} | "
        f"{each['first_mib']} | {each['last_mib']} | {each['mib_per_hour']} | "
        f"{'' if each['mib_per_million_calls'] is None else each['mib_per_million_calls']}"
        for result in results
        for each in result["memory"]
    ]
    head = "database | process | seconds | first MiB | last MiB | MiB per hour | MiB per million calls"
    return "## Memory after the warm-up\n" + table(head, rows)


def _latency(latency: Iterable[dict[str, Any]]) -> str:
    rows = [
        f"{each['call']} | {each['answers']:,} | {each['p50']:.2f} | {each['p99']:.1f} | {each['worst_p99']:,.0f}"
        for each in latency
    ]
    head = (
        "### Milliseconds of answered calls\nMedians over samples of two seconds, and the worst sample. Clients, "
        "faults and service share the machine; [benchmarks.md](benchmarks.md) has the service's real speed.\n\n"
    )
    return head + table("call | answers | p50 | p99 | worst p99", rows)
