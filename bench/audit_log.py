"""What is asked of a long audit log: how many records, verify, export, and the newest page of each filter."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Final

from google.api.httpbody_pb2 import HttpBody

from bench import calls
from bench.machine import Unavailable
from bench.results import Row, quantile
from bench.servers import Running
from jitaccess.v1 import audit_pb2

_AUDITOR: Final = "auditor"
_SERVICE: Final = "/jitaccess.v1.AuditService/"
_TRIES: Final = 20
Event = audit_pb2.AuditEvent
Filter = Callable[[Sequence[Event], int], str]
"""Makes the filter of a try from events that are in the log."""


def _quoted(field: str, value: Callable[[Event], str]) -> Filter:
    return lambda events, n: f'{field}="{value(events[n % len(events)])}"'


def _lately(events: Sequence[Event], n: int) -> str:
    begin = events[n % len(events)].event_time.ToDatetime()
    return f'event_time>="{begin.isoformat()}Z" AND event_time<"{(begin + timedelta(seconds=1)).isoformat()}Z"'


FILTERS: Final[dict[str, Filter]] = {
    "all": lambda _events, _n: "",
    "subject": _quoted("subject", lambda event: event.subject),
    "principal": _quoted("principal", lambda event: event.principal),
    "resource": lambda events, n: f'resources:"{events[n % len(events)].resources[0]}"',
    "covered resource": lambda events, n: f'covers:"{events[n % len(events)].resources[0]}"',
    "action": lambda events, n: f'actions:"{events[n % len(events)].actions[0]}"',
    "grant": _quoted("grant", lambda event: event.grant or "grants/aaaaaaaaaaaaaaaaaaaaaaaaaa"),
    "policy": _quoted("policy", lambda event: event.policy or "policies/bench-1"),
    "event": lambda _events, _n: 'event_type="ACCESS_CHECKED"',
    "event, few": lambda _events, _n: 'event_type="POLICY_CREATED"',
    "event, none": lambda _events, _n: 'event_type="GRANT_REVOKED"',
    "decision": _quoted("decision", lambda event: event.decision),
    "reason": _quoted("reason", lambda event: event.reason),
    "time": _lately,
    "decision_id": _quoted("decision_id", lambda event: event.decision_id),
    "request_id, none": lambda _events, n: f'request_id="none-{n}"',
    "seq": lambda events, n: f"seq<={events[n % len(events)].seq}",
}
"""The searches that are documented, by what they filter by; the newest records come first."""


def event_count(running: Running) -> int:
    """Returns how many records there are. Raises Unavailable."""
    return int(_checkpoint(running).event_count)


def samples(running: Running, count: int = _TRIES) -> list[Event]:
    """Returns records of checks from all over the log. Raises Unavailable."""
    total, found = event_count(running), list[Event]()
    for n in range(count):
        text = f'event_type="ACCESS_CHECKED" AND seq<={total - n * (total // (2 * count))}'
        found += page(running, text, size=1)[0].audit_events
    if not found:
        raise Unavailable("the log holds no check")
    return found


def searched(running: Running, names: Sequence[str], events: Sequence[Event], *, tries: int = _TRIES) -> Iterator[Row]:
    """Asks for the newest page of each filter, and yields a row for each: void where one fails."""
    for name in names:
        row: Row = {"filter": name, "errors": 0}
        spans: list[float] = []
        try:
            for n in range(tries):
                answer, seconds = page(running, FILTERS[name](events, n))
                spans.append(seconds)
            row |= {"found": len(answer.audit_events), "first_ms": spans[0] * 1e3, "tries": len(spans)}
            spans.sort()
            row |= {"p50_ms": quantile(spans, 0.5) * 1e3, "p99_ms": quantile(spans, 0.99) * 1e3}
        except Unavailable as fault:
            row |= {"errors": 1, "void": str(fault)}
        yield row


def page(running: Running, text: str, size: int = 0) -> tuple[audit_pb2.ListAuditEventsResponse, float]:
    """Returns the newest page of a filter, and the seconds it took. Raises Unavailable."""
    request = audit_pb2.ListAuditEventsRequest(filter=text, page_size=size)
    return calls.ask(running, _AUDITOR, _SERVICE + "ListAuditEvents", request, audit_pb2.ListAuditEventsResponse)


def verified(running: Running, checkpoint: str = "") -> Row:
    """Has the service verify its log, or only what is new since the checkpoint if there is one."""
    begin = time.perf_counter()
    request = audit_pb2.StreamAuditVerificationRequest(checkpoint=checkpoint, only_new=bool(checkpoint))
    answer = audit_pb2.VerifyAuditLogResponse()
    try:
        for part in calls.stream(
            running,
            _AUDITOR,
            _SERVICE + "StreamAuditVerification",
            request,
            audit_pb2.StreamAuditVerificationResponse,
        ):
            answer = part.result
    except Unavailable as fault:
        return {"void": str(fault), "errors": 1}
    seconds = time.perf_counter() - begin
    records = int(answer.event_count)
    return {
        "valid": bool(answer.valid),
        "records": records,
        "seconds": seconds,
        "records_per_second": records / seconds,
        "errors": 0,
    }


def checkpoint(running: Running) -> str:
    """Returns a signed checkpoint. Raises Unavailable."""
    return str(_checkpoint(running).checkpoint)


def exported(running: Running) -> Row:
    """Exports the whole log, and counts its lines."""
    begin, records, size = time.perf_counter(), 0, 0
    request = audit_pb2.ExportAuditEventsRequest()
    try:
        for part in calls.stream(running, _AUDITOR, _SERVICE + "ExportAuditEvents", request, HttpBody):
            records += part.data.count(b"\n")
            size += len(part.data)
    except Unavailable as fault:
        return {"void": str(fault), "errors": 1, "records": records}
    seconds = time.perf_counter() - begin
    return {
        "records": records,
        "bytes": size,
        "seconds": seconds,
        "records_per_second": records / seconds,
        "errors": 0,
    }


def _checkpoint(running: Running) -> audit_pb2.GetAuditCheckpointResponse:
    request = audit_pb2.GetAuditCheckpointRequest()
    answer = audit_pb2.GetAuditCheckpointResponse
    return calls.ask(running, _AUDITOR, _SERVICE + "GetAuditCheckpoint", request, answer)[0]
