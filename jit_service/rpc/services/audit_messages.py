"""The messages of AuditService."""

from __future__ import annotations

from jit_service.domain.audit.beginning import Beginning
from jit_service.domain.audit.event import Event, RecordedEvent
from jit_service.feeds.audit import AuditUpdate
from jit_service.rpc.audit_formats.plain_record import plain_message
from jit_service.rpc.mapping import Encoder
from jit_service.storage.audit_records import StoredRecord
from jit_service.use_cases.checkpoints import IssuedCheckpoint, VerifyProgress, VerifyResult
from jitaccess.v1 import audit_pb2

_EVENT = Encoder(
    audit_pb2.AuditEvent,
    Event,
    {
        "event_type": "type",
        "event_time": "at",
        "held_duration": "held",
        "auth_time": "logged_in_at",
        "token_id": lambda event: event.token_id or event.origin.token_id,
    },
    within=("origin",),
    derived=("name", "seq", "hash"),
)
_BEGINNING = Encoder(
    audit_pb2.AuditBeginning,
    Beginning,
    {
        "pruned_seq": "seq",
        "prune_time": "pruned_at",
        "archived_from_seq": "archived_from",
    },
)
verification_message = Encoder(
    audit_pb2.VerifyAuditLogResponse,
    VerifyResult,
    {
        "valid": lambda compared: not (compared.verified.first_bad_seq or compared.verified.differing),
        "checkpoint_signature": "signature",
        "first_differing": "verified.differing",
        "beginning": ("verified.beginning", _BEGINNING),
    },
    within=("verified",),
)
checkpoint_message = Encoder(
    audit_pb2.GetAuditCheckpointResponse,
    IssuedCheckpoint,
    {"checkpoint": "text", "checkpoint_time": "at"},
    within=("checkpoint",),
)


def audit_message(recorded: RecordedEvent) -> audit_pb2.AuditEvent:
    """Returns the record with its place and hash."""
    return _EVENT(recorded.event, name=f"auditEvents/{recorded.seq}", seq=recorded.seq, hash=recorded.hash.hex())


def stored_message(record: StoredRecord) -> audit_pb2.AuditEvent:
    """Returns the same of a record as it is stored."""
    plain = plain_message(*record) if isinstance(record.payload, bytes) else None
    return audit_message(record.recorded) if plain is None else plain


def tail_message(update: AuditUpdate) -> audit_pb2.TailAuditEventsResponse:
    """Returns one message of a tail: a record, or a heartbeat without one."""
    event = stored_message(update.records[0]) if update.records else None
    return audit_pb2.TailAuditEventsResponse(audit_event=event, seq=update.seq)


def tail_batch_message(update: AuditUpdate) -> audit_pb2.TailAuditEventsResponse:
    """Returns one message of a tail in batches: records, or a heartbeat without any."""
    return audit_pb2.TailAuditEventsResponse(audit_events=map(stored_message, update.records), seq=update.seq)


def verification_progress_message(told: VerifyProgress) -> audit_pb2.StreamAuditVerificationResponse:
    """Returns one message of a verification: how far it is, and in the last one what it found."""
    return audit_pb2.StreamAuditVerificationResponse(
        checked_count=told.at.checked_count,
        event_count=told.at.event_count,
        start_seq=told.at.start_seq,
        result=verification_message(told.result) if told.result is not None else None,
    )
