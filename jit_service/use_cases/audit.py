"""Use cases of the audit log: list it, verify it, and record a refusal."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Final

from jit_service.domain.audit.audit_filter import AUDIT_FIELDS, AUDIT_ORDER
from jit_service.domain.audit.beginning import Beginning
from jit_service.domain.audit.checkpoint import Checkpoint, Fault, fault_in
from jit_service.domain.audit.event import RecordedEvent
from jit_service.domain.audit.refusal import About, refusal_event
from jit_service.domain.caller import Caller
from jit_service.domain.errors import JitError
from jit_service.domain.language import paging
from jit_service.domain.language.filter import parse
from jit_service.storage import Snapshot, Store
from jit_service.storage.readers.audit import Recomputed
from jit_service.use_cases.long_work import result_of


@dataclass(frozen=True, kw_only=True)
class AuditPage:
    """One page of the log. An empty token: the last page. The records up to `pruned_seq` were pruned."""

    events: tuple[RecordedEvent, ...]
    next_page_token: str
    pruned_seq: int = 0


@dataclass(frozen=True, kw_only=True)
class LogVerification:
    """What the chain says. `first_bad_seq` is 0 and `problem` empty where every record is as it was written.

    `differing` is the name of the first grant, policy, signal, delegation, lock or proposal that is not as its last
    record says, or not as the service left it, and `difference` says which. `beginning` is where the log begins, if its
    first records were pruned; then these were not verified.
    """

    event_count: int
    head_hash: bytes
    first_bad_seq: int = 0
    problem: str = ""
    differing: str = ""
    difference: str = ""
    beginning: Beginning | None = None


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a verification is: so many records after `start_seq` are recomputed, and so many there are in all."""

    checked_count: int
    event_count: int
    start_seq: int


Verifying = Generator[Progress, None, LogVerification]
"""The steps of a verification, a fraction of a second each; what it found is its result."""
_AT_ONCE: Final = 50_000
_EVERYTHING: Final = 2**62


def list_page(
    store: Store, caller: Caller, *, filter_text: str, order_by: str, page_size: int, page_token: str
) -> AuditPage:
    """Lists a page of the log. A page may end before it is full; its token continues. Raises InvalidField."""
    size = paging.page_size(page_size)
    node = parse(filter_text, AUDIT_FIELDS)
    order = paging.order_by(order_by, AUDIT_ORDER, default="seq desc")
    this_query = paging.digest("auditEvents", caller.principal, filter_text, order_by)
    beyond = int(paging.decode(page_token, query=this_query, shape=(int,))[0]) if page_token else None
    backwards = order[0].descending
    with store.snapshot() as snapshot:
        beginning = snapshot.log_beginning
        if beyond is not None and not backwards:
            beginning.demand_kept(beyond, "page_token")
        found = snapshot.audit_events(node=node, backwards=backwards, beyond=beyond, limit=size + 1)
    events = found.events[:size]
    # The search may have ended before the page was full: the next page goes on from there.
    resume = events[-1].seq if len(found.events) > size else found.resume
    next_page = "" if resume is None else paging.encode((resume,), query=this_query)
    return AuditPage(events=tuple(events), next_page_token=next_page, pruned_seq=beginning.seq)


def verify(store: Store, *, since: Checkpoint | None = None) -> LogVerification:
    """Recomputes the whole chain against the head, and holds it against a checkpoint, if one is given.

    Then it replays what the log says of each grant, policy, signal, delegation, lock and proposal against the store.
    """
    return result_of(verification(store, since=since))


def verification(store: Store, *, since: Checkpoint | None = None) -> Verifying:
    """Verifies as `verify` does, step by step: yields how far it is, and returns what it found."""
    return _verification(store, Recomputed(), since)


def verification_of_new(store: Store, *, since: Checkpoint) -> Verifying:
    """As `verification`, and recomputes only what came after the checkpoint, from whose hash it goes on.

    A row that no new record names is held against its seal alone.
    """
    return _verification(
        store, Recomputed(start=since.event_count, last=since.event_count, hash=since.head_hash), since
    )


