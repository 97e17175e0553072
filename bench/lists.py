"""Part `lists`: what each documented list and search costs, and its plan, on small and on large stores.

A row of kind `list` for each: `what` is listed, `size` of the store, the `filter`, times of 20 first pages of 50, and
the plans of the statements that it runs. A list that is refused, as what cannot be cheap may be, is void with the
status. Of a log also rows of kinds verify, verify from a checkpoint, export and restart.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from bench import audit_log, calls, explained, facts, frames
from bench.machine import Unavailable
from bench.results import Recorder, Row, quantile
from bench.seed import Content, sqlite_copy
from bench.servers import Bench, Mode, Running, batch_call
from jitaccess.v1 import access_pb2, grant_pb2

GRANTS: Final = (10_000, 1_000_000)
RECORDS: Final = (1_000_000, 10_000_000)
PENDING: Final = (1_000, 100_000)
_DATABASES: Final = ("sqlite", "postgresql")
_HOLDER: Final = "user:requester@example.com"
_TRIES: Final = 20
_BUDGET_SECONDS: Final = 10.0
_BATCH: Final = 1_000
_IDLE_SECONDS: Final = 1.0
_View = grant_pb2.ListGrantsRequest
Page = Callable[[Running, int], tuple[int, float]]
"""Asks for a first page, given the number of the try; returns how many were found, and the seconds."""


@dataclass(frozen=True, kw_only=True)
class Store:
    """A store whose lists are measured: what it holds most of, and how many of them."""

    what: str
    size: int
    database: str

    @property
    def name(self) -> str:
        return f"{self.what} {self.size} {self.database}"

    def content(self) -> Content:
        """Returns what it is filled with at first; records come by checks."""
        if self.what == "grants of one":
            return Content(grants=self.size, holder=_HOLDER)
        if self.what == "pending":
            return Content(grants=1_000, pending=self.size)
        return Content(grants=facts.FACTS if self.what == "audit" else self.size)

    def pages(self, running: Running) -> dict[str, Page]:
        """Returns the lists by what they filter by or order by."""
        if self.what == "audit":
            events = audit_log.samples(running)
            return {name: _audit(name, events) for name in audit_log.FILTERS}
        if self.what == "grants of one":
            return {name: page for name, page in _grants(self.size).items() if name in _OF_ONE}
        if self.what == "pending":
            return {name: page for name, page in _grants(self.size).items() if name in _OF_PENDING}
        return _grants(self.size)


def stores(*, most: int) -> list[Store]:
    """Returns the stores, small ones first, but for those of more than `most`."""
    sizes = (("grants", GRANTS), ("grants of one", GRANTS), ("pending", PENDING), ("audit", RECORDS))
    return [
        Store(what=what, size=size, database=database)
        for what, each in sizes
        for size in each
        for database in _DATABASES
        if size <= most
    ]


def measure(bench: Callable[[ExitStack], Bench], recorder: Recorder, chosen: Sequence[Store], transport: str) -> None:
    """Fills each store, times its lists, and explains them."""
    for store in chosen:
        with ExitStack() as stack:
            own = bench(stack)
            try:
                _measure(own, recorder, store, Mode(transport=transport, database=store.database))
            except (Unavailable, OSError, TimeoutError) as fault:
                recorder.skip(store.name, str(fault))


def _measure(bench: Bench, recorder: Recorder, store: Store, mode: Mode) -> None:
    begin = time.perf_counter()
    if mode.database == "sqlite":
        url = sqlite_copy(store.content(), bench.place("lists") / "jit.db")
    else:
        url = bench.postgresql().copy_with(store.content())
        bench.stack.callback(bench.postgresql().drop, url)
    running = bench.ours(mode, url=url)
    if store.what == "audit":
        check(running, store.size)
    recorder.started(store.name, seconds=time.perf_counter() - begin)
    pages = store.pages(running)
    rows = {name: _timed(running, page) for name, page in pages.items()}
    if store.what == "audit":
        _read(recorder, store, running)
    for process in running.processes:
        process.stop()
    if store.what == "audit":
        again = bench.ours(mode, url=url)
        recorder.row(store.name, 1, "restart", {"size": store.size, "seconds": again.started_in, "errors": 0})
        for process in again.processes:
            process.stop()
    plans = bench.place("plans") / "plans.jsonl"
    slow = bench.ours(replace(mode), url=url, plans=plans)
    for name, page in pages.items():
        facts_of = {"what": store.what, "size": store.size, "database": store.database, "filter": name}
        recorder.row(store.name, 1, "list", facts_of | rows[name] | {"plans": _explained(slow, page, plans)})


def _read(recorder: Recorder, store: Store, running: Running) -> None:
    """Verifies the log, as a whole and from a checkpoint, and exports it."""
    since = audit_log.checkpoint(running)
    reads: dict[str, Callable[[], Row]] = {
        "verify": lambda: audit_log.verified(running),
        "verify from a checkpoint": lambda: audit_log.verified(running, since),
        "export": lambda: audit_log.exported(running),
    }
    for kind, read in reads.items():
        recorder.row(store.name, 1, kind, {"what": store.what, "size": store.size} | read())


def check(running: Running, records: int, *, batch: int = _BATCH, at_once: int = 8) -> None:
    """Has the service check until its log holds so many records, in batches."""
    while (missing := records - audit_log.event_count(running)) > 0:
        asked = facts.questions(count=min(missing, 100 * _BATCH), seed=missing)
        size = min(batch, len(asked))
        call = batch_call(running, asked, size)
        tally = frames.each_once(running.address, call, connections=at_once, streams=1)
        if tally.faults:
            raise Unavailable(f"checks failed: {', '.join(tally.faults)}")


def _timed(running: Running, page: Page) -> Row:
    """Times first pages: 20, or as many as 10 s suffice for. A list that fails is asked once."""
    spans, found = [], 0
    try:
        for number in range(_TRIES):
            found, seconds = page(running, number)
            spans.append(seconds)
            if sum(spans) > _BUDGET_SECONDS:
                break
    except Unavailable as fault:
        return {"void": str(fault), "errors": 1}
    first = spans[0]
    spans.sort()
    return {
        "found": found,
        "tries": len(spans),
        "first_ms": first * 1e3,
        "p50_ms": quantile(spans, 0.5) * 1e3,
        "p99_ms": quantile(spans, 0.99) * 1e3,
        "errors": 0,
    }


def _explained(running: Running, page: Page, plans: Path) -> dict[str, list[str]]:
    """Returns the plans of the statements that one page runs, without what runs anyway."""
    plans.unlink(missing_ok=True)
    time.sleep(_IDLE_SECONDS)
    always = explained.read(plans)
    try:
        page(running, 0)
    except Unavailable:
        return {}
    return {statement: plan for statement, plan in explained.read(plans).items() if statement not in always}


def _audit(name: str, events: Sequence[audit_log.Event]) -> Page:
    def page(running: Running, number: int) -> tuple[int, float]:
        found, seconds = audit_log.page(running, audit_log.FILTERS[name](events, number))
        return len(found.audit_events), seconds

    return page


def _grants(size: int) -> dict[str, Page]:
    """Returns the lists of grants: views, filters, orders, and the searches of live access."""

    def n(number: int) -> int:
        return number * 7919 % size

    soon = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    ago = (datetime.now(UTC) - timedelta(days=1)).isoformat()
    filters: dict[str, Callable[[int], str]] = {
        "no filter": lambda _: "",
        "name": lambda number: f'name="grants/a{number}"',
        "state ACTIVE": lambda _: 'state="ACTIVE"',
        "state PENDING": lambda _: 'state="PENDING"',
        "state REVOKED (none)": lambda _: 'state="REVOKED"',
        "subject": lambda number: f'subject="{facts.fact(n(number)).subject}"',
        "requester": lambda number: f'requester="{facts.fact(n(number)).subject}"',
        "policy": lambda number: f'policy="policies/bench-{number % 10}"',
        "resources": lambda number: f'resources:"{facts.fact(n(number)).resource}"',
        "resources (none)": lambda number: f'resources:"database/none/{number}"',
        "actions": lambda _: 'actions:"read"',
        "covers": lambda number: f'covers:"{facts.fact(n(number)).resource}"',
        "covers_action": lambda _: 'covers_action:"read"',
        "reviewers (none)": lambda number: f'reviewers:"user:nobody{number}@example.com"',
        "labels (none)": lambda number: f'labels.team="t{number}"',
        "create_time": lambda _: f'create_time>="{ago}"',
        "start_time": lambda _: f'start_time>="{ago}"',
        "expire_time (none)": lambda _: f'expire_time<"{soon}"',
        "subject AND state": lambda number: f'subject="{facts.fact(n(number)).subject}" AND state="ACTIVE"',
    }
    pages = {f"all: {name}": _list("auditor", _View.ALL, text) for name, text in filters.items()}
    for field in ("create_time", "start_time", "expire_time", "subject", "requester", "policy"):
        for order in (field, f"{field} desc"):
            pages[f"all by {order}"] = _list("auditor", _View.ALL, order=order)
    pages |= {
        "mine": _list("requester", _View.MINE),
        "mine, state ACTIVE": _list("requester", _View.MINE, lambda _: 'state="ACTIVE"'),
        "mine by expire_time": _list("requester", _View.MINE, order="expire_time"),
        "reviewable": _list("owner", _View.REVIEWABLE),
        "visible": _list("owner", _View.VISIBLE),
        "review debt": _list("auditor", _View.REVIEW_DEBT),
        "access of a resource": _search(lambda n: {"resource": facts.fact(n % size).resource, "action": "read"}),
        "access of a subject": _search(lambda n: {"subject": facts.fact(n % size).subject, "action": "read"}),
    }
    return pages


_OF_ONE: Final = ("mine", "mine, state ACTIVE", "mine by expire_time", "all: no filter", "all: policy")
_OF_PENDING: Final = ("reviewable", "visible", "all: state PENDING", "all: no filter")


def _list(who: str, view: Any, text: Callable[[int], str] = lambda _: "", *, order: str = "") -> Page:
    def page(running: Running, number: int) -> tuple[int, float]:
        request = grant_pb2.ListGrantsRequest(view=view, filter=text(number), order_by=order)
        answer = grant_pb2.ListGrantsResponse
        found, seconds = calls.ask(running, who, "/jitaccess.v1.GrantService/ListGrants", request, answer)
        return len(found.grants), seconds

    return page


def _search(fields: Callable[[int], dict[str, str]]) -> Page:
    def page(running: Running, number: int) -> tuple[int, float]:
        request = access_pb2.SearchAccessRequest(**fields(number * 7919))  # type: ignore[arg-type]
        path = "/jitaccess.v1.AccessService/SearchAccess"
        found, seconds = calls.ask(running, "gateway", path, request, access_pb2.SearchAccessResponse)
        return len(found.found), seconds

    return page
