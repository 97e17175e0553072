"""Audit events as CloudEvents 1.0, in the structured JSON format."""

from __future__ import annotations

import json
from typing import Any

from google.protobuf.json_format import MessageToDict

from jit_service.domain.audit.event import RecordedEvent
from jit_service.domain.notification import message_id
from jit_service.rpc.services.audit_messages import audit_message

TYPE_PREFIX = "jitaccess.v1."


def cloud_event(recorded: RecordedEvent, *, source: str) -> bytes:
    """Returns the event; `data` is the AuditEvent message in proto3 JSON. The same record gives the same bytes."""
    data = MessageToDict(audit_message(recorded))
    attributes: dict[str, Any] = {
        "specversion": "1.0",
        "id": message_id(recorded.seq, recorded.hash),
        "source": source,
        "type": TYPE_PREFIX + recorded.event.type,
        "time": data["eventTime"],
        "datacontenttype": "application/json",
        "data": data,
    }
    about = recorded.event.grant or recorded.event.policy
    if about:
        attributes["subject"] = about
    return json.dumps(attributes, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()