def _verification(store: Store, so_far: Recomputed, since: Checkpoint | None) -> Verifying:
    fault = yield from fault_before_rest(store, so_far)
    with store.long_snapshot() as snapshot:
        fault = fault or (yield from fault_in_rest(snapshot, so_far))
        faults = (fault, _fault_since(snapshot, since) if since is not None else None)
        seq, problem = min(filter(None, faults), default=Fault(0, ""))
        differing, difference = yield from _first_difference(snapshot, so_far)
        return LogVerification(
            event_count=snapshot.seq,
            head_hash=snapshot.head_hash,
            first_bad_seq=seq,
            problem=problem,
            differing=differing,
            difference=difference,
            beginning=snapshot.log_beginning if snapshot.log_beginning.was_pruned else None,
        )


def fault_before_rest(store: Store, so_far: Recomputed) -> Generator[Progress, None, Fault | None]:
    """Recomputes the log from where it begins up to what is not merged yet; the result is what is wrong."""
    fault = _fault_at_beginning(store, so_far)
    yield _progress(so_far, store.head().seq)
    return fault or (yield from _fault_in_merged(store, so_far))


def _fault_at_beginning(store: Store, so_far: Recomputed) -> Fault | None:
    with store.snapshot() as snapshot:
        if bad := snapshot.beginning_fault():
            return Fault(*bad)
        snapshot.skip_pruned(so_far)
    return None


def _fault_in_merged(store: Store, so_far: Recomputed) -> Generator[Progress, None, Fault | None]:
    """Recomputes what is merged: it does not change, so that no transaction stays open while somebody is told."""
    while True:
        with store.snapshot() as snapshot:
            snapshot.skip_pruned(so_far)
            until, event_count = snapshot.merged_seq, snapshot.seq
            bad = snapshot.recompute(so_far, until=until, enough=_AT_ONCE)
        yield _progress(so_far, event_count)
        if bad or so_far.last >= until:
            return Fault(*bad) if bad else None


def fault_in_rest(snapshot: Snapshot, so_far: Recomputed) -> Generator[Progress, None, Fault | None]:
    """Recomputes what is left, up to the head, in one state of the store."""
    snapshot.skip_pruned(so_far)
    bad, before = None, -1
    while bad is None and so_far.last > before:
        before = so_far.last
        bad = snapshot.recompute(so_far, until=_EVERYTHING, enough=_AT_ONCE)
        yield _progress(so_far, snapshot.seq)
    bad = bad or snapshot.fault_at_end(so_far)
    return Fault(*bad) if bad else None


def _first_difference(snapshot: Snapshot, so_far: Recomputed) -> Generator[Progress, None, tuple[str, str]]:
    if so_far.sealing_keys and so_far.sealing_keys[-1] != snapshot.sealing_key:
        return "head", f"is sealed with key {snapshot.sealing_key}; the log says {so_far.sealing_keys[-1]}"
    for found in snapshot.differences(so_far.states):
        if found is not None:
            return found
        yield _progress(so_far, snapshot.seq)
    return "", ""


def _progress(so_far: Recomputed, event_count: int) -> Progress:
    return Progress(checked_count=so_far.last - so_far.start, event_count=event_count, start_seq=so_far.start)


def _fault_since(snapshot: Snapshot, since: Checkpoint) -> Fault | None:
    return fault_in(snapshot.seq, snapshot.record_hash(since.event_count), since=since)


def demand_kept(snapshot: Snapshot, since: Checkpoint) -> None:
    """Raises RecordsPruned if the log cannot be held against the checkpoint, since it was pruned beyond it."""
    if snapshot.record_hash(since.event_count) is None:
        snapshot.log_beginning.demand_kept(since.event_count, "checkpoint")


def record_refusal(store: Store, caller: Caller, error: JitError, about: About) -> None:
    """Records that a call was refused; an empty principal means that nobody proved to be one."""
    with store.transaction() as tx:
        tx.record(refusal_event(caller, error, about, at=tx.now))
