"""Calls of PolicyService: policies, their tests and simulation, and proposals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, TypeVar

from google.protobuf import json_format
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from jitaccess._error import invalid_field
from jitaccess.contract.calls.call import Call, listing, one
from jitaccess.contract.calls.fields import fill, full_name, instant_message, new_request_id, texts
from jitaccess.contract.convert import encode_policy
from jitaccess.contract.model import (
    AppliedPolicies,
    Page,
    Policy,
    PolicyProposal,
    PolicyTestReport,
    Simulation,
    SimulationProgress,
)
from jitaccess.v1 import policy_pb2

M = TypeVar("M", bound=Message)
PolicyLike = Policy | policy_pb2.Policy | Mapping[str, object]
TestCaseLike = policy_pb2.PolicyTestCase | Mapping[str, object]


def create_policy(policy: PolicyLike, *, policy_id: str = "", request_id: str | None = None) -> Call[Policy]:
    """Creates a policy; its id is that of its name unless `policy_id` gives one.

    A policy is a Policy, a message, or a mapping in proto3 JSON names.
    """
    message = fill(
        policy_pb2.CreatePolicyRequest,
        policy=_policy_message(policy),
        policy_id=policy_id,
        request_id=new_request_id(request_id),
    )
    return _policy_call("CreatePolicy", message)


def get_policy(name: str, *, revision: int = 0) -> Call[Policy]:
    """Returns a policy, or with `revision` one of its earlier states."""
    message = fill(policy_pb2.GetPolicyRequest, name=full_name("policies", name), revision=revision)
    return _policy_call("GetPolicy", message)


def list_policies(*, show_deleted: bool = False, page_size: int = 0) -> Call[Page[Policy]]:
    """Lists the policies that the caller may read, by name."""
    message = fill(policy_pb2.ListPoliciesRequest, show_deleted=show_deleted, page_size=page_size)
    return listing("PolicyService/ListPolicies", message, policy_pb2.ListPoliciesResponse, Policy, "policies")


def update_policy(
    policy: PolicyLike, *, update_mask: Iterable[str] = (), request_id: str | None = None
) -> Call[Policy]:
    """Changes the fields of `update_mask`: by default those that are set, with `["*"]` all.

    An etag in the policy, as every policy that was read has, must still be the current one (else Aborted).
    """
    message = fill(
        policy_pb2.UpdatePolicyRequest,
        policy=_policy_message(policy),
        update_mask=FieldMask(paths=texts(update_mask)),
        request_id=new_request_id(request_id),
    )
    return _policy_call("UpdatePolicy", message)


def delete_policy(name: str, *, etag: str = "", request_id: str | None = None) -> Call[Policy]:
    """Deletes a policy. Nothing new is judged by it; live grants go on."""
    message = fill(
        policy_pb2.DeletePolicyRequest,
        name=full_name("policies", name),
        etag=etag,
        request_id=new_request_id(request_id),
    )
    return _policy_call("DeletePolicy", message)


def apply_policies(
    policies: Iterable[PolicyLike],
    *,
    prune: bool = False,
    validate_only: bool = False,
    end_misfits: bool = False,
    comment: str = "",
    request_id: str | None = None,
) -> Call[AppliedPolicies]:
    """Makes the stored policies equal to the given ones, all or nothing, and returns the difference.

    What is scheduled and would not be given any more ends, and with `end_misfits` what is live. With `prune` those that
    are not given are deleted; with `validate_only` nothing is written. Under dual control it makes a proposal, whose
    approver reads the comment.
    """
    message = fill(
        policy_pb2.ApplyPoliciesRequest,
        policies=_policy_messages(policies),
        prune=prune,
        validate_only=validate_only,
        end_misfits=end_misfits,
        comment=comment,
        request_id=new_request_id(request_id),
    )
    return one("PolicyService/ApplyPolicies", message, policy_pb2.ApplyPoliciesResponse, AppliedPolicies)


def test_policy(
    name: str,
    cases: Iterable[TestCaseLike],
    *,
    policy: PolicyLike | None = None,  # noqa: PT028  # It is no test.
    policies: Iterable[PolicyLike] = (),  # noqa: PT028
    prune: bool = False,  # noqa: PT028
) -> Call[PolicyTestReport]:
    """Judges made-up requests by all policies, and says which of the named one's cases come out.

    Drafts, `policy` of the named one and `policies` of a set, are taken instead of the stored ones of their names; with
    `prune` they are all there is. A case is a message, or a mapping in proto3 JSON names. Changes nothing.
    """
    message = fill(
        policy_pb2.TestPolicyRequest,
        name=full_name("policies", name),
        policy=None if policy is None else _policy_message(policy),
        policies=_policy_messages(policies),
        prune=prune,
        cases=[_case_message(case, f"cases[{index}]") for index, case in enumerate(cases)],
    )
    return one("PolicyService/TestPolicy", message, policy_pb2.TestPolicyResponse, PolicyTestReport)


def simulate_policies(
    policies: Iterable[PolicyLike],
    *,
    prune: bool = False,
    start_time: datetime | None = None,
    end_time: datetime | None = None,
    max_changes: int = 0,
) -> Call[Simulation]:
    """Judges the requests and checks recorded from `start_time` to `end_time` by a draft set; what would change.

    Without times it is the last 24 hours; `max_changes` 0 leaves it to the service. Changes nothing.
    """
    draft = _draft(policies, prune, start_time, end_time, max_changes)
    message = fill(policy_pb2.SimulatePoliciesRequest, **draft)
    return one("PolicyService/SimulatePolicies", message, policy_pb2.SimulatePoliciesResponse, Simulation)


def stream_policy_simulation(
    policies: Iterable[PolicyLike],
    *,
    prune: bool = False,
    start_time: datetime | None = None,
    end_time: datetime | None = None,
    max_changes: int = 0,
) -> Call[SimulationProgress]:
    """Yields how far a simulation is, at least each second; the last one has the `result`.

    As `simulate_policies`, and no timeout ends it. An iterator that breaks off raises, and has told no result.
    """
    draft = _draft(policies, prune, start_time, end_time, max_changes)
    message = fill(policy_pb2.StreamPolicySimulationRequest, **draft)
    answer = policy_pb2.StreamPolicySimulationResponse
    return one("PolicyService/StreamPolicySimulation", message, answer, SimulationProgress)


def get_policy_proposal(name: str) -> Call[PolicyProposal]:
    """Returns a set of policies that was proposed."""
    message = fill(policy_pb2.GetPolicyProposalRequest, name=full_name("policyProposals", name))
    return _proposal_call("GetPolicyProposal", message)


def list_policy_proposals(*, page_size: int = 0) -> Call[Page[PolicyProposal]]:
    """Lists the proposals, newest first."""
    return listing(
        "PolicyService/ListPolicyProposals",
        fill(policy_pb2.ListPolicyProposalsRequest, page_size=page_size),
        policy_pb2.ListPolicyProposalsResponse,
        PolicyProposal,
        "policy_proposals",
    )


def approve_policy_proposal(
    name: str, *, comment: str = "", etag: str = "", request_id: str | None = None
) -> Call[PolicyProposal]:
    """Executes what another admin proposed, unless what it changes has changed since."""
    message = _decision(policy_pb2.ApprovePolicyProposalRequest, name, comment, etag, request_id)
    return _proposal_call("ApprovePolicyProposal", message)


def reject_policy_proposal(
    name: str, *, comment: str = "", etag: str = "", request_id: str | None = None
) -> Call[PolicyProposal]:
    """Ends a proposal without effect, one's own too."""
    message = _decision(policy_pb2.RejectPolicyProposalRequest, name, comment, etag, request_id)
    return _proposal_call("RejectPolicyProposal", message)


