"""The servicer of PolicyService: decode, call, encode."""

from __future__ import annotations

import grpc

from jit_service import policies
from jit_service.domain import name
from jit_service.domain.errors import InvalidField
from jit_service.rpc.call import current_caller
from jit_service.rpc.messages import applied_message, policy_changed, policy_message, policy_of, proposed_of
from jit_service.storage import Store
from jitaccess.v1 import policy_pb2
from jitaccess.v1.policy_pb2_grpc import PolicyServiceServicer


class PolicyServicer(PolicyServiceServicer):
    """Policies."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def CreatePolicy(self, request: policy_pb2.CreatePolicyRequest, context: grpc.ServicerContext) -> policy_pb2.Policy:
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
        policy = name.policy_name(request.name, "name")
        return policy_message(policies.delete(self._store, current_caller(), policy, etag=request.etag))

    def ApplyPolicies(
        self, request: policy_pb2.ApplyPoliciesRequest, context: grpc.ServicerContext
    ) -> policy_pb2.ApplyPoliciesResponse:
        proposed = proposed_of(request.policies)
        if request.validate_only:
            return applied_message(policies.preview(self._store, proposed, prune=request.prune))
        return applied_message(policies.apply(self._store, current_caller(), proposed, prune=request.prune))


def _new_name(request: policy_pb2.CreatePolicyRequest) -> str:
    """Returns the name that policy_id or the policy itself gives; where both do, they must agree."""
    if not request.policy_id:
        return request.policy.name
    wanted = name.policy_name(request.policy_id, "policy_id")
    if request.policy.name and name.policy_name(request.policy.name, "policy.name") != wanted:
        raise InvalidField("policy_id", f"says {wanted}, and policy.name says {request.policy.name}")
    return wanted
