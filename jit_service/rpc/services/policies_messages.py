"""The messages of PolicyService: policies, their differences, proposals, tests and simulations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import partial
from typing import Final

from google.protobuf.field_mask_pb2 import FieldMask

from jit_service.domain.caller import Caller, Origin
from jit_service.domain.checks.cases import Case, CaseAt, CaseResult, Expected, draft_of, normalize
from jit_service.domain.conditions import kept_claims
from jit_service.domain.conditions.signal import Signals, normalize_name
from jit_service.domain.errors import InvalidField
from jit_service.domain.grants.grant import Justification
from jit_service.domain.grants.request import Ask
from jit_service.domain.language.faults import Faults
from jit_service.domain.language.ip_address import canonical
from jit_service.domain.policies.diff import PolicyChange, PolicyDraft
from jit_service.domain.policies.policy import Policy, Step
from jit_service.domain.policies.proposal import Proposal
from jit_service.rpc.mapping import Decoder, Encoder, Rule
from jit_service.rpc.well_known_types import instant_of, json_object_of
from jit_service.use_cases.policies import ApplyResult
from jit_service.use_cases.simulation import Change, Draft, SimulationProgress, SimulationResult
from jitaccess.v1 import policy_pb2

_POSITIVE: Final = Rule(positive=True)
_POLICY_INPUT: Final = frozenset(
    field.name
    for field in policy_pb2.Policy.DESCRIPTOR.fields
    if field.name not in ("name", "etag", "revision", "create_time", "update_time", "delete_time")
)

policy_message = Encoder(
    policy_pb2.Policy,
    Policy,
    # Every policy but a deny policy has a request_ttl, so it is set also where it is the default.
    {"request_ttl": lambda policy: None if policy.deny else policy.request_ttl},
)
policy_of = Decoder(
    policy_pb2.Policy,
    Policy,
    {
        **dict.fromkeys(
            ("max_duration", "default_duration", "request_ttl", "activation_window", "idle_timeout"), _POSITIVE
        ),
        "steps": Rule(decoder=Decoder(policy_pb2.Step, Step, {"timeout": _POSITIVE})),
    },
)
_CHANGE: Final = Encoder(
    policy_pb2.PolicyChange,
    PolicyChange,
    {"policy": "name", "change_type": "type", "before": policy_message, "after": policy_message},
)
applied_message = Encoder(
    policy_pb2.ApplyPoliciesResponse,
    ApplyResult,
    {"changes": _CHANGE, "misfits": "misfits.told", "misfit_count": "misfits.count"},
)
_PROPOSAL: Final = Encoder(
    policy_pb2.PolicyProposal,
    Proposal,
    {
        "changes": _CHANGE,
        "decided_by": "verdict.by",
        "decide_time": "verdict.at",
        "decide_comment": "verdict.comment",
    },
    derived=("state",),
)
_RESULT: Final = Encoder(
    policy_pb2.PolicyTestResult,
    CaseResult,
    {"display_name": "title", "passed": lambda result: not result.differences},
    within=("judged",),
)
_SIMULATED_CHANGE: Final = Encoder(
    policy_pb2.SimulatedChange,
    Change,
    {
        "audit_event": lambda change: f"auditEvents/{change.seq}",
        "event_time": "at",
        "before": "before.answer",
        "after": "after.answer",
        "before_reason": "before.reason",
        "after_reason": "after.reason",
        "message": "after.message",
    },
)
simulated_message = Encoder(
    policy_pb2.SimulatePoliciesResponse,
    SimulationResult,
    {"changes": _SIMULATED_CHANGE, "truncate_time": "truncated_at"},
)
_EXPECTED: Final = Decoder(
    policy_pb2.PolicyTestCase,
    Expected,
    {
        "outcome": Rule(field="expect"),
        "reason": Rule(field="expect_reason"),
        "policy": Rule(field="expect_policy"),
        "field": Rule(field="expect_field"),
        "steps": Rule(field="expect_steps"),
        "check": Rule(field="expect_check"),
    },
)
_TEST_ASK: Final = Decoder(policy_pb2.PolicyTestCase, Ask, given=("justification",))


def proposed_of(messages: Iterable[policy_pb2.Policy]) -> list[PolicyDraft]:
    """Returns the policies of a set, each with the etag it was read at. Raises InvalidField with every fault."""
    faults = Faults()
    read = [
        (faults.keep(None, _decoded_at, f"policies[{index}]", message), message.etag)
        for index, message in enumerate(messages)
    ]
    faults.demand_none()
    return [PolicyDraft(policy=policy, etag=etag) for policy, etag in read if policy is not None]


def drafts_of(request: policy_pb2.TestPolicyRequest, tested: str, exact: tuple[str, ...]) -> list[PolicyDraft]:
    """Returns the drafts of a test, that of the tested policy among them. Raises InvalidField."""
    drafts = proposed_of(request.policies)
    if request.HasField("policy"):
        try:
            drafts.append(draft_of(policy_of(request.policy), tested, exact=exact))
        except InvalidField as fault:
            raise fault.within("policy") from None
    return drafts


def cases_of(messages: Iterable[policy_pb2.PolicyTestCase], exact: tuple[str, ...]) -> list[CaseAt]:
    """Returns the cases of a test, which are read once their instant is known."""
    return [partial(_case_at, f"cases[{index}]", message, exact) for index, message in enumerate(messages)]


def policy_changed(current: Policy, message: policy_pb2.Policy, mask: FieldMask) -> Policy:
    """Returns `current` with the mask's fields taken from the message (AIP-134). Raises InvalidField."""
    paths = list(mask.paths) or [field.name for field, _ in message.ListFields() if field.name in _POLICY_INPUT]
    if paths == ["*"]:
        paths = sorted(_POLICY_INPUT)
    for path in paths:
        if path.partition(".")[0] not in _POLICY_INPUT or not _is_path(path):
            allowed = ", ".join(sorted(_POLICY_INPUT))
            raise InvalidField("update_mask", f"{path!a} cannot be changed; * and {allowed} can")
    merged = policy_message(current)
    for path in paths:
        if "." not in path:
            merged.ClearField(path)  # type: ignore[arg-type]
    given = policy_pb2.Policy()
    given.CopyFrom(message)
    for path in paths:
        if "." in path:
            # A field within an unset message counts as given too: as empty.
            getattr(given, path.partition(".")[0]).SetInParent()
    FieldMask(paths=paths).MergeMessage(given, merged, True, True)
    return policy_of(merged)


