"""A tail tells every record once, whatever happens to the connection."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from jitaccess import InvalidArgument, Retry, TailedEvent, Unavailable
from jitaccess import _watch as watching
from jitaccess.v1 import audit_pb2
from tests.client.conftest import Ask
from tests.client.service import Held, Refusal, Service

AWAY = Refusal(code=grpc.StatusCode.UNAVAILABLE)
EXPIRED = Refusal(code=grpc.StatusCode.UNAUTHENTICATED, reason="TOKEN_EXPIRED")


def heartbeat(seq: int) -> audit_pb2.TailAuditEventsResponse:
    return audit_pb2.TailAuditEventsResponse(seq=seq)


def event(seq: int) -> audit_pb2.TailAuditEventsResponse:
    return audit_pb2.TailAuditEventsResponse(audit_event=audit_pb2.AuditEvent(seq=seq), seq=seq)


def batch(*seqs: int) -> audit_pb2.TailAuditEventsResponse:
    events = [audit_pb2.AuditEvent(seq=seq) for seq in seqs]
    return audit_pb2.TailAuditEventsResponse(audit_events=events, seq=seqs[-1])


def told(events: list[TailedEvent]) -> list[tuple[int, bool]]:
    return [(item.seq, item.audit_event is not None) for item in events]


def starts(service: Service) -> list[int]:
    return [sent.start_seq for sent in service.sent("TailAuditEvents")]


def test_records_are_told_as_they_come_without_signs_of_life(ask: Ask, service: Service) -> None:
    service.will_stream("TailAuditEvents", [heartbeat(3), event(4), heartbeat(5), event(6)])

    assert told(ask("tail_audit_events", events=2)) == [(4, True), (6, True)]


def test_records_that_come_together_are_told_one_by_one(ask: Ask, service: Service) -> None:
    service.will_stream("TailAuditEvents", [heartbeat(3), batch(4, 6), batch(9)])

    events = ask("tail_audit_events", events=3)

    assert told(events) == [(4, True), (6, True), (9, True)]
    assert [item.raw for item in events] == [event(4), event(6), event(9)]
    assert [sent.batch_size for sent in service.sent("TailAuditEvents")] == [1000]


def test_after_a_batch_a_stream_is_taken_up_after_its_last_record(ask: Ask, service: Service) -> None:
    service.will_stream("TailAuditEvents", [heartbeat(3), batch(4, 6), AWAY], [heartbeat(6), batch(7)])

    assert told(ask("tail_audit_events", start_seq=3, events=3)) == [(4, True), (6, True), (7, True)]
    assert starts(service) == [3, 6]


def test_a_service_from_before_there_were_batches_is_asked_without(ask: Ask, service: Service) -> None:
    unknown = {"3": "jitaccess.v1.TailAuditEventsRequest has no field 3"}
    refusal = Refusal(code=grpc.StatusCode.INVALID_ARGUMENT, reason="INVALID_FIELD", violations=unknown)
    service.will_stream("TailAuditEvents", [refusal], [heartbeat(3), event(4)])

    events = ask("tail_audit_events", start_seq=3, options={"retry": Retry(attempts=1)})

    assert told(events) == [(4, True)]
    assert [sent.batch_size for sent in service.sent("TailAuditEvents")] == [1000, 0]


def test_signs_of_life_are_told_where_they_are_asked_for(ask: Ask, service: Service) -> None:
    service.will_stream("TailAuditEvents", [heartbeat(3), event(4)])

    assert told(ask("tail_audit_events", heartbeats=True, events=2)) == [(3, False), (4, True)]


@pytest.mark.parametrize("broken", [[AWAY], []])
@pytest.mark.parametrize("last", [event(6), heartbeat(6)])
def test_a_stream_that_ends_is_taken_up_after_what_was_told(
    ask: Ask, service: Service, last: Any, broken: list[Any]
) -> None:
    service.will_stream("TailAuditEvents", [heartbeat(3), event(4), last, *broken], [heartbeat(6), event(7), event(8)])

    events = ask("tail_audit_events", start_seq=3, events=4 if last.HasField("audit_event") else 3)

    assert [item.seq for item in events][-2:] == [7, 8]
    assert starts(service) == [3, 6]


def test_from_now_on_stays_the_now_of_the_first_stream(ask: Ask, service: Service) -> None:
    service.will_stream("TailAuditEvents", [heartbeat(3), AWAY], [heartbeat(3), event(4)])

    ask("tail_audit_events")

    assert starts(service) == [0, 3]


def test_a_stream_that_ends_with_its_token_goes_on_with_the_next(ask: Ask, service: Service) -> None:
    service.will_stream("TailAuditEvents", [heartbeat(4), EXPIRED], [event(5), Held()])
    tokens = iter(["first", "second"])

    events = ask("tail_audit_events", start_seq=3, options={"token": lambda: next(tokens)})

    assert told(events) == [(5, True)]
    assert starts(service) == [3, 4]


def test_where_nothing_is_told_at_all_it_gives_up(ask: Ask, service: Service) -> None:
    service.will_stream("TailAuditEvents", [AWAY])

    with pytest.raises(Unavailable):
        ask("tail_audit_events", options={"retry": Retry(attempts=3, first_delay=0)})

    assert starts(service) == [0, 0, 0]


def test_any_other_error_is_raised_at_once(ask: Ask, service: Service) -> None:
    refusal = Refusal(code=grpc.StatusCode.INVALID_ARGUMENT, reason="INVALID_FIELD")
    service.will_stream("TailAuditEvents", [refusal])

    with pytest.raises(InvalidArgument):
        ask("tail_audit_events")


def test_silence_is_a_broken_stream(ask: Ask, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "SILENCE", 0.3)
    dead = Held()
    service.will_stream("TailAuditEvents", [heartbeat(4), dead], [event(5), Held()])

    assert told(ask("tail_audit_events")) == [(5, True)]
    assert dead.left.wait(10)
