"""An export or a verification is told whole, or it raises."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.api.httpbody_pb2 import HttpBody

from jitaccess import InvalidArgument, JitError, Retry, Unavailable
from jitaccess import _watch as watching
from jitaccess.v1.audit_pb2 import StreamAuditVerificationResponse, VerifyAuditLogResponse
from tests.client.conftest import Ask
from tests.client.service import Held, Refusal, Service

AWAY = Refusal(code=grpc.StatusCode.UNAVAILABLE)


def part(text: bytes) -> HttpBody:
    return HttpBody(content_type="application/x-ndjson", data=text)


def test_parts_come_in_order_without_the_empty_ones(ask: Ask, service: Service) -> None:
    service.will_stream("ExportAuditEvents", [part(b""), part(b"1\n2\n"), part(b""), part(b"3\n")])

    assert ask("export_audit_events") == [b"1\n2\n", b"3\n"]


def test_what_has_not_begun_is_begun_again(ask: Ask, service: Service) -> None:
    service.will_stream("ExportAuditEvents", [AWAY], [part(b"1\n")])

    assert ask("export_audit_events") == [b"1\n"]


@pytest.mark.parametrize("end", [AWAY, Refusal(code=grpc.StatusCode.INTERNAL)])
def test_what_breaks_off_is_an_error_and_is_told_once(ask: Ask, service: Service, end: Any) -> None:
    service.will_stream("ExportAuditEvents", [part(b""), part(b"1\n"), end], [part(b"1\n")])

    with pytest.raises(JitError):
        ask("export_audit_events")

    assert len(service.sent("ExportAuditEvents")) == 1


def test_silence_is_a_broken_export(ask: Ask, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "SILENCE", 0.3)
    service.will_stream("ExportAuditEvents", [part(b"1\n"), Held()])

    with pytest.raises(Unavailable, match="no sign of life"):
        ask("export_audit_events")


def test_any_other_error_is_raised_at_once(ask: Ask, service: Service) -> None:
    refusal = Refusal(code=grpc.StatusCode.INVALID_ARGUMENT, reason="INVALID_FIELD", violations={"format": "is x"})
    service.will_stream("ExportAuditEvents", [refusal])

    with pytest.raises(InvalidArgument) as caught:
        ask("export_audit_events", format="x", options={"retry": Retry(first_delay=0)})

    assert [violation.field for violation in caught.value.field_violations] == ["format"]


def verified(count: int, **more: Any) -> StreamAuditVerificationResponse:
    return StreamAuditVerificationResponse(checked_count=count, event_count=9, **more)


def test_a_verification_tells_how_far_it_is_and_what_it_found(ask: Ask, service: Service) -> None:
    result = VerifyAuditLogResponse(valid=False, first_bad_seq=9)
    service.will_stream("StreamAuditVerification", [verified(0), verified(5), verified(9, result=result)])

    *before, last = ask("stream_audit_verification")

    assert [(told.checked_count, told.result) for told in before] == [(0, None), (5, None)]
    assert (last.result.valid, last.result.first_bad_seq, bool(last.result)) == (False, 9, False)


def test_a_verification_that_breaks_off_raises(ask: Ask, service: Service) -> None:
    service.will_stream("StreamAuditVerification", [verified(0), AWAY])

    with pytest.raises(Unavailable):
        ask("stream_audit_verification")
