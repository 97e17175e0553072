"""Audit events in OCSF 1.8.0: of every type the class, its required attributes, and nothing lost."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from jit_service.domain.audit.event import SERVICE, Event, EventType, RecordedEvent
from jit_service.domain.caller import Origin
from jit_service.rpc.audit_formats.ocsf import event_of, ocsf_event
from tests.conftest import NOON, TICK

BASE = {"activity_id", "category_uid", "class_uid", "metadata", "severity_id", "time", "type_uid"}
REQUIRED = {6003: {"actor", "api", "src_endpoint"}, 3005: {"user", "privileges"}, 3004: {"entity"}}
ACTIVITIES = {6003: {1, 2, 3, 4}, 3005: {1, 2}, 3004: set(range(1, 14))}
EVENT = Event(
    type=EventType.GRANT_REQUESTED,
    at=NOON,
    principal="user:alice@example.com",
    origin=Origin(
        method="/jitaccess.v1.GrantService/RequestGrant",
        source_address="192.0.2.7",
        user_agent="jit/1",
        trace_id="0af7651916cd43dd8448eb211c80319c",
        request_id="3f0e8c4e-3a52-4a7e-9f0d-0d3f4a7a5b61",
    ),
    subject="service:bot",
    resources=("database/orders", "http/payments"),
    actions=("read", "write"),
    decision="PENDING",
    message="because",
    grant="grants/g1",
    policy="policies/p1",
    policy_revision=7,
    groups=("engineering",),
    context={"ticket": 7},
    revision=12,
)


def told(type_: EventType = EventType.GRANT_REQUESTED, **changes: Any) -> dict[str, Any]:
    """Returns the event as it comes out of the line."""
    recorded = RecordedEvent(seq=9, hash=bytes(range(32)), event=replace(EVENT, type=type_, **changes))
    line = ocsf_event(recorded)
    assert b"\n" not in line
    said: dict[str, Any] = json.loads(line)
    assert said == json.loads(json.dumps(event_of(recorded)))
    return said


CLASSES = {
    EventType.GRANT_REQUESTED: 300401,
    EventType.GRANT_APPROVED: 300403,
    EventType.GRANT_DENIED: 300403,
    EventType.GRANT_WITHDRAWN: 300403,
    EventType.GRANT_REVOKED: 300502,
    EventType.GRANT_RELEASED: 300502,
    EventType.GRANT_EXPIRED: 300502,
    EventType.GRANT_LAPSED: 300403,
    EventType.POLICY_CREATED: 300401,
    EventType.POLICY_UPDATED: 300403,
    EventType.POLICY_DELETED: 300404,
    EventType.ACCESS_CHECKED: 600302,
    EventType.ACCESS_SEARCHED: 600302,
    EventType.CALL_REFUSED: 600301,
    EventType.UNREADABLE: 600303,
    EventType.SIGNAL_SET: 300403,
    EventType.SIGNAL_DELETED: 300404,
    EventType.GRANTS_REVOKED: 600303,
    EventType.STORE_RESTORED: 600303,
    EventType.STORE_RESEALED: 600303,
    EventType.BREAK_GLASS_USED: 300501,
    EventType.REVIEW_COMPLETED: 300403,
    EventType.GRANT_COUNTERED: 300403,
    EventType.COUNTER_OFFER_ACCEPTED: 300403,
    EventType.COUNTER_OFFER_DECLINED: 300403,
    EventType.EXTENSION_REQUESTED: 300403,
    EventType.EXTENSION_APPROVED: 300403,
    EventType.EXTENSION_DENIED: 300403,
    EventType.EXTENSION_WITHDRAWN: 300403,
    EventType.EXTENSION_LAPSED: 300403,
    EventType.DELEGATION_CREATED: 300401,
    EventType.DELEGATION_DELETED: 300404,
    EventType.POLICIES_PROPOSED: 300401,
    EventType.PROPOSAL_APPROVED: 300403,
    EventType.PROPOSAL_REJECTED: 300403,
    EventType.PROPOSAL_LAPSED: 300403,
    EventType.TOKEN_ISSUED: 300401,
    EventType.TOKEN_REVOKED: 300404,
    EventType.SIGNING_KEY_ADDED: 300401,
    EventType.SIGNING_KEY_REMOVED: 300404,
    EventType.REVIEW_OVERDUE: 300403,
    EventType.LOCK_CREATED: 300401,
    EventType.LOCK_DELETED: 300404,
    EventType.LOCK_EXPIRED: 300403,
    EventType.GRANT_EXPIRES_SOON: 300403,
    EventType.STEP_ESCALATED: 300403,
    EventType.AUDIT_PRUNED: 300404,
    EventType.GRANTS_PRUNED: 300404,
    EventType.CHANGES_PRUNED: 300404,
}


@pytest.mark.parametrize("type_", EventType)
def test_every_type_has_its_class_and_what_that_requires(type_: EventType) -> None:
    said = told(type_)

    assert said["type_uid"] == CLASSES[type_]
    assert (said["class_uid"], said["activity_id"]) == divmod(said["type_uid"], 100)
    assert said["category_uid"] == said["class_uid"] // 1000
    assert said["activity_id"] in ACTIVITIES[said["class_uid"]]
    assert said.keys() >= BASE | REQUIRED[said["class_uid"]]
    assert said["severity_id"] in range(1, 7)


@pytest.mark.parametrize("decision", ["ACTIVE", "SCHEDULED"])
@pytest.mark.parametrize(
    "type_", [EventType.GRANT_REQUESTED, EventType.GRANT_APPROVED, EventType.COUNTER_OFFER_ACCEPTED]
)
def test_what_gives_access_at_once_assigns_privileges(type_: EventType, decision: str) -> None:
    said = told(type_, decision=decision)

    assert said["type_uid"] == 300501
    assert (said["user"]["name"], said["user"]["type_id"]) == ("service:bot", 4)
    assert said["privileges"] == ["read", "write"]
    assert [resource["name"] for resource in said["resources"]] == ["database/orders", "http/payments"]


def test_the_event_says_when_where_and_by_whom() -> None:
    said = told(at=NOON + timedelta(milliseconds=1) - TICK)

    assert said["time"] == 1772452800000  # Milliseconds, cut and never rounded.
    assert said["metadata"] | {"product": None} == {
        "version": "1.8.0",
        "product": None,
        "uid": "evt_9_0001020304050607",
        "original_event_uid": "auditEvents/9",
        "sequence": 9,
        "event_code": "GRANT_REQUESTED",
        "log_name": "auditLog",
        "original_time": "2026-03-02T12:00:00.000999Z",
        "correlation_uid": "0af7651916cd43dd8448eb211c80319c",
    }
    assert said["metadata"]["product"].keys() == {"name", "vendor_name", "version"}
    user = {"name": "user:alice@example.com", "uid": "user:alice@example.com", "type_id": 1, "type": "User"}
    assert said["actor"] == {"user": user | {"groups": [{"name": "engineering"}]}}
    assert said["src_endpoint"] == {"ip": "192.0.2.7"}
    assert said["http_request"] == {"user_agent": "jit/1"}


def test_what_has_no_attribute_is_not_lost() -> None:
    assert told()["unmapped"] == {
        "subject": "service:bot",
        "resources": ["database/orders", "http/payments"],
        "actions": ["read", "write"],
        "decision": "PENDING",
        "grant": "grants/g1",
        "policy": "policies/p1",
        "policyRevision": "7",
        "method": "/jitaccess.v1.GrantService/RequestGrant",
        "requestId": "3f0e8c4e-3a52-4a7e-9f0d-0d3f4a7a5b61",
        "revision": "12",
        "context": {"ticket": 7.0},
        "hash": bytes(range(32)).hex(),
    }


def test_how_a_reviewer_had_logged_in_is_not_lost() -> None:
    said = told(EventType.GRANT_APPROVED, acr="phr", amr=("hwk", "mfa"), logged_in_at=NOON)["unmapped"]

    assert (said["acr"], said["amr"], said["authTime"]) == ("phr", ["hwk", "mfa"], "2026-03-02T12:00:00Z")


@pytest.mark.parametrize(("decision", "action", "disposition"), [("ALLOWED", 1, 1), ("DENIED", 2, 2)])
def test_a_check_has_succeeded_whatever_it_says(decision: str, action: int, disposition: int) -> None:
    said = told(EventType.ACCESS_CHECKED, decision=decision, reason="NO_GRANT")

    assert (said["status_id"], said["action_id"], said["disposition_id"]) == (1, action, disposition)
    assert said["metadata"]["profiles"] == ["security_control"]
    assert said["status_code"] == "NO_GRANT"


def test_a_refused_call_has_failed() -> None:
    said = told(EventType.CALL_REFUSED, principal="", decision="REFUSED", reason="TOKEN_MISSING", message="no token")

    assert (said["status_id"], said["status_code"], said["severity_id"]) == (2, "TOKEN_MISSING", 2)
    assert said["actor"]["user"]["type_id"] == 0
    assert said["api"] == {
        "operation": "RequestGrant",
        "service": {"name": "jitaccess.v1.GrantService"},
        "request": {"uid": "3f0e8c4e-3a52-4a7e-9f0d-0d3f4a7a5b61"},
        "response": {"error": "TOKEN_MISSING", "error_message": "no token"},
    }


@pytest.mark.parametrize(
    ("call", "activity"),
    [("EnsureGrant", 1), ("CheckAccess", 2), ("BatchCheckAccess", 2), ("RevokeGrant", 3), ("DeletePolicy", 4)],
)
def test_a_refused_call_is_what_it_would_have_been(call: str, activity: int) -> None:
    assert told(EventType.CALL_REFUSED, origin=Origin(method=f"/a.B/{call}"))["activity_id"] == activity


@pytest.mark.parametrize(
    ("type_", "changes", "kind", "name"),
    [
        (EventType.GRANT_DENIED, {}, "Grant", "grants/g1"),
        (EventType.EXTENSION_LAPSED, {}, "Grant", "grants/g1"),
        (EventType.POLICY_UPDATED, {}, "Policy", "policies/p1"),
        (EventType.SIGNAL_SET, {"signal": "signals/s"}, "Signal", "signals/s"),
        (EventType.DELEGATION_CREATED, {"delegation": "delegations/d"}, "Delegation", "delegations/d"),
        (EventType.LOCK_CREATED, {"lock": "locks/l"}, "Lock", "locks/l"),
        (EventType.POLICIES_PROPOSED, {"proposal": "policyProposals/x"}, "Policy Proposal", "policyProposals/x"),
        (EventType.PROPOSAL_LAPSED, {"proposal": "policyProposals/x"}, "Policy Proposal", "policyProposals/x"),
        (EventType.TOKEN_ISSUED, {"token_id": "t1"}, "Token", "t1"),
        (EventType.SIGNING_KEY_ADDED, {"message": "k1 signs from noon"}, "Signing Key", "k1"),
        (EventType.SIGNING_KEY_REMOVED, {"message": "k1: its last token is over"}, "Signing Key", "k1"),
    ],
)
def test_an_entity_is_what_the_event_is_about(type_: EventType, changes: dict[str, str], kind: str, name: str) -> None:
    entity = told(type_, **changes)["entity"]

    assert (entity["type"], entity["name"]) == (kind, name)
    assert entity.get("policy") == ({"name": name, "uid": name, "version": "7"} if kind == "Policy" else None)


def test_what_the_service_does_by_itself_has_a_source_too() -> None:
    plain = Event(type=EventType.GRANT_EXPIRED, at=NOON, principal=SERVICE)

    said = event_of(RecordedEvent(seq=1, hash=bytes(32), event=plain))

    assert said["src_endpoint"] == {"svc_name": "jit-service"}
    assert said["message"] == "GRANT_EXPIRED"


@pytest.mark.parametrize(
    ("type_", "severity"),
    [(EventType.BREAK_GLASS_USED, 3), (EventType.REVIEW_OVERDUE, 3), (EventType.CALL_REFUSED, 2)],
)
def test_what_somebody_should_look_at_is_more_than_informational(type_: EventType, severity: int) -> None:
    assert told(type_)["severity_id"] == severity
