"""What each method sends, and what it makes of the answer, with either client."""

from __future__ import annotations

import inspect
import uuid
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from google.api.httpbody_pb2 import HttpBody
from google.protobuf import json_format
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc.status_pb2 import Status

from jitaccess import (
    AsyncJitClient,
    AuditCheckpoint,
    CheckItem,
    Grant,
    GrantState,
    Internal,
    InvalidArgument,
    JitClient,
    NotFound,
    Policy,
    PrincipalSet,
    View,
)
from jitaccess.contract.convert import decode
from jitaccess.v1 import access_pb2, audit_pb2, delegation_pb2, grant_pb2, lock_pb2, policy_pb2, signal_pb2, token_pb2
from tests.client.conftest import Ask
from tests.client.service import METHODS, Service

REQUEST_ID = "3f0e8c4e-3a52-4a7e-9f0d-0d3f4a7a5b61"
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
AT_NOON = Timestamp(seconds=int(NOON.timestamp()))
FORM = "application/x-www-form-urlencoded"
ID = {"request_id": REQUEST_ID}
POLICY = Policy(name="policies/p", resources=("a/b",), eligible=PrincipalSet(groups=("g",)))
POLICY_MESSAGE = policy_pb2.Policy(name="policies/p", resources=["a/b"], eligible=policy_pb2.PrincipalSet(groups=["g"]))
TERMS: dict[str, Any] = {
    "duration": timedelta(minutes=30),
    "resources": "a/b",
    "actions": ["read"],
    "start_time": NOON,
}
TERMS_MESSAGE: dict[str, Any] = {
    "duration": Duration(seconds=1800),
    "resources": ["a/b"],
    "actions": ["read"],
    "start_time": Timestamp(seconds=int(NOON.timestamp())),
}

