"""Messages and facts, mapped by the descriptor."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from jit_service.domain.errors import InvalidField
from jit_service.rpc.mapping import Decoder, Encoder, Rule
from jitaccess.v1 import audit_pb2, delegation_pb2, grant_pb2, policy_pb2, signal_pb2

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


@dataclass(frozen=True, kw_only=True)
class Principals:
    principals: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Emergency:
    eligible: Principals
    max_duration: timedelta
    review_within: timedelta
    max_unreviewed: int = 0


@dataclass(frozen=True, kw_only=True)
class Step:
    approvers: Principals
    approvals_needed: int = 1
    display_name: str = ""
    condition: str = ""
    denials_needed: int = 1
    timeout: timedelta = timedelta()
    escalate_to: Principals | None = None


class Outcome(StrEnum):
    ACTIVE = "ACTIVE"
    SCHEDULED = "SCHEDULED"
    PENDING = "PENDING"
    REFUSED = "REFUSED"


@dataclass(frozen=True, kw_only=True)
class Expected:
    outcome: Outcome | None = None
    claims: dict[str, Any] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    by: str
    at: datetime


@dataclass(frozen=True, kw_only=True)
class Note:
    name: str
    revision: int
    deleted_at: datetime | None = None
    verdict: Verdict | None = None


@dataclass(frozen=True, kw_only=True)
class Ending:
    expires_at: datetime


@dataclass(frozen=True, kw_only=True)
class Stored:
    name: str
    revision: int = 0
    break_glass: Emergency | None = None


encode_step = Encoder(policy_pb2.Step, Step)
decode_step = Decoder(policy_pb2.Step, Step, {"timeout": Rule(positive=True)})
encode_emergency = Encoder(policy_pb2.BreakGlassRule, Emergency)
decode_emergency = Decoder(policy_pb2.BreakGlassRule, Emergency)
STEP = Step(
    approvers=Principals(groups=("leads",)),
    approvals_needed=2,
    display_name="Leads",
    timeout=HOUR,
    escalate_to=Principals(principals=("user:dora",)),
)


def test_facts_come_back_from_their_message() -> None:
    assert decode_step(encode_step(STEP)) == STEP


def test_a_default_of_a_field_with_presence_is_not_set() -> None:
    message = encode_step(Step(approvers=Principals(), timeout=timedelta()))

    assert not message.HasField("timeout")
    assert not message.HasField("escalate_to")


def test_a_value_without_a_default_is_set_even_where_it_is_empty() -> None:
    rule = Emergency(eligible=Principals(), max_duration=timedelta(), review_within=HOUR)

    message = encode_emergency(rule)

    assert message.HasField("eligible")
    assert message.HasField("max_duration")


def test_a_field_that_is_not_set_is_the_attributes_default() -> None:
    assert decode_step(policy_pb2.Step()) == Step(approvers=Principals(), approvals_needed=1, denials_needed=1)


def test_a_field_that_is_not_set_and_has_no_default_is_the_zero_of_its_type() -> None:
    zero = Emergency(eligible=Principals(), max_duration=timedelta(), review_within=timedelta())

    assert decode_emergency(policy_pb2.BreakGlassRule()) == zero


def test_enums_are_read_and_written_by_name() -> None:
    decode = Decoder(policy_pb2.PolicyTestCase, Expected, {"outcome": Rule(field="expect")})
    encode = Encoder(
        policy_pb2.PolicyTestResult, Expected, derived=set(names(policy_pb2.PolicyTestResult)) - {"outcome"}
    )

    assert decode(policy_pb2.PolicyTestCase(expect="SCHEDULED")).outcome is Outcome.SCHEDULED
    assert decode(policy_pb2.PolicyTestCase()).outcome is None
    assert encode(Expected(outcome=Outcome.REFUSED)).outcome == policy_pb2.PolicyTestCase.REFUSED
    assert encode(Expected()).outcome == policy_pb2.PolicyTestCase.OUTCOME_UNSPECIFIED


def test_json_and_maps_are_mappings() -> None:
    case = policy_pb2.PolicyTestCase()
    case.claims.update({"level": 3, "teams": ["a", None]})
    request = grant_pb2.RequestGrantRequest(labels={"ticket": "T-1"})

    assert Decoder(policy_pb2.PolicyTestCase, Expected)(case).claims == {"level": 3, "teams": ["a", None]}
    assert Decoder(grant_pb2.RequestGrantRequest, Expected)(request).labels == {"ticket": "T-1"}


def test_instants_end_in_time_in_messages_and_in_at_in_facts() -> None:
    derived = set(names(delegation_pb2.Delegation)) - {"name", "revision", "etag", "delete_time"}
    message = Encoder(delegation_pb2.Delegation, Note, derived=derived)(
        Note(name="delegations/1", revision=1, deleted_at=NOON)
    )

    assert message.delete_time.ToDatetime(tzinfo=UTC) == NOON
    assert message.etag


def test_what_is_not_stored_yet_has_no_etag() -> None:
    encode = Encoder(signal_pb2.Signal, Note, derived=set(names(signal_pb2.Signal)) - {"name", "revision", "etag"})

    assert encode(Note(name="signals/a", revision=0)).etag == ""


def test_a_path_ends_at_none() -> None:
    encode = Encoder(
        policy_pb2.PolicyProposal,
        Note,
        {"decided_by": "verdict.by", "decide_time": "verdict.at"},
        derived=set(names(policy_pb2.PolicyProposal)) - {"name", "revision", "etag", "decided_by", "decide_time"},
    )

    decided = encode(Note(name="policyProposals/1", revision=1, verdict=Verdict(by="user:ann", at=NOON)))

    assert decided.decided_by == "user:ann"
    assert decided.HasField("decide_time")
    assert not encode(Note(name="policyProposals/1", revision=1)).HasField("decide_time")


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        (Duration(seconds=0), "is 0s; it must be above 0s, or left out"),
        (Duration(seconds=-1), "is -1s; it must be above 0s, or left out"),
        (Duration(nanos=1), "is finer than a microsecond"),
        (Duration(seconds=1, nanos=-1000), "is not a duration that google.protobuf.Duration allows"),
        (Duration(seconds=315_576_000_001), "is not a duration that google.protobuf.Duration allows"),
    ],
)
def test_a_duration_that_is_not_sound_is_a_fault_of_its_field(given: Duration, fault: str) -> None:
    with pytest.raises(InvalidField) as refused:
        decode_step(policy_pb2.Step(timeout=given), "step.")

    assert (refused.value.field, refused.value.fault) == ("step.timeout", fault)


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        (Timestamp(seconds=253_402_300_800), "is not an instant that google.protobuf.Timestamp allows"),
        (Timestamp(nanos=10**9), "is not an instant that google.protobuf.Timestamp allows"),
        (Timestamp(nanos=1), "is finer than a microsecond"),
        (None, "is required: here"),
    ],
)
def test_an_instant_that_is_missing_or_not_sound_is_a_fault_of_its_field(given: Timestamp | None, fault: str) -> None:
    decode = Decoder(delegation_pb2.Delegation, Ending, {"expires_at": Rule(required="is required: here")})

    with pytest.raises(InvalidField) as refused:
        decode(delegation_pb2.Delegation(expire_time=given), "delegation.")

    assert (refused.value.field, refused.value.fault) == ("delegation.expire_time", fault)


def test_a_field_within_a_message_is_named_with_its_path() -> None:
    policy = policy_pb2.Policy(break_glass=policy_pb2.BreakGlassRule(max_duration=Duration(nanos=1)))

    with pytest.raises(InvalidField) as refused:
        Decoder(policy_pb2.Policy, Stored)(policy)

    assert refused.value.field == "break_glass.max_duration"


def test_what_only_the_service_writes_is_not_read() -> None:
    assert Decoder(policy_pb2.Policy, Stored)(policy_pb2.Policy(name="policies/a", revision=7)).revision == 0


def test_a_field_that_nothing_gives_is_found_at_import() -> None:
    with pytest.raises(TypeError, match=r"Step has no attribute for jitaccess.v1.AuditEvent.seq"):
        Encoder(audit_pb2.AuditEvent, Step, {"name": "display_name"})
    with pytest.raises(TypeError, match=r"jitaccess.v1.Signal has no field for Verdict"):
        Decoder(signal_pb2.Signal, Verdict)


@pytest.mark.parametrize("name", ["titel", "time_out"])
def test_a_rule_for_what_does_not_exist_is_found_at_import(name: str) -> None:
    with pytest.raises(TypeError, match=name):
        Encoder(policy_pb2.Step, Step, {name: "display_name"})
    with pytest.raises(TypeError, match=name):
        Encoder(policy_pb2.Step, Step, derived=(name,))
    with pytest.raises(TypeError, match=name):
        Decoder(policy_pb2.Step, Step, {name: Rule(positive=True)})


def names(message: type[Any]) -> list[str]:
    return [known.name for known in message.DESCRIPTOR.fields]
