"""The servicer of AuditService: decode, call, encode."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
from google.api.httpbody_pb2 import HttpBody

from jit_service.feeds.audit import tail
from jit_service.rpc.audit_formats.ndjson import bodies, encoder
from jit_service.rpc.interceptor import current_caller
from jit_service.rpc.message_size import within_bytes
from jit_service.rpc.services.audit_messages import (
    audit_message,
    checkpoint_message,
    tail_batch_message,
    tail_message,
    verification_message,
    verification_progress_message,
)
from jit_service.storage import Store
from jit_service.storage.head_follower import HeadFollower
from jit_service.use_cases import audit, checkpoints
from jit_service.use_cases.audit_export import export
from jit_service.use_cases.signing_keys import Issuing
from jitaccess.v1 import audit_pb2
from jitaccess.v1.audit_pb2_grpc import AuditServiceServicer


class AuditServicer(AuditServiceServicer):
    """The audit log. Without `issuing` there are no checkpoints; `source` is the source of the CloudEvents."""

    def __init__(self, store: Store, follower: HeadFollower, issuing: Issuing | None, *, source: str) -> None:
        self._store = store
        self._follower = follower
        self._issuing = issuing
        self._source = source

    @within_bytes
    def ListAuditEvents(
        self, request: audit_pb2.ListAuditEventsRequest, context: grpc.ServicerContext
    ) -> audit_pb2.ListAuditEventsResponse:
        page = audit.list_page(
            self._store,
            current_caller(),
            filter_text=request.filter,
            order_by=request.order_by,
            page_size=request.page_size,
            page_token=request.page_token,
        )
        return audit_pb2.ListAuditEventsResponse(
            audit_events=[audit_message(event) for event in page.events],
            next_page_token=page.next_page_token,
            pruned_seq=page.pruned_seq,
        )

    def TailAuditEvents(
        self, request: audit_pb2.TailAuditEventsRequest, context: grpc.ServicerContext
    ) -> Iterator[audit_pb2.TailAuditEventsResponse]:
        context.add_callback(self._follower.wake)
        updates = tail(
            self._store,
            filter_text=request.filter,
            start_seq=request.start_seq,
            batch_size=request.batch_size,
            follower=self._follower,
            gone=lambda: not context.is_active(),
        )
        return map(tail_batch_message if request.batch_size else tail_message, updates)

    def ExportAuditEvents(
        self, request: audit_pb2.ExportAuditEventsRequest, context: grpc.ServicerContext
    ) -> Iterator[HttpBody]:
        encode = encoder(request.format, source=self._source)
        pages = export(
            self._store,
            filter_text=request.filter,
            start_seq=request.start_seq,
            end_seq=request.end_seq,
            gone=lambda: not context.is_active(),
        )
        return bodies(pages, encode)

    def VerifyAuditLog(
        self, request: audit_pb2.VerifyAuditLogRequest, context: grpc.ServicerContext
    ) -> audit_pb2.VerifyAuditLogResponse:
        return verification_message(checkpoints.verify(self._store, self._issuing, request.checkpoint))

    def StreamAuditVerification(
        self, request: audit_pb2.StreamAuditVerificationRequest, context: grpc.ServicerContext
    ) -> Iterator[audit_pb2.StreamAuditVerificationResponse]:
        told = checkpoints.stream_verification(
            self._store,
            self._issuing,
            request.checkpoint,
            only_new=request.only_new,
            gone=lambda: not context.is_active(),
        )
        return map(verification_progress_message, told)

    def GetAuditCheckpoint(
        self, request: audit_pb2.GetAuditCheckpointRequest, context: grpc.ServicerContext
    ) -> audit_pb2.GetAuditCheckpointResponse:
        return checkpoint_message(checkpoints.make(self._store, self._issuing))