SENT: list[tuple[str, tuple[Any, ...], dict[str, Any], str, Message]] = [
    (
        "request",
        (["a/b", "a/c"], ["read"]),
        {
            "duration": timedelta(minutes=30),
            "policy": "p",
            "subject": "user:s",
            "start_time": NOON.astimezone(timezone(timedelta(hours=2))),
            "justification": "why",
            "ticket": "T-1",
            "labels": {"k": "v"},
            **ID,
        },
        "RequestGrant",
        grant_pb2.RequestGrantRequest(
            policy="policies/p",
            subject="user:s",
            resources=["a/b", "a/c"],
            actions=["read"],
            duration=Duration(seconds=1800),
            start_time=Timestamp(seconds=int(NOON.timestamp())),
            justification=grant_pb2.Justification(text="why", ticket="T-1"),
            labels={"k": "v"},
            request_id=REQUEST_ID,
        ),
    ),
    (
        "request",
        ("a/b", "read"),
        ID,
        "RequestGrant",
        grant_pb2.RequestGrantRequest(resources=["a/b"], actions=["read"], request_id=REQUEST_ID),
    ),
    (
        "request",
        ("a/b", "read"),
        {"context": {"build": 42, "deep": {"a": [True]}}, "validate_only": True, **ID},
        "RequestGrant",
        grant_pb2.RequestGrantRequest(
            resources=["a/b"],
            actions=["read"],
            context=json_format.ParseDict({"build": 42, "deep": {"a": [True]}}, Struct()),
            validate_only=True,
            request_id=REQUEST_ID,
        ),
    ),
    (
        "ensure",
        (["a/b"], ["read"]),
        {"duration": timedelta(minutes=30), "policy": "p", "context": {"build": 42}, **ID},
        "EnsureGrant",
        grant_pb2.EnsureGrantRequest(
            policy="policies/p",
            resources=["a/b"],
            actions=["read"],
            duration=Duration(seconds=1800),
            context=json_format.ParseDict({"build": 42}, Struct()),
            request_id=REQUEST_ID,
        ),
    ),
    (
        "plan_revocation",
        (),
        {"subject": "user:s", "policy": "p", "resource": "a", "labels": {"k": "v"}},
        "RevokeGrants",
        grant_pb2.RevokeGrantsRequest(subject="user:s", policy="policies/p", resource="a", labels={"k": "v"}),
    ),
    (
        "revoke_grants",
        ("plan",),
        {"comment": "leak", "subject": "user:s", **ID},
        "RevokeGrants",
        grant_pb2.RevokeGrantsRequest(subject="user:s", plan_id="plan", comment="leak", request_id=REQUEST_ID),
    ),
    (
        "set_signal",
        ("incident", "on"),
        {"expire_time": NOON, "etag": "e", **ID},
        "SetSignal",
        signal_pb2.SetSignalRequest(
            signal=signal_pb2.Signal(
                name="signals/incident",
                value=Value(string_value="on"),
                expire_time=Timestamp(seconds=int(NOON.timestamp())),
                etag="e",
            ),
            request_id=REQUEST_ID,
        ),
    ),
    ("get_signal", ("incident",), {}, "GetSignal", signal_pb2.GetSignalRequest(name="signals/incident")),
    ("list_signals", (), {"page_size": 7}, "ListSignals", signal_pb2.ListSignalsRequest(page_size=7)),
    (
        "delete_signal",
        ("signals/incident",),
        {"etag": "e", **ID},
        "DeleteSignal",
        signal_pb2.DeleteSignalRequest(name="signals/incident", etag="e", request_id=REQUEST_ID),
    ),
    ("get_grant", ("x1",), {}, "GetGrant", grant_pb2.GetGrantRequest(name="grants/x1")),
    ("get_grant", ("grants/x1",), {}, "GetGrant", grant_pb2.GetGrantRequest(name="grants/x1")),
    (
        "list_grants",
        (),
        {"view": View.REVIEWABLE, "filter": 'state = "ACTIVE"', "order_by": "create_time", "page_size": 7},
        "ListGrants",
        grant_pb2.ListGrantsRequest(
            view=grant_pb2.ListGrantsRequest.REVIEWABLE,
            filter='state = "ACTIVE"',
            order_by="create_time",
            page_size=7,
        ),
    ),
    (
        "approve",
        ("x1",),
        {"comment": "ok", "etag": "e", **ID},
        "ApproveGrant",
        grant_pb2.ApproveGrantRequest(name="grants/x1", comment="ok", etag="e", request_id=REQUEST_ID),
    ),
    (
        "approve",
        ("x1",),
        {"validate_only": True, **ID},
        "ApproveGrant",
        grant_pb2.ApproveGrantRequest(name="grants/x1", validate_only=True, request_id=REQUEST_ID),
    ),
    (
        "deny",
        ("x1",),
        {"validate_only": True, **ID},
        "DenyGrant",
        grant_pb2.DenyGrantRequest(name="grants/x1", validate_only=True, request_id=REQUEST_ID),
    ),
    (
        "counter",
        ("x1",),
        {"validate_only": True, **ID},
        "CounterGrant",
        grant_pb2.CounterGrantRequest(name="grants/x1", validate_only=True, request_id=REQUEST_ID),
    ),
    (
        "extend",
        ("x1", timedelta(hours=1)),
        {"validate_only": True, **ID},
        "ExtendGrant",
        grant_pb2.ExtendGrantRequest(
            name="grants/x1", duration=Duration(seconds=3600), validate_only=True, request_id=REQUEST_ID
        ),
    ),
    (
        "deny",
        ("x1",),
        {"comment": "no", "etag": "e", **ID},
        "DenyGrant",
        grant_pb2.DenyGrantRequest(name="grants/x1", comment="no", etag="e", request_id=REQUEST_ID),
    ),
    (
        "withdraw",
        ("x1",),
        ID,
        "WithdrawGrant",
        grant_pb2.WithdrawGrantRequest(name="grants/x1", request_id=REQUEST_ID),
    ),
    (
        "revoke",
        ("x1",),
        {"comment": "over", **ID},
        "RevokeGrant",
        grant_pb2.RevokeGrantRequest(name="grants/x1", comment="over", request_id=REQUEST_ID),
    ),
    ("release", ("x1",), ID, "ReleaseGrant", grant_pb2.ReleaseGrantRequest(name="grants/x1", request_id=REQUEST_ID)),
    (
        "check",
        ("user:s", "read", "a/b"),
        {"explain": True, "min_revision": 5},
        "CheckAccess",
        access_pb2.CheckAccessRequest(subject="user:s", action="read", resource="a/b", explain=True, min_revision=5),
    ),
    (
        "search",
        (),
        {"subject": "user:s", "action": "read", "page_size": 7, "read_time": NOON},
        "SearchAccess",
        access_pb2.SearchAccessRequest(
            subject="user:s", action="read", page_size=7, read_time=Timestamp(seconds=int(NOON.timestamp()))
        ),
    ),
    (
        "check",
        ("user:s", "read", "a/b"),
        {"read_time": NOON},
        "CheckAccess",
        access_pb2.CheckAccessRequest(
            subject="user:s", action="read", resource="a/b", read_time=Timestamp(seconds=int(NOON.timestamp()))
        ),
    ),
    ("who_am_i", (), {}, "WhoAmI", access_pb2.WhoAmIRequest()),
    (
        "create_policy",
        (POLICY,),
        {"policy_id": "p", **ID},
        "CreatePolicy",
        policy_pb2.CreatePolicyRequest(policy=POLICY_MESSAGE, policy_id="p", request_id=REQUEST_ID),
    ),
    (
        "create_policy",
        ({"name": "policies/p", "resources": ["a/b"], "eligible": {"groups": ["g"]}},),
        ID,
        "CreatePolicy",
        policy_pb2.CreatePolicyRequest(policy=POLICY_MESSAGE, request_id=REQUEST_ID),
    ),
    (
        "get_policy",
        ("p",),
        {"revision": 4},
        "GetPolicy",
        policy_pb2.GetPolicyRequest(name="policies/p", revision=4),
    ),
    (
        "list_policies",
        (),
        {"show_deleted": True, "page_size": 3},
        "ListPolicies",
        policy_pb2.ListPoliciesRequest(show_deleted=True, page_size=3),
    ),
    (
        "update_policy",
        (POLICY_MESSAGE,),
        {"update_mask": ["resources"], **ID},
        "UpdatePolicy",
        policy_pb2.UpdatePolicyRequest(
            policy=POLICY_MESSAGE, update_mask=FieldMask(paths=["resources"]), request_id=REQUEST_ID
        ),
    ),
    (
        "delete_policy",
        ("p",),
        {"etag": "e", **ID},
        "DeletePolicy",
        policy_pb2.DeletePolicyRequest(name="policies/p", etag="e", request_id=REQUEST_ID),
    ),
    (
        "apply_policies",
        ([POLICY],),
        {"prune": True, "validate_only": True, **ID},
        "ApplyPolicies",
        policy_pb2.ApplyPoliciesRequest(
            policies=[POLICY_MESSAGE], prune=True, validate_only=True, request_id=REQUEST_ID
        ),
    ),
    (
        "list_audit_events",
        (),
        {"filter": "seq > 1", "order_by": "seq", "page_size": 9},
        "ListAuditEvents",
        audit_pb2.ListAuditEventsRequest(filter="seq > 1", order_by="seq", page_size=9),
    ),
    ("verify_audit_log", (), {}, "VerifyAuditLog", audit_pb2.VerifyAuditLogRequest()),
    (
        "verify_audit_log",
        (),
        {"checkpoint": "a.b.c"},
        "VerifyAuditLog",
        audit_pb2.VerifyAuditLogRequest(checkpoint="a.b.c"),
    ),
    (
        "verify_audit_log",
        (),
        {"checkpoint": decode(AuditCheckpoint, audit_pb2.GetAuditCheckpointResponse(checkpoint="a.b.c"))},
        "VerifyAuditLog",
        audit_pb2.VerifyAuditLogRequest(checkpoint="a.b.c"),
    ),
    (
        "stream_audit_verification",
        (),
        {"checkpoint": "a.b.c", "only_new": True},
        "StreamAuditVerification",
        audit_pb2.StreamAuditVerificationRequest(checkpoint="a.b.c", only_new=True),
    ),
    ("get_audit_checkpoint", (), {}, "GetAuditCheckpoint", audit_pb2.GetAuditCheckpointRequest()),
    (
        "tail_audit_events",
        (),
        {"filter": "seq > 1", "start_seq": 3, "heartbeats": True},
        "TailAuditEvents",
        audit_pb2.TailAuditEventsRequest(filter="seq > 1", start_seq=3, batch_size=1000),
    ),
    (
        "export_audit_events",
        (),
        {"format": "ocsf", "filter": "seq > 1", "start_seq": 3, "end_seq": 9},
        "ExportAuditEvents",
        audit_pb2.ExportAuditEventsRequest(format="ocsf", filter="seq > 1", start_seq=3, end_seq=9),
    ),
    (
        "request",
        ("a/b", "read"),
        {"max_uses": 3, "break_glass": True, "parent": "x0", **ID},
        "RequestGrant",
        grant_pb2.RequestGrantRequest(
            resources=["a/b"], actions=["read"], max_uses=3, break_glass=True, parent="grants/x0", request_id=REQUEST_ID
        ),
    ),
    (
        "ensure",
        ("a/b", "read"),
        {"max_uses": 3, "break_glass": True, "parent": "grants/x0", **ID},
        "EnsureGrant",
        grant_pb2.EnsureGrantRequest(
            resources=["a/b"], actions=["read"], max_uses=3, break_glass=True, parent="grants/x0", request_id=REQUEST_ID
        ),
    ),
    (
        "approve",
        ("x1",),
        {**TERMS, **ID},
        "ApproveGrant",
        grant_pb2.ApproveGrantRequest(name="grants/x1", request_id=REQUEST_ID, **TERMS_MESSAGE),
    ),
    (
        "counter",
        ("x1",),
        {"comment": "less", "etag": "e", **TERMS, **ID},
        "CounterGrant",
        grant_pb2.CounterGrantRequest(
            name="grants/x1", comment="less", etag="e", request_id=REQUEST_ID, **TERMS_MESSAGE
        ),
    ),
    (
        "accept_counter_offer",
        ("x1",),
        {"comment": "ok", "etag": "e", **ID},
        "AcceptCounterOffer",
        grant_pb2.AcceptCounterOfferRequest(name="grants/x1", comment="ok", etag="e", request_id=REQUEST_ID),
    ),
    (
        "decline_counter_offer",
        ("x1",),
        {"comment": "no", "etag": "e", **ID},
        "DeclineCounterOffer",
        grant_pb2.DeclineCounterOfferRequest(name="grants/x1", comment="no", etag="e", request_id=REQUEST_ID),
    ),
    (
        "extend",
        ("x1", timedelta(minutes=30)),
        {"justification": "why", "ticket": "T-1", "etag": "e", **ID},
        "ExtendGrant",
        grant_pb2.ExtendGrantRequest(
            name="grants/x1",
            duration=Duration(seconds=1800),
            justification=grant_pb2.Justification(text="why", ticket="T-1"),
            etag="e",
            request_id=REQUEST_ID,
        ),
    ),
    (
        "complete_review",
        ("x1",),
        {"comment": "fine", "etag": "e", **ID},
        "CompleteReview",
        grant_pb2.CompleteReviewRequest(name="grants/x1", comment="fine", etag="e", request_id=REQUEST_ID),
    ),
    (
        "watch_grants",
        (),
        {"start_revision": 7, "view": "VISIBLE", "grant": "x1", "heartbeats": True},
        "WatchGrants",
        grant_pb2.WatchGrantsRequest(start_revision=7, view=grant_pb2.ListGrantsRequest.VISIBLE, grant="grants/x1"),
    ),
    (
        "apply_policies",
        ([POLICY],),
        {"comment": "why", **ID},
        "ApplyPolicies",
        policy_pb2.ApplyPoliciesRequest(policies=[POLICY_MESSAGE], comment="why", request_id=REQUEST_ID),
    ),
    (
        "test_policy",
        ("p", [{"principal": "user:a", "expect": "ACTIVE"}]),
        {"policy": POLICY},
        "TestPolicy",
        policy_pb2.TestPolicyRequest(
            name="policies/p",
            policy=POLICY_MESSAGE,
            cases=[policy_pb2.PolicyTestCase(principal="user:a", expect=policy_pb2.PolicyTestCase.ACTIVE)],
        ),
    ),
    (
        "simulate_policies",
        ([POLICY],),
        {"prune": True, "start_time": NOON, "end_time": NOON + timedelta(hours=1), "max_changes": 5},
        "SimulatePolicies",
        policy_pb2.SimulatePoliciesRequest(
            policies=[POLICY_MESSAGE],
            prune=True,
            start_time=Timestamp(seconds=int(NOON.timestamp())),
            end_time=Timestamp(seconds=int(NOON.timestamp()) + 3600),
            max_changes=5,
        ),
    ),
    (
        "stream_policy_simulation",
        ([POLICY],),
        {"prune": True, "start_time": NOON, "max_changes": 5},
        "StreamPolicySimulation",
        policy_pb2.StreamPolicySimulationRequest(
            policies=[POLICY_MESSAGE],
            prune=True,
            start_time=Timestamp(seconds=int(NOON.timestamp())),
            max_changes=5,
        ),
    ),
    (
        "get_policy_proposal",
        ("q",),
        {},
        "GetPolicyProposal",
        policy_pb2.GetPolicyProposalRequest(name="policyProposals/q"),
    ),
    (
        "list_policy_proposals",
        (),
        {"page_size": 2},
        "ListPolicyProposals",
        policy_pb2.ListPolicyProposalsRequest(page_size=2),
    ),
    (
        "approve_policy_proposal",
        ("q",),
        {"comment": "ok", "etag": "e", **ID},
        "ApprovePolicyProposal",
        policy_pb2.ApprovePolicyProposalRequest(
            name="policyProposals/q", comment="ok", etag="e", request_id=REQUEST_ID
        ),
    ),
    (
        "reject_policy_proposal",
        ("policyProposals/q",),
        {"comment": "no", "etag": "e", **ID},
        "RejectPolicyProposal",
        policy_pb2.RejectPolicyProposalRequest(name="policyProposals/q", comment="no", etag="e", request_id=REQUEST_ID),
    ),
    (
        "create_delegation",
        ("user:b",),
        {"policies": ["p"], "start_time": NOON, "ttl": timedelta(hours=1), "comment": "away", **ID},
        "CreateDelegation",
        delegation_pb2.CreateDelegationRequest(
            delegation=delegation_pb2.Delegation(
                delegate="user:b",
                policies=["policies/p"],
                start_time=Timestamp(seconds=int(NOON.timestamp())),
                expire_time=Timestamp(seconds=int(NOON.timestamp()) + 3600),
                comment="away",
            ),
            request_id=REQUEST_ID,
        ),
    ),
    ("get_delegation", ("d",), {}, "GetDelegation", delegation_pb2.GetDelegationRequest(name="delegations/d")),
    ("list_delegations", (), {"page_size": 2}, "ListDelegations", delegation_pb2.ListDelegationsRequest(page_size=2)),
    (
        "delete_delegation",
        ("d",),
        {"etag": "e", **ID},
        "DeleteDelegation",
        delegation_pb2.DeleteDelegationRequest(name="delegations/d", etag="e", request_id=REQUEST_ID),
    ),
    (
        "create_lock",
        ("user:b",),
        {"comment": "left", "expire_time": NOON, "end_grants": True, **ID},
        "CreateLock",
        lock_pb2.CreateLockRequest(
            lock=lock_pb2.Lock(
                principal="user:b",
                comment="left",
                expire_time=Timestamp(seconds=int(NOON.timestamp())),
                end_grants=True,
            ),
            request_id=REQUEST_ID,
        ),
    ),
    ("get_lock", ("l",), {}, "GetLock", lock_pb2.GetLockRequest(name="locks/l")),
    (
        "list_locks",
        (),
        {"show_deleted": True, "page_size": 2},
        "ListLocks",
        lock_pb2.ListLocksRequest(show_deleted=True, page_size=2),
    ),
    (
        "delete_lock",
        ("l",),
        {"etag": "e", **ID},
        "DeleteLock",
        lock_pb2.DeleteLockRequest(name="locks/l", etag="e", request_id=REQUEST_ID),
    ),
    (
        "issue_token",
        ("x1",),
        {"audience": "https://a.example.com", "ttl": timedelta(minutes=5), **ID},
        "IssueToken",
        token_pb2.IssueTokenRequest(
            name="grants/x1",
            audience=["https://a.example.com"],
            ttl=Duration(seconds=300),
            request_id=REQUEST_ID,
        ),
    ),
    ("get_key_set", (), {}, "GetKeySet", token_pb2.GetKeySetRequest()),
    (
        "get_authorization_server_metadata",
        (),
        {},
        "GetAuthorizationServerMetadata",
        token_pb2.GetAuthorizationServerMetadataRequest(),
    ),
    (
        "get_protected_resource_metadata",
        (),
        {},
        "GetProtectedResourceMetadata",
        token_pb2.GetProtectedResourceMetadataRequest(),
    ),
    (
        "introspect_token",
        ("a.b&c",),
        {},
        "IntrospectToken",
        token_pb2.IntrospectTokenRequest(body=HttpBody(content_type=FORM, data=b"token=a.b%26c")),
    ),
    (
        "revoke_token",
        ("a.b.c",),
        {},
        "RevokeToken",
        token_pb2.RevokeTokenRequest(body=HttpBody(content_type=FORM, data=b"token=a.b.c")),
    ),
]
WRITES: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("request", ("a/b", "read"), {}),
    ("approve", ("x1",), {}),
    ("deny", ("x1",), {}),
    ("withdraw", ("x1",), {}),
    ("revoke", ("x1",), {"comment": "over"}),
    ("release", ("x1",), {}),
    ("create_policy", (POLICY,), {}),
    ("update_policy", (POLICY,), {}),
    ("delete_policy", ("p",), {}),
    ("apply_policies", ([],), {}),
    ("counter", ("x1",), {}),
    ("accept_counter_offer", ("x1",), {}),
    ("decline_counter_offer", ("x1",), {}),
    ("extend", ("x1", timedelta(hours=1)), {}),
    ("complete_review", ("x1",), {"comment": "fine"}),
    ("approve_policy_proposal", ("q",), {}),
    ("reject_policy_proposal", ("q",), {}),
    ("create_delegation", ("user:b",), {"ttl": timedelta(hours=1)}),
    ("delete_delegation", ("d",), {}),
    ("create_lock", ("user:b",), {"comment": "left"}),
    ("delete_lock", ("l",), {}),
    ("issue_token", ("x1",), {}),
]


