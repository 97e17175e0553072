"""The servicer of AuditService: decode, call, encode."""

from __future__ import annotations

import grpc

from jit_service import audit
from jit_service.rpc.call import current_caller
from jit_service.rpc.messages import audit_message
from jit_service.storage import Store
from jitaccess.v1 import audit_pb2
from jitaccess.v1.audit_pb2_grpc import AuditServiceServicer


class AuditServicer(AuditServiceServicer):
    """The audit log."""

    def __init__(self, store: Store) -> None:
        self._store = store

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
            audit_events=[audit_message(event) for event in page.events], next_page_token=page.next_page_token
        )

    def VerifyAuditLog(
        self, request: audit_pb2.VerifyAuditLogRequest, context: grpc.ServicerContext
    ) -> audit_pb2.VerifyAuditLogResponse:
        verified = audit.verify(self._store)
        return audit_pb2.VerifyAuditLogResponse(
            valid=not verified.first_bad_seq,
            event_count=verified.event_count,
            head_hash=verified.head_hash.hex(),
            first_bad_seq=verified.first_bad_seq,
            problem=verified.problem,
        )
