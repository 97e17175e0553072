"""The servicer of PolicyService: decode, call, encode."""

from __future__ import annotations

from collections.abc import Iterator

import grpc

from jit_service.domain.errors import DualControlRequired, InvalidField
from jit_service.domain.language import name
from jit_service.rpc.interceptor import current_caller
from jit_service.rpc.message_size import within_bytes
from jit_service.rpc.services.policies_messages import (
    applied_message,
    cases_of,
    drafts_of,
    policy_changed,
    policy_message,
    policy_of,
    proposal_message,
    proposed_of,
    simulated_message,
    simulation_of,
    simulation_progress_message,
    tested_message,
)
from jit_service.storage import Store
from jit_service.use_cases import policies, policy_tests, proposals, simulation
from jitaccess.v1 import policy_pb2
from jitaccess.v1.policy_pb2_grpc import PolicyServiceServicer


class PolicyServicer(PolicyServiceServicer):
    """Policies. With `dual_control` they change only by proposals that another admin approves."""

    def __init__(self, store: Store, *, dual_control: bool) -> None:
        self._store = store
        self._dual_control = dual_control

    def CreatePolicy(self, request: policy_pb2.CreatePolicyRequest, context: grpc.ServicerContext) -> policy_pb2.Policy:
        self._demand_no_dual_control()
        message = policy_pb2.Policy()
        message.CopyFrom(request.policy)
        message.name = _new_name(request)
        try:
            created = policies.create(self._store, current_caller(), policy_of(message))
        except InvalidField as fault:
            raise fault.within("policy") from None
        return policy_message(created)

    def GetPolicy(self, request: policy_pb2.GetPolicyRequest, context: grpc.ServicerContext) -> policy_pb2.Policy:
        policy = name.policy_name(request.name, "name")
        return policy_message(policies.get(self._store, current_caller(), policy, revision=request.revision))

    @within_bytes
    def ListPolicies(
        self, request: policy_pb2.ListPoliciesRequest, context: grpc.ServicerContext
    ) -> policy_pb2.ListPoliciesResponse:
        page = policies.list_page(
            self._store,
            current_caller(),
            page_size=request.page_size,
            page_token=request.page_token,
            deleted=request.show_deleted,
        )
        return policy_pb2.ListPoliciesResponse(
            policies=[policy_message(policy) for policy in page.policies], next_page_token=page.next_page_token
        )

    def UpdatePolicy(self, request: policy_pb2.UpdatePolicyRequest, context: grpc.ServicerContext) -> policy_pb2.Policy:
        self._demand_no_dual_control()
        policy = name.policy_name(request.policy.name, "policy.name")
        updated = policies.update(
            self._store,
            current_caller(),
            policy,
            etag=request.policy.etag,
            change=lambda current: policy_changed(current, request.policy, request.update_mask),
        )
        return policy_message(updated)

    def DeletePolicy(self, request: policy_pb2.DeletePolicyRequest, context: grpc.ServicerContext) -> policy_pb2.Policy:
        self._demand_no_dual_control()
        policy = name.policy_name(request.name, "name")
        return policy_message(policies.delete(self._store, current_caller(), policy, etag=request.etag))

    def ApplyPolicies(
        self, request: policy_pb2.ApplyPoliciesRequest, context: grpc.ServicerContext
    ) -> policy_pb2.ApplyPoliciesResponse:
        proposed = proposed_of(request.policies)
        by, prune, end_misfits = current_caller(), request.prune, request.end_misfits
        if request.validate_only:
            return applied_message(policies.preview(self._store, by, proposed, prune=prune, end_misfits=end_misfits))
        if self._dual_control:
            applied = proposals.propose(
                self._store, by, proposed, prune=prune, comment=request.comment, end_misfits=end_misfits
            )
        else:
            applied = policies.apply(self._store, by, proposed, prune=prune, end_misfits=end_misfits)
        return applied_message(applied)

    def TestPolicy(
        self, request: policy_pb2.TestPolicyRequest, context: grpc.ServicerContext
    ) -> policy_pb2.TestPolicyResponse:
        tested, exact = name.policy_name(request.name, "name"), current_caller().exact
        results = policy_tests.run_cases(
            self._store,
            tested,
            cases_of(request.cases, exact),
            drafts=drafts_of(request, tested, exact),
            prune=request.prune,
            exact=exact,
        )
        return tested_message(results)

    def SimulatePolicies(
        self, request: policy_pb2.SimulatePoliciesRequest, context: grpc.ServicerContext
    ) -> policy_pb2.SimulatePoliciesResponse:
        return simulated_message(simulation.simulate(self._store, simulation_of(request, current_caller().exact)))

    def StreamPolicySimulation(
        self, request: policy_pb2.StreamPolicySimulationRequest, context: grpc.ServicerContext
    ) -> Iterator[policy_pb2.StreamPolicySimulationResponse]:
        draft = simulation_of(request, current_caller().exact)
        told = simulation.stream_simulation(self._store, draft, gone=lambda: not context.is_active())
        return map(simulation_progress_message, told)

    def GetPolicyProposal(
        self, request: policy_pb2.GetPolicyProposalRequest, context: grpc.ServicerContext
    ) -> policy_pb2.PolicyProposal:
        return proposal_message(*proposals.get(self._store, name.proposal_name(request.name, "name")))

    @within_bytes
    def ListPolicyProposals(
        self, request: policy_pb2.ListPolicyProposalsRequest, context: grpc.ServicerContext
    ) -> policy_pb2.ListPolicyProposalsResponse:
        page = proposals.list_page(
            self._store, current_caller(), page_size=request.page_size, page_token=request.page_token
        )
        return policy_pb2.ListPolicyProposalsResponse(
            policy_proposals=[proposal_message(found, page.at) for found in page.proposals],
            next_page_token=page.next_page_token,
        )

    def ApprovePolicyProposal(
        self, request: policy_pb2.ApprovePolicyProposalRequest, context: grpc.ServicerContext
    ) -> policy_pb2.PolicyProposal:
        proposal = name.proposal_name(request.name, "name")
        return proposal_message(
            *proposals.approve(self._store, current_caller(), proposal, comment=request.comment, etag=request.etag)
        )

    def RejectPolicyProposal(
        self, request: policy_pb2.RejectPolicyProposalRequest, context: grpc.ServicerContext
    ) -> policy_pb2.PolicyProposal:
        proposal = name.proposal_name(request.name, "name")
        return proposal_message(
            *proposals.reject(self._store, current_caller(), proposal, comment=request.comment, etag=request.etag)
        )

    def _demand_no_dual_control(self) -> None:
        if self._dual_control:
            raise DualControlRequired(
                "policies change here only by a proposal that another admin approves; ApplyPolicies makes one"
            )


def _new_name(request: policy_pb2.CreatePolicyRequest) -> str:
    """Returns the name from policy_id or from the policy itself. If both give one, they must agree."""
    if not request.policy_id:
        return request.policy.name
    wanted = name.policy_name(request.policy_id, "policy_id")
    if request.policy.name and name.policy_name(request.policy.name, "policy.name") != wanted:
        raise InvalidField("policy_id", f"says {wanted}, and policy.name says {request.policy.name}")
    return wanted