@pytest.mark.parametrize(("method", "args", "kwargs", "rpc", "message"), SENT)
def test_a_method_sends_what_its_arguments_say(
    ask: Ask, service: Service, method: str, args: Any, kwargs: Any, rpc: str, message: Message
) -> None:
    ask(method, *args, **kwargs)

    assert service.sent(rpc) == [message]


def test_every_rpc_of_the_contract_has_a_method_in_both_clients() -> None:
    covered = {rpc for _, _, _, rpc, _ in SENT} | {"BatchCheckAccess"}

    assert covered == set(METHODS)
    for method, *_ in SENT:
        assert callable(getattr(JitClient, method))
        assert callable(getattr(AsyncJitClient, method))


@pytest.mark.parametrize("client", [JitClient, AsyncJitClient])
def test_methods_tell_their_arguments(client: Any) -> None:
    names = list(inspect.signature(client.check).parameters)

    asked = [
        "subject",
        "action",
        "resource",
        "explain",
        "min_revision",
        "context",
        "consistency",
        "source_ip",
        "read_time",
    ]
    assert names == ["self", *asked]
    assert client.check.__doc__


@pytest.mark.parametrize("client", [JitClient, AsyncJitClient])
@pytest.mark.parametrize("method", ["request", "ensure"])
def test_the_options_of_a_request_are_spelled_out_with_their_defaults(client: Any, method: str) -> None:
    parameters = inspect.signature(getattr(client, method)).parameters

    options = {name: one.default for name, one in parameters.items() if one.kind is inspect.Parameter.KEYWORD_ONLY}
    options.pop("validate_only", None)
    assert options == {
        "duration": None, "policy": "", "subject": "", "start_time": None, "justification": "", "ticket": "",
        "labels": None, "context": None, "max_uses": 0, "break_glass": False, "parent": "", "request_id": None,
    }  # fmt: skip
    assert parameters["parent"].annotation == "Grant | str"


