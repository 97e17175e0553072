"""Audit events as events of the Open Cybersecurity Schema Framework (https://schema.ocsf.io/1.8.0).

An event that gives or takes access is User Access Management; a check, a search or a refused call is API Activity;
every other change is Entity Management. Fields without an attribute in the schema are in `unmapped`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final, NamedTuple

from google.protobuf.json_format import MessageToDict

from jit_service.domain.audit.event import SERVICE, Event, EventType, RecordedEvent
from jit_service.domain.grants.grant import GrantState
from jit_service.domain.notification import message_id
from jit_service.rpc.services.audit_messages import audit_message

SCHEMA: Final = "1.8.0"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
Json = dict[str, Any]


class Kind(NamedTuple):
    """A class of the schema, its activities by name, and the fields of an AuditEvent that it has attributes for."""

    uid: int
    name: str
    activities: Mapping[int, str]
    mapped: frozenset[str] = frozenset()


API: Final = Kind(
    6003,
    "API Activity",
    {1: "Create", 2: "Read", 3: "Update", 4: "Delete"},
    frozenset({"method", "resources", "requestId"}),
)
ACCESS: Final = Kind(
    3005,
    "User Access Management",
    {1: "Assign Privileges", 2: "Revoke Privileges"},
    frozenset({"subject", "resources", "actions"}),
)
ENTITY: Final = Kind(3004, "Entity Management", {1: "Create", 3: "Update", 4: "Delete"})
_CREATE, _READ, _UPDATE, _DELETE = 1, 2, 3, 4
_ASSIGN, _REVOKE = 1, 2
_ALWAYS_MAPPED: Final = frozenset(
    {"name", "seq", "eventType", "eventTime", "principal", "groups", "reason", "message"}
    | {"sourceAddress", "userAgent", "traceId", "repeatCount"}
)

_ACTIVITIES: Final[Mapping[EventType, tuple[Kind, int]]] = {
    EventType.GRANT_REQUESTED: (ENTITY, _CREATE),
    EventType.GRANT_APPROVED: (ENTITY, _UPDATE),
    EventType.GRANT_DENIED: (ENTITY, _UPDATE),
    EventType.GRANT_WITHDRAWN: (ENTITY, _UPDATE),
    EventType.GRANT_LAPSED: (ENTITY, _UPDATE),
    EventType.GRANT_COUNTERED: (ENTITY, _UPDATE),
    EventType.COUNTER_OFFER_ACCEPTED: (ENTITY, _UPDATE),
    EventType.COUNTER_OFFER_DECLINED: (ENTITY, _UPDATE),
    EventType.EXTENSION_REQUESTED: (ENTITY, _UPDATE),
    EventType.EXTENSION_APPROVED: (ENTITY, _UPDATE),
    EventType.EXTENSION_DENIED: (ENTITY, _UPDATE),
    EventType.EXTENSION_WITHDRAWN: (ENTITY, _UPDATE),
    EventType.EXTENSION_LAPSED: (ENTITY, _UPDATE),
    EventType.REVIEW_COMPLETED: (ENTITY, _UPDATE),
    EventType.REVIEW_OVERDUE: (ENTITY, _UPDATE),
    EventType.STEP_ESCALATED: (ENTITY, _UPDATE),
    EventType.AUDIT_PRUNED: (ENTITY, _DELETE),
    EventType.GRANTS_PRUNED: (ENTITY, _DELETE),
    EventType.CHANGES_PRUNED: (ENTITY, _DELETE),
    EventType.GRANT_EXPIRES_SOON: (ENTITY, _UPDATE),
    EventType.BREAK_GLASS_USED: (ACCESS, _ASSIGN),
    EventType.GRANT_REVOKED: (ACCESS, _REVOKE),
    EventType.GRANT_RELEASED: (ACCESS, _REVOKE),
    EventType.GRANT_EXPIRED: (ACCESS, _REVOKE),
    EventType.POLICY_CREATED: (ENTITY, _CREATE),
    EventType.POLICY_UPDATED: (ENTITY, _UPDATE),
    EventType.POLICY_DELETED: (ENTITY, _DELETE),
    EventType.SIGNAL_SET: (ENTITY, _UPDATE),
    EventType.SIGNAL_DELETED: (ENTITY, _DELETE),
    EventType.DELEGATION_CREATED: (ENTITY, _CREATE),
    EventType.DELEGATION_DELETED: (ENTITY, _DELETE),
    EventType.LOCK_CREATED: (ENTITY, _CREATE),
    EventType.LOCK_DELETED: (ENTITY, _DELETE),
    EventType.LOCK_EXPIRED: (ENTITY, _UPDATE),
    EventType.POLICIES_PROPOSED: (ENTITY, _CREATE),
    EventType.PROPOSAL_APPROVED: (ENTITY, _UPDATE),
    EventType.PROPOSAL_REJECTED: (ENTITY, _UPDATE),
    EventType.PROPOSAL_LAPSED: (ENTITY, _UPDATE),
    EventType.TOKEN_ISSUED: (ENTITY, _CREATE),
    EventType.TOKEN_REVOKED: (ENTITY, _DELETE),
    EventType.SIGNING_KEY_ADDED: (ENTITY, _CREATE),
    EventType.SIGNING_KEY_REMOVED: (ENTITY, _DELETE),
    EventType.ACCESS_CHECKED: (API, _READ),
    EventType.ACCESS_SEARCHED: (API, _READ),
    EventType.CALL_REFUSED: (API, _UPDATE),
    EventType.UNREADABLE: (API, _UPDATE),
    EventType.GRANTS_REVOKED: (API, _UPDATE),
    EventType.STORE_RESTORED: (API, _UPDATE),
    EventType.STORE_RESEALED: (API, _UPDATE),
}
# These events give access at once if no other approval is needed.
_GIVING_EVENTS: Final = frozenset(
    {EventType.GRANT_REQUESTED, EventType.GRANT_APPROVED, EventType.COUNTER_OFFER_ACCEPTED}
)
_GIVING_STATES: Final = frozenset({GrantState.ACTIVE, GrantState.SCHEDULED})
# The activity of a refused call, by the first word of the RPC's name; all others are updates.
_REFUSED_ACTIVITY: Final = {
    **dict.fromkeys(("Request", "Ensure", "Create", "Issue"), _CREATE),
    **dict.fromkeys(("Get", "List", "Check", "Batch", "Search", "Evaluate", "Process"), _READ),
    "Delete": _DELETE,
}
_SEVERITIES: Final = {1: "Informational", 2: "Low", 3: "Medium"}
_SEVERITY: Final = {
    EventType.CALL_REFUSED: 2,
    EventType.BREAK_GLASS_USED: 3,
    EventType.REVIEW_OVERDUE: 3,
    EventType.UNREADABLE: 3,
}
_USER_TYPES: Final = {"user": (1, "User"), "service": (4, "Service")}


def ocsf_event(recorded: RecordedEvent) -> bytes:
    """Returns the event as JSON. The same record gives the same bytes."""
    return json.dumps(event_of(recorded), separators=(",", ":"), sort_keys=True).encode()


def event_of(recorded: RecordedEvent) -> Json:
    """Returns the event."""
    event = recorded.event
    kind, activity = activity_of(event)
    data = MessageToDict(audit_message(recorded))
    severity = _SEVERITY.get(event.type, 1)
    body = {
        "category_uid": kind.uid // 1000,
        "class_uid": kind.uid,
        "class_name": kind.name,
        "activity_id": activity,
        "activity_name": kind.activities[activity],
        "type_uid": kind.uid * 100 + activity,
        "severity_id": severity,
        "severity": _SEVERITIES[severity],
        "time": (event.at - _EPOCH) // _MILLISECOND,
        "message": event.message or str(event.type),
        "metadata": _metadata(recorded, original_time=data["eventTime"]),
        "actor": {"user": _user(event.principal) | _groups(event)},
        "src_endpoint": _source(event),
        "unmapped": {key: data[key] for key in data if key not in _ALWAYS_MAPPED | kind.mapped},
    }
    if event.repeat_count:
        body["count"] = event.repeat_count
    body |= _status(event) | _class_attributes(kind, event)
    if event.origin.user_agent:
        body["http_request"] = {"user_agent": event.origin.user_agent}
    return body


def activity_of(event: Event) -> tuple[Kind, int]:
    """Returns the class of the event in the schema, and its activity."""
    if event.type in _GIVING_EVENTS and event.decision in _GIVING_STATES:
        return ACCESS, _ASSIGN
    if event.type is EventType.CALL_REFUSED:
        return API, next(
            (activity for word, activity in _REFUSED_ACTIVITY.items() if _rpc_name(event).startswith(word)), _UPDATE
        )
    return _ACTIVITIES[event.type]


def _class_attributes(kind: Kind, event: Event) -> Json:
    if kind is API:
        return {"api": _api(event), "resources": _resources(event)} | _access_control(event)
    if kind is ACCESS:
        return {"user": _user(event.subject), "privileges": list(event.actions), "resources": _resources(event)}
    return {"entity": _entity(event)}


def _metadata(recorded: RecordedEvent, *, original_time: str) -> Json:
    event = recorded.event
    body: Json = {
        "version": SCHEMA,
        "product": {"name": "jit-service", "vendor_name": "jitaccess", "version": _product_version()},
        "uid": message_id(recorded.seq, recorded.hash),
        "original_event_uid": f"auditEvents/{recorded.seq}",
        "sequence": recorded.seq,
        "event_code": str(event.type),
        "log_name": "auditLog",
        "original_time": original_time,
    }
    if event.origin.trace_id:
        body["correlation_uid"] = event.origin.trace_id
    if event.type is EventType.ACCESS_CHECKED:
        body["profiles"] = ["security_control"]
    return body


def _user(principal: str) -> Json:
    kind, label = _USER_TYPES.get(principal.partition(":")[0], (0, "Unknown"))
    # The caller was not authenticated.
    name = principal or "unknown"
    return {"name": name, "uid": name, "type_id": kind, "type": label}


def _groups(event: Event) -> Json:
    return {"groups": [{"name": group} for group in event.groups]} if event.groups else {}


def _source(event: Event) -> Json:
    if event.origin.source_address:
        return {"ip": event.origin.source_address}
    return {"svc_name": "jit-service"} if event.principal == SERVICE else {"name": "unknown"}


def _status(event: Event) -> Json:
    refused = event.type is EventType.CALL_REFUSED
    body: Json = {"status_id": 2, "status": "Failure"} if refused else {"status_id": 1, "status": "Success"}
    if event.reason:
        body["status_code"] = event.reason
    if event.message:
        body["status_detail"] = event.message
    return body


def _access_control(event: Event) -> Json:
    """Returns the decision of a check. A denied check still has the status Success, since the call succeeded."""
    if event.type is not EventType.ACCESS_CHECKED:
        return {}
    if event.decision == "ALLOWED":
        return {"action_id": 1, "action": "Allowed", "disposition_id": 1, "disposition": "Allowed"}
    return {"action_id": 2, "action": "Denied", "disposition_id": 2, "disposition": "Blocked"}


def _rpc_name(event: Event) -> str:
    return event.origin.method.rpartition("/")[2]


def _api(event: Event) -> Json:
    service = event.origin.method.strip("/").rpartition("/")[0]
    body: Json = {"operation": _rpc_name(event) or str(event.type)}
    if service:
        body["service"] = {"name": service}
    if event.origin.request_id:
        body["request"] = {"uid": event.origin.request_id}
    if event.type is EventType.CALL_REFUSED:
        body["response"] = {"error": event.reason, "error_message": event.message}
    return body


def _resources(event: Event) -> list[Json]:
    return [{"name": resource, "uid": resource, "type": resource.partition("/")[0]} for resource in event.resources]


def _entity(event: Event) -> Json:
    kind, name = _entity_name(event)
    body: Json = {"name": name, "uid": name, "type": kind, "type_id": 99}
    if kind == "Policy":
        body |= {"type_id": 5, "policy": {"name": name, "uid": name}}
        if event.policy_revision:
            body["policy"]["version"] = str(event.policy_revision)
    return body


def _entity_name(event: Event) -> tuple[str, str]:
    """Returns the kind of the entity that the event is about, and its name."""
    match event.type.partition("_")[0]:
        case "POLICY":
            return "Policy", event.policy
        case "POLICIES" | "PROPOSAL":
            return "Policy Proposal", event.proposal
        case "SIGNAL":
            return "Signal", event.signal
        case "DELEGATION":
            return "Delegation", event.delegation
        case "LOCK":
            return "Lock", event.lock
        case "TOKEN":
            return "Token", event.token_id
        case "SIGNING":
            # The first word of the message is the id of the key.
            return "Signing Key", event.message.partition(" ")[0].removesuffix(":")
        case _:
            return "Grant", event.grant


@cache
def _product_version() -> str:
    try:
        return version("jit-service")
    except PackageNotFoundError:
        return "0"
