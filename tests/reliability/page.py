"""Writes docs/reliability.md from the results of runs, so that no number there is typed by hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tests.reliability.results import published
from tests.soak.page import table

RESULTS = {
    "cluster": "A cluster",
    "faults-sqlite": "One host on SQLite",
    "faults-postgresql": "One host on PostgreSQL",
}
"""The results that have a table of faults, and its heading."""
KILLS = ("kill-sqlite", "kill-postgresql")
ROLLING = ("rolling-sqlite", "rolling-postgresql")
_HEAD = """# Reliability

Written by `make cluster`, `make faults`, `make kill` and `make rolling` from the results of their runs; do not edit.

Each fault below was done while clients requested, approved, revoked, checked and watched, as in
[the long run](soak.md). A row has what was done, what clients saw, and four figures:

- **broken** is how long the fault lasted, in seconds: from its beginning until the cause was put right, or until
  PostgreSQL took writes again by its own means.
- **again after** is how long it then took, in seconds, until the last way to call answered a check and a write to
  clients that connected anew: each process over gRPC, and REST through Envoy. It must be 5 s at most,
  without a restart of what was not killed.
- **lost** counts acknowledged transitions and decisions that the store did not have at the end, or had twice.
- **wrong** counts answers that no order of events explains, and yeses that nobody may have had.

*Answered* counts calls that succeeded meanwhile; clients wait 5 s for an answer. `UNAVAILABLE STORE_UNAVAILABLE` is
what the service says when the store does not answer; `UNAVAILABLE` alone means that nobody answered at that address. No
call may end INTERNAL. A write whose client got no answer is sent again with the same `request_id` until its outcome is
known.

What is not shown: **a kill does not test fsync**, since the kernel keeps what a killed process has written. The
machine's own power was never cut.
"""
_CLUSTER = """
`make cluster` starts three PostgreSQL under Patroni (synchronous and strict) with etcd and HAProxy, and three hosts of
the service behind one Envoy. The service reaches the primary through PgBouncer in transaction mode, and that through
HAProxy. Each host is a network namespace of its own. A primary that vanishes without a word is followed after Patroni's
`ttl`, which is 20 s at least; that time is in *broken*.
"""
_FAULTS = """
`make faults` runs `jit-service up` with two workers and Envoy, and breaks what it stands on: disks, clocks, the way to
the database, processes, and limits of the operating system.
"""


def write(docs: Path) -> None:
    """Writes the page from the results that are beside it."""
    (docs / "reliability.md").write_text(text(docs / "reliability"))


def text(directory: Path) -> str:
    """Returns the page."""
    parts = [_HEAD]
    for name, heading in RESULTS.items():
        if results := published(directory / f"{name}.json"):
            intro = _CLUSTER if name == "cluster" else _FAULTS
            parts.append(f"\n## {heading}\n{intro}\n{_about(results)}\n{_rows(results)}\n{_properties(results)}")
    if kills := [result for name in KILLS for result in published(directory / f"{name}.json")]:
        parts.append(_kills(kills))
    if rolling := [result for name in ROLLING for result in published(directory / f"{name}.json")]:
        parts.append(_rolling(rolling))
    return "".join(parts)


def _about(results: Sequence[dict[str, Any]]) -> str:
    """Returns what was run; of the parts of a run, each has a database and an audit chain of its own."""
    ran = [
        f"`{each['command']}` on {each['at'][:10]}: {_verdict(each)}. The audit chain is {each['chain']}."
        for each in results
    ]
    lines = ["\n".join(f"- {line}" for line in ran)] if len(ran) > 1 else ran
    lines += list(dict.fromkeys(_machine(each["machine"]) for each in results))
    if skipped := list(dict.fromkeys(what for each in results for what in each.get("skipped", ()))):
        lines.append(f"Not possible on that machine: {'; '.join(skipped)}.")
    return "\n\n".join(lines) + "\n"


def _verdict(result: dict[str, Any]) -> str:
    return "passed" if result["passed"] else "**FAILED**"


def _machine(machine: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return f"{machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}; {versions}."


def _rows(results: Sequence[dict[str, Any]]) -> str:
    head = "fault | seen by clients | broken, s | again after, s | lost | wrong"
    done = [row for each in results for row in each["rows"]]
    rows = [
        f"{row['name']} | {row['seen']} | {row['broken']} | {_slowest(row['recovered'].values())} | "
        f"{row['lost']} | {row['wrong']}"
        for row in done
    ]
    failed = [
        f"- **{row['name']}** did not pass: {'; '.join(_first_problems(row))}" for row in done if not row["passed"]
    ]
    return table(head, rows) + ("\n" + "\n".join(failed) + "\n" if failed else "")


def _first_problems(row: dict[str, Any]) -> list[str]:
    late = [f"it answered again only after {_slowest(row['recovered'].values())} s"]
    return [problem.splitlines()[0] for problem in row["problems"][:3]] or late


def _slowest(times: Iterable[float | None]) -> str:
    known = list(times)
    return "never" if None in known else f"{max((took for took in known if took is not None), default=0.0):.2f}"


def _properties(results: Iterable[dict[str, Any]]) -> str:
    trials: Counter[str] = Counter()
    violations: Counter[str] = Counter()
    for each in (each for result in results for each in result["properties"]):
        trials[each["name"]] += each["trials"]
        violations[each["name"]] += each["violations"]
    rows = [f"{name} | {count:,} | {violations[name]:,}" for name, count in trials.items()]
    return "Over all of them:\n\n" + table("property | trials | violations", rows)


def _kills(results: list[dict[str, Any]]) -> str:
    rows = [
        f"{result['database']} | {result['kills']} | {result['checks']:,} | {result['transitions']:,} | "
        f"{result['slowest']:.2f} | {result['lost']} | {result['wrong']} | {result['chain']}"
        for result in results
    ]
    head = "database | kills | acked checks | acked transitions | slowest start, s | lost | wrong | audit chain"
    intro = (
        "`make kill` kills one process of `jit-service serve` at random moments under a load of writes and checks, and "
        "starts it again on the same data. The chain is verified after each twentieth start, and at the end everything "
        "that was acknowledged is looked for in the store."
    )
    return f"\n## kill -9, again and again\n\n{intro}\n\n{_verdicts(results)}\n\n{table(head, rows)}"


def _rolling(results: list[dict[str, Any]]) -> str:
    rows = [
        f"{result['database']} | {result['hosts']} | {result['callers']} | {result['delay']} | {result['calls']:,} | "
        f"{result['failed']} | {result['watched']:,} | {result['missed']} | {result['twice']} | {result['chain']}"
        for result in results
    ]
    head = (
        "database | hosts | callers | `JIT_DRAIN_DELAY` | calls | failed | ends watched | missed | told twice | "
        "audit chain"
    )
    intro = (
        "`make rolling` restarts the hosts of the service one after the other, each by TERM once Envoy sends it calls, "
        "while callers request, check and release through that one Envoy, half over REST and half over gRPC, and "
        "somebody watches. No call is repeated: one that fails, or is told what is not so, counts as failed."
    )
    return f"\n## A rolling restart\n\n{intro}\n\n{_verdicts(results)}\n\n{table(head, rows)}"


def _verdicts(results: list[dict[str, Any]]) -> str:
    return "\n".join(f"- `{result['command']}` on {result['at'][:10]}: {_verdict(result)}." for result in results)