@pytest.mark.parametrize(("method", "option"), [("request", "durations"), ("ensure", "validate_only")])
def test_an_option_that_is_none_is_refused_by_name(ask: Ask, method: str, option: str) -> None:
    with pytest.raises(TypeError, match=rf"{method}\(\) got an unexpected keyword argument '{option}'"):
        ask(method, "database/a", "read", **{option: True})


@pytest.mark.parametrize(("method", "args", "kwargs"), WRITES)
def test_each_write_bears_a_request_id_of_its_own(
    ask: Ask, service: Service, method: str, args: Any, kwargs: Any
) -> None:
    ask(method, *args, **kwargs)
    ask(method, *args, **kwargs)

    first, second = (uuid.UUID(call.message.request_id) for call in service.received)
    assert (first.version, second.version) == (4, 4)
    assert first != second


@pytest.mark.parametrize(
    "method",
    [
        "approve", "deny", "withdraw", "revoke", "release", "counter", "accept_counter_offer", "decline_counter_offer",
        "complete_review",
    ],
)  # fmt: skip
def test_a_grant_that_was_read_brings_its_etag_along(ask: Ask, service: Service, method: str) -> None:
    service.will_answer("GetGrant", grant_pb2.Grant(name="grants/x1", etag="as-read"))
    grant = ask("get_grant", "x1")

    ask(method, grant, comment="why")

    assert (service.received[-1].message.name, service.received[-1].message.etag) == ("grants/x1", "as-read")


