"""The values say all that the messages say."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from enum import StrEnum
from typing import Any

import pytest
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet
from hypothesis import given
from hypothesis import strategies as st

import jitaccess
from jitaccess.contract import model
from jitaccess.contract.convert import decode, encode_policy
from jitaccess.v1 import access_pb2, audit_pb2, delegation_pb2, grant_pb2, policy_pb2, signal_pb2

PAIRS: list[tuple[type, type[Message]]] = [
    (model.Grant, grant_pb2.Grant),
    (model.Justification, grant_pb2.Justification),
    (model.Review, grant_pb2.Review),
    (model.StepStatus, grant_pb2.StepStatus),
    (model.StepPreview, grant_pb2.StepPreview),
    (model.Preview, grant_pb2.Preview),
    (model.RevocationPlan, grant_pb2.RevokeGrantsResponse),
    (model.Signal, signal_pb2.Signal),
    (model.Decision, access_pb2.CheckAccessResponse),
    (model.CheckTrace, access_pb2.CheckTrace),
    (model.PrincipalSet, policy_pb2.PrincipalSet),
    (model.JustificationRule, policy_pb2.JustificationRule),
    (model.Step, policy_pb2.Step),
    (model.Policy, policy_pb2.Policy),
    (model.PolicyChange, policy_pb2.PolicyChange),
    (model.AppliedPolicies, policy_pb2.ApplyPoliciesResponse),
    (model.AuditEvent, audit_pb2.AuditEvent),
    (model.AccessTerms, grant_pb2.AccessTerms),
    (model.CounterOffer, grant_pb2.CounterOffer),
    (model.GrantExtension, grant_pb2.GrantExtension),
    (model.UseReview, grant_pb2.UseReview),
    (model.GrantEvent, grant_pb2.WatchGrantsResponse),
    (model.ExtensionRule, policy_pb2.ExtensionRule),
    (model.BreakGlassRule, policy_pb2.BreakGlassRule),
    (model.CommentRule, policy_pb2.CommentRule),
    (model.PolicyProposal, policy_pb2.PolicyProposal),
    (model.PolicyTestResult, policy_pb2.PolicyTestResult),
    (model.PolicyTestReport, policy_pb2.TestPolicyResponse),
    (model.SimulatedChange, policy_pb2.SimulatedChange),
    (model.Simulation, policy_pb2.SimulatePoliciesResponse),
    (model.SimulationProgress, policy_pb2.StreamPolicySimulationResponse),
    (model.Delegation, delegation_pb2.Delegation),
    (model.AuditVerdict, audit_pb2.VerifyAuditLogResponse),
    (model.AuditVerification, audit_pb2.StreamAuditVerificationResponse),
    (model.AuditCheckpoint, audit_pb2.GetAuditCheckpointResponse),
    (model.TailedEvent, audit_pb2.TailAuditEventsResponse),
]
# Each record of a batch is a value of its own.
SPREAD = {model.TailedEvent: {"audit_events"}}
ENUMS: list[tuple[type[StrEnum], Any]] = [
    (model.GrantState, grant_pb2.Grant.State),
    (model.ReviewDecision, grant_pb2.Review.Decision),
    (model.CheckReason, access_pb2.CheckAccessResponse.Reason),
    (model.EventType, audit_pb2.AuditEvent.EventType),
    (model.ChangeType, policy_pb2.PolicyChange.ChangeType),
    (model.View, grant_pb2.ListGrantsRequest.View),
    (model.ExtensionState, grant_pb2.GrantExtension.State),
    (model.GrantEventType, grant_pb2.WatchGrantsResponse.EventType),
    (model.ProposalState, policy_pb2.PolicyProposal.State),
    (model.PolicyTestOutcome, policy_pb2.PolicyTestCase.Outcome),
    (model.SimulatedKind, policy_pb2.SimulatedChange.Kind),
    (model.CheckpointSignature, audit_pb2.VerifyAuditLogResponse.CheckpointSignature),
]

spans = st.none() | st.timedeltas(min_value=timedelta(), max_value=timedelta(days=400))
words = st.text(max_size=20)
several = st.lists(words, max_size=3).map(tuple)
sets = st.builds(model.PrincipalSet, principals=several, groups=several)
policies = st.builds(
    model.Policy,
    name=words,
    display_name=words,
    eligible=sets,
    resources=several,
    actions=several,
    min_duration=spans,
    max_duration=spans,
    default_duration=spans,
    request_ttl=spans,
    justification=st.builds(model.JustificationRule, required=st.booleans(), pattern=words),
    steps=st.lists(
        st.builds(
            model.Step,
            display_name=words,
            approvers=sets,
            approvals_needed=st.integers(0, 9),
            timeout=spans,
            escalate_to=st.none() | sets,
        ),
        max_size=3,
    ).map(tuple),
    max_uses=st.integers(0, 9),
    idle_timeout=spans,
    extension=st.none() | st.builds(model.ExtensionRule, max_extensions=st.integers(0, 9), max_total_duration=spans),
    break_glass=st.none() | st.builds(model.BreakGlassRule, eligible=sets, max_duration=spans, review_within=spans),
    review_comment=st.builds(model.CommentRule, required_to_deny=st.booleans(), pattern=words),
    allow_self_approval=st.booleans(),
    priority=st.integers(-(2**31), 2**31 - 1),
    disabled=st.booleans(),
    deny=st.booleans(),
    labels=st.dictionaries(words, words, max_size=3),
    etag=words,
    raw=st.none(),
)


@pytest.mark.parametrize(("value", "message"), PAIRS)
def test_a_value_has_every_field_of_its_message(value: Any, message: Any) -> None:
    names = {field.name for field in dataclasses.fields(value)} - {"raw"} | SPREAD.get(value, set())

    assert names == set(message.DESCRIPTOR.fields_by_name)
    assert decode(value, message()) is not None


@pytest.mark.parametrize(("value", "enum"), ENUMS)
def test_an_enum_has_every_value_of_the_contract(value: Any, enum: Any) -> None:
    assert {member.value for member in value} - {"UNKNOWN"} == {
        name for name in enum.keys() if not name.endswith("_UNSPECIFIED")  # noqa: SIM118  # Not a dict.
    }  # fmt: skip


def test_a_state_that_is_newer_than_this_client_is_unknown() -> None:
    assert decode(model.Grant, grant_pb2.Grant(state=99)).state is model.GrantState.UNKNOWN  # type: ignore[arg-type]


@given(policies)
def test_a_policy_survives_its_message(policy: model.Policy) -> None:
    assert decode(model.Policy, encode_policy(policy)) == policy


def test_what_is_not_there_is_none() -> None:
    grant, policy = decode(model.Grant, grant_pb2.Grant()), decode(model.Policy, policy_pb2.Policy())

    assert (grant.requested, grant.counter_offer, grant.extension, grant.use_review) == (None, None, None, None)
    assert (policy.extension, policy.break_glass) == (None, None)
    assert decode(model.GrantEvent, grant_pb2.WatchGrantsResponse()).grant is None


def test_an_empty_rule_is_a_rule() -> None:
    policy = model.Policy(extension=model.ExtensionRule(), steps=(model.Step(escalate_to=model.PrincipalSet()),))

    message = encode_policy(policy)

    assert message.HasField("extension")
    assert message.steps[0].HasField("escalate_to")
    assert not message.HasField("break_glass")


def test_a_default_in_a_policy_is_not_sent() -> None:
    assert encode_policy(model.Policy(name="policies/p")) == policy_pb2.Policy(name="policies/p")


def test_a_change_of_a_policy_that_was_read_keeps_what_only_the_service_knows() -> None:
    newer = b"\xca\x3e\x05newer"  # Field 1001, which this client has never heard of.
    read = policy_pb2.Policy.FromString(policy_pb2.Policy(name="policies/p", priority=1).SerializeToString() + newer)
    policy = decode(model.Policy, read)

    message = encode_policy(dataclasses.replace(policy, priority=2))

    assert (message.name, message.priority) == ("policies/p", 2)
    assert [(item.field_number, item.data) for item in UnknownFieldSet(message)] == [(1001, b"newer")]


def test_a_field_of_a_policy_that_was_read_can_be_emptied() -> None:
    read = policy_pb2.Policy(name="policies/p", priority=1, resources=["a/b"])
    policy = decode(model.Policy, read)

    message = encode_policy(dataclasses.replace(policy, priority=0, resources=()))

    assert message == policy_pb2.Policy(name="policies/p")


@pytest.mark.parametrize("name", jitaccess.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(jitaccess, name).__name__ == name


def test_another_name_is_not_there() -> None:
    with pytest.raises(AttributeError, match="Nothing"):
        _ = jitaccess.Nothing
