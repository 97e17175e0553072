"""Measures the life of grants: how many cycles a second, and whether a check ever misses a revoke."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from typing import Any, Final

from bench import audit_log, facts, frames, seed
from bench.facts import fact
from bench.frames import Call, Tally
from bench.machine import Unavailable, cpu_seconds_of
from bench.results import Recorder, quantile
from bench.rounds import per
from bench.servers import CHECK, Bench, Mode, Running
from jitaccess.v1 import access_pb2, grant_pb2

_GRANTS: Final = "/jitaccess.v1.GrantService/"
_FLIGHT: Final = {"connections": 4, "streams": 4}
_ROW: Final = b"x" * 700
_BOUNDED_TRIES: Final = 200
_CHUNK: Final = 500


def writes(bench: Bench, recorder: Recorder, rounds: int, cycles: int, transport: str) -> None:
    """Measures cycles of request, approve and revoke on both databases, beside cycles of bare commits."""
    modes = [Mode(transport=transport, grants=1000), Mode(transport=transport, grants=1000, database="postgresql")]
    running: dict[str, tuple[Running, int]] = {}
    for mode in modes:
        name = f"cycles-{mode.database}"
        try:
            pid = bench.postgresql().pid if mode.database == "postgresql" else 0
            running[name] = (bench.ours(mode), pid)
        except Unavailable as fault:
            recorder.skip(name, str(fault))
    commits = _bare_sqlite(bench), _bare_postgresql(bench)
    for number in range(1, rounds + 1):
        for name, (server, pid) in running.items():
            recorder.row(name, number, "cycles", _cycles(server, number, cycles, pid))
        for name, commit in zip(("bare-sqlite", "bare-postgresql"), commits, strict=True):
            recorder.row(name, number, "cycles", _bare(commit, cycles))
    for name, (server, _) in running.items():
        recorder.row(name, 0, "verified", audit_log.verified(server))


def revoke_to_deny(bench: Bench, recorder: Recorder, tries: int, transport: str, *, at_most_seconds: float) -> None:
    """Revokes grants one by one, and asks about each as soon as its revoke is acknowledged: STRONG must say no."""
    server = bench.ours(Mode(transport=transport, grants=max(facts.FACTS, tries + _BOUNDED_TRIES)))
    begin, stale, done = time.perf_counter(), 0, 0
    for at in range(0, tries, _CHUNK):
        if time.perf_counter() - begin > at_most_seconds:
            break
        count = min(_CHUNK, tries - at)
        stale += _revoked_then_asked(server, at, count)
        done += count
    seconds = time.perf_counter() - begin
    recorder.row(
        "revoke-to-deny-strong", 1, "stale", {"tries": done, "stale": stale, "errors": 0, "seconds": round(seconds, 1)}
    )
    try:
        bounded = Mode(consistency="BOUNDED").consistency_number()
    except Unavailable as fault:
        recorder.skip("revoke-to-deny-bounded", str(fault))
        return
    delays = sorted(_bounded_delay(server, tries + n, bounded) for n in range(_BOUNDED_TRIES))
    recorder.row(
        "revoke-to-deny-bounded",
        1,
        "delay",
        {
            "tries": len(delays),
            "p50_ms": quantile(delays, 0.5) * 1e3,
            "p99_ms": quantile(delays, 0.99) * 1e3,
            "max_ms": delays[-1] * 1e3,
        },
    )


class _Names:
    """Keeps the names of the grants in the answers."""

    def __init__(self) -> None:
        self.of: dict[int, str] = {}

    def __call__(self, answer: bytes, number: int) -> bool:
        self.of[number] = grant_pb2.Grant.FromString(answer).name
        return True


def _cycles(server: Running, number: int, cycles: int, database_pid: int) -> dict[str, Any]:
    """Sends all requests, then all approvals, then all revokes, each with 16 in flight."""
    names = _Names()
    requests = [
        grant_pb2.RequestGrantRequest(
            resources=[f"writes/r{number}/c{n}"],
            actions=["read"],
            justification=grant_pb2.Justification(text="for the benchmark"),
        ).SerializeToString()
        for n in range(cycles)
    ]
    before, database = server.processes[0].cpu_seconds(), cpu_seconds_of(database_pid)
    asked = _once(server, "requester", "RequestGrant", requests, names)
    order = [names.of.get(n, "") for n in range(cycles)]
    approvals = [grant_pb2.ApproveGrantRequest(name=name).SerializeToString() for name in order]
    approved = _once(server, "owner", "ApproveGrant", approvals)
    revokes = [grant_pb2.RevokeGrantRequest(name=name, comment="done").SerializeToString() for name in order]
    revoked = _once(server, "owner", "RevokeGrant", revokes)
    spent = server.processes[0].cpu_seconds() - before
    steps = {"request": asked, "approve": approved, "revoke": revoked}
    seconds = sum(step.seconds for step in steps.values())
    faults = {f"{word}: {what}": count for word, step in steps.items() for what, count in step.faults.items()}
    row: dict[str, Any] = {
        "cycles": cycles,
        "cycles_per_second": cycles / seconds,
        "cpu_us": per(spent, cycles),
        "errors": sum(faults.values()),
    }
    row |= {f"{word}_per_second": cycles / step.seconds for word, step in steps.items()}
    if database_pid:
        row["database_cpu_us"] = per(cpu_seconds_of(database_pid) - database, cycles)
    return row | ({"void": ", ".join(faults)} if faults else {})


def _once(server: Running, who: str, method: str, messages: list[bytes], right: Any = None) -> Tally:
    judge = {"right": right} if right else {}
    call = Call(path=_GRANTS + method, messages=messages, headers=server.headers(who), **judge)
    return frames.each_once(server.address, call, **_FLIGHT)


def _bare(commit: Callable[[], None] | None, cycles: int) -> dict[str, Any]:
    """Commits one row of 700 bytes three times a cycle, one after another, as the head row serializes our commits."""
    if commit is None:
        return {"void": "this database is not here", "errors": 0}
    begin = time.perf_counter()
    for _ in range(3 * cycles):
        commit()
    return {"cycles": cycles, "cycles_per_second": cycles / (time.perf_counter() - begin), "errors": 0}


def _bare_sqlite(bench: Bench) -> Callable[[], None]:
    connection = sqlite3.connect(bench.place("bare") / "bare.db", isolation_level=None)
    for statement in (
        "PRAGMA journal_mode=WAL",
        "PRAGMA synchronous=FULL",
        "CREATE TABLE bare (id INTEGER PRIMARY KEY, x)",
    ):
        connection.execute(statement)
    bench.stack.callback(connection.close)
    return lambda: _discard(connection.execute("INSERT INTO bare (x) VALUES (?)", (_ROW,)))


def _bare_postgresql(bench: Bench) -> Callable[[], None] | None:
    import psycopg

    try:
        url = bench.postgresql().new("bare")
    except Unavailable:
        return None
    connection = psycopg.connect(url, autocommit=True)
    connection.execute("CREATE TABLE bare (id bigserial PRIMARY KEY, x bytea)")
    bench.stack.callback(connection.close)
    return lambda: _discard(connection.execute("INSERT INTO bare (x) VALUES (%s)", (_ROW,)))


def _discard(_: object) -> None:
    """Ignores the result of a statement."""


def _revoked_then_asked(server: Running, first: int, count: int) -> int:
    """Revokes grants first, first+1, … with 16 in flight, asks about each at its ack; counts stale answers."""
    numbers = range(first, first + count)
    return frames.then_asked(
        server.address,
        first=Call(
            path=_GRANTS + "RevokeGrant",
            messages=[
                grant_pb2.RevokeGrantRequest(name=seed.grant_name(n), comment="late?").SerializeToString()
                for n in numbers
            ],
            headers=server.headers("admin"),
        ),
        then=Call(path=CHECK, messages=[_question(n) for n in numbers], headers=server.headers(), right=_is_denied),
        connections=4,
    )


def _bounded_delay(server: Running, n: int, consistency: int) -> float:
    """Returns the seconds from the ack of a revoke to the first BOUNDED no."""
    revoke = grant_pb2.RevokeGrantRequest(name=seed.grant_name(n), comment="how soon?").SerializeToString()
    _once(server, "admin", "RevokeGrant", [revoke])
    begin = time.perf_counter()
    call = Call(path=CHECK, messages=[_question(n, consistency)], headers=server.headers(), right=_is_denied)
    while time.perf_counter() - begin < 10:
        if not frames.each_once(server.address, call, connections=1, streams=1).faults:
            return time.perf_counter() - begin
    return time.perf_counter() - begin


def _question(n: int, consistency: int = 0) -> bytes:
    what = fact(n)
    return access_pb2.CheckAccessRequest(
        subject=what.subject,
        action=what.action,
        resource=what.resource,
        consistency=consistency,  # type: ignore[arg-type]
    ).SerializeToString()


def _is_denied(answer: bytes, _: int) -> bool:
    return answer[:2] != b"\x08\x01"