def proposal_message(proposal: Proposal, at: datetime) -> policy_pb2.PolicyProposal:
    """Returns the proposal with the state it has at `at`."""
    return _PROPOSAL(proposal, state=proposal.state(at))


def case_of(message: policy_pb2.PolicyTestCase, now: datetime) -> Case:
    """Returns the made-up request, not yet checked. Its time is `now` if it gives none. Raises InvalidField."""
    signals = json_object_of(message.signals, "signals")
    for key in signals:
        normalize_name(f"signals/{key}", f"signals.{key}")
    if message.source_ip and not canonical(message.source_ip):
        raise InvalidField("source_ip", f"{message.source_ip[:80]!a} is not an address")
    by = Caller(
        principal=message.principal,
        groups=frozenset(message.groups),
        claims=kept_claims.told(json_object_of(message.claims, "claims")),
        origin=Origin(source_address=message.source_ip),
    )
    justification = Justification(text=message.justification, ticket=message.ticket)
    return Case(
        title=message.display_name,
        by=by,
        ask=_TEST_ASK(message, justification=justification),
        signals=Signals(live=signals),
        now=instant_of(message.time, "time") if message.HasField("time") else now,
        expected=_EXPECTED(message),
    )


def tested_message(results: Sequence[CaseResult]) -> policy_pb2.TestPolicyResponse:
    """Returns the results of the cases."""
    failed = sum(bool(result.differences) for result in results)
    return policy_pb2.TestPolicyResponse(
        results=map(_RESULT, results), passed_count=len(results) - failed, failed_count=failed
    )


def simulation_of(
    message: policy_pb2.SimulatePoliciesRequest | policy_pb2.StreamPolicySimulationRequest, exact: tuple[str, ...]
) -> Draft:
    """Returns the draft and its window, as far as that is given. Raises InvalidField."""
    return Draft(
        proposed=proposed_of(message.policies),
        prune=message.prune,
        start=instant_of(message.start_time, "start_time") if message.HasField("start_time") else None,
        end=instant_of(message.end_time, "end_time") if message.HasField("end_time") else None,
        max_changes=message.max_changes,
        exact=exact,
    )


def simulation_progress_message(told: SimulationProgress) -> policy_pb2.StreamPolicySimulationResponse:
    """Returns one message of a simulation: how far it is, and in the last one what would change."""
    return policy_pb2.StreamPolicySimulationResponse(
        judged_count=told.at.judged_count,
        event_count=told.at.event_count,
        result=simulated_message(told.result) if told.result is not None else None,
    )


def _decoded_at(path: str, message: policy_pb2.Policy) -> Policy:
    try:
        return policy_of(message)
    except InvalidField as fault:
        raise fault.within(path) from None


def _case_at(path: str, message: policy_pb2.PolicyTestCase, exact: tuple[str, ...], now: datetime) -> Case:
    try:
        return normalize(case_of(message, now), exact=exact)
    except InvalidField as fault:
        raise fault.within(path) from None


def _is_path(path: str) -> bool:
    return FieldMask(paths=[path]).IsValidForDescriptor(policy_pb2.Policy.DESCRIPTOR)
