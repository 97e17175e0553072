"""Calls of AuditService: records of the audit log, and its verification."""

from __future__ import annotations

from google.api.httpbody_pb2 import HttpBody

from jitaccess.contract.calls.call import Call, listing, one
from jitaccess.contract.calls.fields import fill
from jitaccess.contract.convert import decode
from jitaccess.contract.model import AuditCheckpoint, AuditEvent, AuditVerdict, AuditVerification, Page, TailedEvent
from jitaccess.v1 import audit_pb2

Told = tuple[TailedEvent, ...]
"""What one answer of a tail has: records, or one sign of life."""
_TOLD_AT_ONCE = 1000


def list_audit_events(*, filter: str = "", order_by: str = "", page_size: int = 0) -> Call[Page[AuditEvent]]:
    """Lists the records of the audit log, newest first unless `order_by` is `seq`."""
    message = fill(audit_pb2.ListAuditEventsRequest, filter=filter, order_by=order_by, page_size=page_size)
    return listing(
        "AuditService/ListAuditEvents", message, audit_pb2.ListAuditEventsResponse, AuditEvent, "audit_events"
    )


def tail_audit_events(*, filter: str = "", start_seq: int = 0) -> Call[Told]:
    """Tells the records after `start_seq`, with 0 those that come from now on, up to 1,000 in an answer.

    Its answers are a stream: JitClient.tail_audit_events reads it.
    """
    message = fill(audit_pb2.TailAuditEventsRequest, filter=filter, start_seq=start_seq, batch_size=_TOLD_AT_ONCE)
    return Call(
        rpc="AuditService/TailAuditEvents", request=message, answer=audit_pb2.TailAuditEventsResponse, read=_told
    )


def export_audit_events(
    *, format: str = "jitaccess", filter: str = "", start_seq: int = 0, end_seq: int = 0
) -> Call[bytes]:
    """Tells the records after `start_seq` up to `end_seq`, with 0 up to the last, as lines of JSON.

    `format` is `jitaccess`, `cloudevents` or `ocsf`. Its answers are a stream: JitClient.export_audit_events reads it.
    """
    message = fill(
        audit_pb2.ExportAuditEventsRequest, format=format, filter=filter, start_seq=start_seq, end_seq=end_seq
    )
    return Call(rpc="AuditService/ExportAuditEvents", request=message, answer=HttpBody, read=_data)


def verify_audit_log(*, checkpoint: AuditCheckpoint | str = "") -> Call[AuditVerdict]:
    """Recomputes the whole hash chain; true where nothing was edited, deleted or reordered.

    With a checkpoint that was kept elsewhere, true only where it was made of this very log: one that was cut or
    rewritten whole is found too.
    """
    return one(
        "AuditService/VerifyAuditLog",
        fill(audit_pb2.VerifyAuditLogRequest, checkpoint=_text_of(checkpoint)),
        audit_pb2.VerifyAuditLogResponse,
        AuditVerdict,
    )


def stream_audit_verification(
    *, checkpoint: AuditCheckpoint | str = "", only_new: bool = False
) -> Call[AuditVerification]:
    """As `verify_audit_log`, for logs of any length; with `only_new` of what came after the checkpoint.

    Its answers are a stream: JitClient.stream_audit_verification reads it.
    """
    return one(
        "AuditService/StreamAuditVerification",
        fill(audit_pb2.StreamAuditVerificationRequest, checkpoint=_text_of(checkpoint), only_new=only_new),
        audit_pb2.StreamAuditVerificationResponse,
        AuditVerification,
    )


def get_audit_checkpoint() -> Call[AuditCheckpoint]:
    """Returns what the audit log is now, signed; kept elsewhere, it shows later whether the log was rewritten."""
    return one(
        "AuditService/GetAuditCheckpoint",
        audit_pb2.GetAuditCheckpointRequest(),
        audit_pb2.GetAuditCheckpointResponse,
        AuditCheckpoint,
    )


def _text_of(checkpoint: AuditCheckpoint | str) -> str:
    return checkpoint.checkpoint if isinstance(checkpoint, AuditCheckpoint) else checkpoint


def _data(body: HttpBody) -> bytes:
    return bytes(body.data)


def _told(answer: audit_pb2.TailAuditEventsResponse) -> Told:
    """Returns the records of a batch as if each had come by itself; each can be resumed from."""
    if not answer.audit_events:
        return (decode(TailedEvent, answer),)
    return tuple(
        TailedEvent(
            audit_event=decode(AuditEvent, event),
            seq=event.seq,
            raw=audit_pb2.TailAuditEventsResponse(audit_event=event, seq=event.seq),
        )
        for event in answer.audit_events
    )