def test_an_extension_brings_the_etag_along_too(ask: Ask, service: Service) -> None:
    service.will_answer("GetGrant", grant_pb2.Grant(name="grants/x1", etag="as-read"))
    grant = ask("get_grant", "x1")

    ask("extend", grant, timedelta(hours=1))

    assert service.received[-1].message.etag == "as-read"


def test_an_answer_is_read_into_plain_values(ask: Ask, service: Service) -> None:
    service.will_answer("GetGrant", _grant_message())

    grant = ask("get_grant", "x1")

    assert isinstance(grant, Grant)
    assert grant.state is GrantState.ACTIVE
    assert grant.duration == timedelta(hours=1)
    assert grant.expire_time == NOON + timedelta(hours=1)
    assert grant.end_time is None
    assert grant.steps[0].approvers == PrincipalSet(groups=("owners",))
    assert grant.labels == {"k": "v"}
    assert grant.approvals_remaining == 2
    assert grant.raw == _grant_message()


@pytest.mark.parametrize(
    ("method", "rpc", "items"),
    [
        ("list_grants", "ListGrants", "grants"),
        ("list_policies", "ListPolicies", "policies"),
        ("list_audit_events", "ListAuditEvents", "audit_events"),
        ("list_delegations", "ListDelegations", "delegations"),
        ("list_policy_proposals", "ListPolicyProposals", "policy_proposals"),
    ],
)
def test_a_list_follows_every_page(ask: Ask, service: Service, method: str, rpc: str, items: str) -> None:
    def page(names: list[str], token: str) -> Message:
        answer = METHODS[rpc].output_type._concrete_class(next_page_token=token)
        for name in names:
            getattr(answer, items).add(name=name)
        return answer

    service.will_answer(rpc, page(["a", "b"], "t1"), page([], "t2"), page(["c"], ""))

    found = ask(method, page_size=2)

    assert [item.name for item in found] == ["a", "b", "c"]
    assert [(sent.page_token, sent.page_size) for sent in service.sent(rpc)] == [("", 2), ("t1", 2), ("t2", 2)]