def _decision(kind: type[M], name: str, comment: str, etag: str, request_id: str | None) -> M:
    """Returns the message that decides on a proposal."""
    name = full_name("policyProposals", name)
    return fill(kind, name=name, comment=comment, etag=etag, request_id=new_request_id(request_id))


def _policy_call(rpc: str, message: Message) -> Call[Policy]:
    return one(f"PolicyService/{rpc}", message, policy_pb2.Policy, Policy)


def _proposal_call(rpc: str, message: Message) -> Call[PolicyProposal]:
    return one(f"PolicyService/{rpc}", message, policy_pb2.PolicyProposal, PolicyProposal)


def _policy_message(policy: PolicyLike, field: str = "policy") -> policy_pb2.Policy:
    if isinstance(policy, policy_pb2.Policy):
        return policy
    try:
        if isinstance(policy, Policy):
            return encode_policy(policy)
        return json_format.ParseDict(dict(policy), policy_pb2.Policy())
    except (ValueError, json_format.ParseError) as error:
        raise invalid_field(field, str(error)) from error


def _policy_messages(policies: Iterable[PolicyLike]) -> list[policy_pb2.Policy]:
    return [_policy_message(policy, f"policies[{index}]") for index, policy in enumerate(policies)]


def _case_message(case: TestCaseLike, field: str) -> policy_pb2.PolicyTestCase:
    if isinstance(case, policy_pb2.PolicyTestCase):
        return case
    try:
        return json_format.ParseDict(dict(case), policy_pb2.PolicyTestCase())
    except (ValueError, TypeError, AttributeError, json_format.ParseError) as error:
        raise invalid_field(field, str(error)) from error


def _draft(
    policies: Iterable[PolicyLike],
    prune: bool,
    start_time: datetime | None,
    end_time: datetime | None,
    max_changes: int,
) -> dict[str, Any]:
    return {
        "policies": _policy_messages(policies),
        "prune": prune,
        "start_time": instant_message(start_time, "start_time"),
        "end_time": instant_message(end_time, "end_time"),
        "max_changes": max_changes,
    }
