"""Use cases of the audit log: list it, verify it, and record a refusal."""

from __future__ import annotations

from dataclasses import dataclass

from jit_service.domain.audit.audit_filter import AUDIT_FIELDS, AUDIT_ORDER
from jit_service.domain.audit.checkpoint import Checkpoint, Fault, fault_in
from jit_service.domain.audit.event import RecordedEvent
from jit_service.domain.audit.refusal import About, refusal_event
from jit_service.domain.caller import Caller
from jit_service.domain.errors import JitError
from jit_service.domain.language import paging
from jit_service.domain.language.filter import parse
from jit_service.storage import Snapshot, Store


@dataclass(frozen=True, kw_only=True)
class AuditPage:
    """One page of the log. An empty token: the last page."""

    events: tuple[RecordedEvent, ...]
    next_page_token: str


@dataclass(frozen=True, kw_only=True)
class LogVerification:
    """What the chain says. `first_bad_seq` is 0 and `problem` empty where every record is as it was written.

    `differing` is the name of the first grant, policy, signal, delegation, lock or proposal that is not as its last
    record says, or not as the service left it, and `difference` says which.
    """

    event_count: int
    head_hash: bytes
    first_bad_seq: int = 0
    problem: str = ""
    differing: str = ""
    difference: str = ""


def list_page(
    store: Store, caller: Caller, *, filter_text: str, order_by: str, page_size: int, page_token: str
) -> AuditPage:
    """Lists a page of the log. A page may end before it is full; its token continues. Raises InvalidField."""
    size = paging.page_size(page_size)
    node = parse(filter_text, AUDIT_FIELDS)
    order = paging.order_by(order_by, AUDIT_ORDER, default="seq desc")
    this_query = paging.digest("auditEvents", caller.principal, filter_text, order_by)
    beyond = int(paging.decode(page_token, query=this_query, shape=(int,))[0]) if page_token else None
    with store.snapshot() as snapshot:
        found = snapshot.audit_events(node=node, backwards=order[0].descending, beyond=beyond, limit=size + 1)
    events = found.events[:size]
    # The search may have ended before the page was full: the next page goes on from there.
    resume = events[-1].seq if len(found.events) > size else found.resume
    return AuditPage(
        events=tuple(events), next_page_token="" if resume is None else paging.encode((resume,), query=this_query)
    )


def verify(store: Store, *, since: Checkpoint | None = None) -> LogVerification:
    """Recomputes the whole chain against the head, and holds it against a checkpoint, if one is given.

    Then it replays what the log says of each grant, policy, signal, delegation, lock and proposal against the store.
    """
    states: dict[str, str] = {}
    with store.snapshot() as snapshot:
        bad = snapshot.first_bad_record(states=states)
        faults = (Fault(*bad) if bad else None, _fault_since(snapshot, since) if since is not None else None)
        seq, problem = min(filter(None, faults), default=Fault(0, ""))
        differing, difference = next(snapshot.differences(states), ("", ""))
        return LogVerification(
            event_count=snapshot.seq,
            head_hash=snapshot.head_hash,
            first_bad_seq=seq,
            problem=problem,
            differing=differing,
            difference=difference,
        )


def _fault_since(snapshot: Snapshot, since: Checkpoint) -> Fault | None:
    return fault_in(snapshot.seq, snapshot.record_hash(since.event_count), since=since)


def record_refusal(store: Store, caller: Caller, error: JitError, about: About) -> None:
    """Records that a call was refused; an empty principal means that nobody proved to be one."""
    with store.transaction() as tx:
        tx.record(refusal_event(caller, error, about, at=tx.now))