def test_a_page_token_that_repeats_ends_the_list_with_an_error(ask: Ask, service: Service) -> None:
    service.will_answer("ListGrants", grant_pb2.ListGrantsResponse(next_page_token="again"))

    with pytest.raises(Internal, match="same page token"):
        ask("list_grants")


def test_a_page_is_fetched_when_it_is_reached(service: Service) -> None:
    service.will_answer(
        "ListGrants", grant_pb2.ListGrantsResponse(grants=[grant_pb2.Grant(name="a")], next_page_token="t1")
    )

    with JitClient(service.address, token="t") as client:
        first = next(client.list_grants())

    assert first.name == "a"
    assert len(service.received) == 1


def test_a_decision_is_as_true_as_it_allows(ask: Ask, service: Service) -> None:
    service.will_answer(
        "CheckAccess",
        access_pb2.CheckAccessResponse(allowed=True, reason=access_pb2.CheckAccessResponse.ALLOWED),
        access_pb2.CheckAccessResponse(allowed=False, reason=access_pb2.CheckAccessResponse.NO_GRANT),
    )

    yes = ask("check", "user:s", "read", "a/b")
    no = ask("check", "user:s", "read", "a/b")

    assert yes
    assert not no
    assert (yes.reason, no.reason) == ("ALLOWED", "NO_GRANT")


def test_a_batch_answers_in_order_and_a_bad_item_is_a_no(ask: Ask, service: Service) -> None:
    bad = access_pb2.CheckAccessResponse(allowed=True, error=Status(code=5, message="no such thing"))
    service.will_answer(
        "BatchCheckAccess",
        access_pb2.BatchCheckAccessResponse(results=[access_pb2.CheckAccessResponse(allowed=True), bad]),
    )

    yes, error = ask("check_many", [CheckItem("user:s", "read", "a/b"), CheckItem("user:s", "", "a/b", explain=True)])

    assert yes
    assert not error
    assert isinstance(error.error, NotFound)
    [sent] = service.sent("BatchCheckAccess")
    assert [(item.action, item.explain) for item in sent.items] == [("read", False), ("", True)]


@pytest.mark.parametrize("answers", [0, 1, 3])
def test_a_batch_with_another_number_of_answers_than_questions_is_no_answer(
    ask: Ask, service: Service, answers: int
) -> None:
    allowed = [access_pb2.CheckAccessResponse(allowed=True)] * answers
    service.will_answer("BatchCheckAccess", access_pb2.BatchCheckAccessResponse(results=allowed))

    with pytest.raises(Internal):
        ask("check_many", [CheckItem("user:s", "read", "a/b"), CheckItem("user:s", "read", "a/c")])


@pytest.mark.parametrize(
    ("method", "args", "kwargs"),
    [
        ("request", ("a/b", "read"), {"start_time": datetime(2026, 1, 1)}),  # noqa: DTZ001
        ("request", ("a/b", "read"), {"start_time": datetime.max.replace(tzinfo=timezone(-timedelta(hours=5)))}),
        ("request", ("a/\udcff", "read"), {}),
        ("request", ("a/b", "read"), {"justification": "\ud800"}),
        ("check", ("user:s", "read", "a/b"), {"min_revision": 2**63}),
        ("list_grants", (), {"view": "EVERYTHING"}),
        ("create_policy", ({"nane": "policies/p"},), {}),
        ("apply_policies", ([{"maxDuration": "an hour"}],), {}),
        ("request", ("a/b", "read"), {"max_uses": 2**31}),
        ("approve", ("x1",), {"start_time": datetime(2026, 1, 1)}),  # noqa: DTZ001
        ("test_policy", ("p", [{"principel": "user:a"}]), {}),
        ("watch_grants", (), {"view": "EVERYTHING"}),
        ("create_delegation", ("user:b",), {}),
        ("create_delegation", ("user:b",), {"ttl": timedelta(1), "expire_time": NOON}),
    ],
)
def test_what_no_message_can_hold_is_refused_before_it_is_sent(
    ask: Ask, service: Service, method: str, args: Any, kwargs: Any
) -> None:
    with pytest.raises(InvalidArgument):
        ask(method, *args, **kwargs)

    assert service.received == []


def test_an_instant_that_no_datetime_holds_is_an_error_and_never_a_yes(ask: Ask, service: Service) -> None:
    answer = access_pb2.CheckAccessResponse(allowed=True, expire_time=Timestamp(seconds=2**50))
    service.will_answer("CheckAccess", answer)

    with pytest.raises(Internal, match="cannot be read"):
        ask("check", "user:s", "read", "a/b")


def _grant_message() -> grant_pb2.Grant:
    noon = int(NOON.timestamp())
    owners = policy_pb2.PrincipalSet(groups=["owners"])
    return grant_pb2.Grant(
        name="grants/x1",
        state=grant_pb2.Grant.ACTIVE,
        duration=Duration(seconds=3600),
        expire_time=Timestamp(seconds=noon + 3600),
        steps=[grant_pb2.StepStatus(approvers=owners, approvals_needed=2, approvals_remaining=2)],
        labels={"k": "v"},
    )


def test_a_signal_reads_back_as_what_was_set(ask: Ask, service: Service) -> None:
    service.will_answer(
        "GetSignal", signal_pb2.Signal(name="signals/a", value=json_format.ParseDict({"n": 3}, Value()))
    )

    signal = ask("get_signal", "a")

    assert (signal.id, signal.value) == ("a", {"n": 3})


@pytest.mark.parametrize("given", [{}, {"ttl": timedelta(1), "expire_time": NOON}])
def test_a_signal_is_set_until_one_instant(ask: Ask, given: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        ask("set_signal", "a", 1, **given)


@pytest.mark.parametrize("context", [{"a": object()}, {"a": {1, 2}}])
def test_a_context_that_json_cannot_hold_is_refused(ask: Ask, context: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        ask("check", "user:a", "read", "a/b", context=context)
