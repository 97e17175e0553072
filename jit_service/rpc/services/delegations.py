"""The servicer of DelegationService: decode, call, encode."""

from __future__ import annotations

from datetime import datetime

import grpc

from jit_service.domain.bounds import Bounds
from jit_service.domain.grants.delegation import Delegation, NewDelegation
from jit_service.domain.language import name
from jit_service.rpc.interceptor import current_caller
from jit_service.rpc.mapping import Decoder, Encoder, Rule
from jit_service.rpc.message_size import within_bytes
from jit_service.storage import Store
from jit_service.use_cases import delegations
from jitaccess.v1 import delegation_pb2
from jitaccess.v1.delegation_pb2_grpc import DelegationServiceServicer

_ENCODE = Encoder(delegation_pb2.Delegation, Delegation, derived=("active",))
_DECODE = Decoder(
    delegation_pb2.Delegation,
    NewDelegation,
    {"expires_at": Rule(required="is required: from then on the delegation is over")},
)


class DelegationServicer(DelegationServiceServicer):
    """Delegations of the right to review."""

    def __init__(self, store: Store, bounds: Bounds) -> None:
        self._bounds = bounds
        self._store = store

    def CreateDelegation(
        self, request: delegation_pb2.CreateDelegationRequest, context: grpc.ServicerContext
    ) -> delegation_pb2.Delegation:
        wanted = _DECODE(request.delegation, "delegation.")
        return delegation_message(*delegations.create(self._store, current_caller(), wanted, bounds=self._bounds))

    def GetDelegation(
        self, request: delegation_pb2.GetDelegationRequest, context: grpc.ServicerContext
    ) -> delegation_pb2.Delegation:
        return delegation_message(
            *delegations.get(self._store, current_caller(), name.delegation_name(request.name, "name"))
        )

    @within_bytes
    def ListDelegations(
        self, request: delegation_pb2.ListDelegationsRequest, context: grpc.ServicerContext
    ) -> delegation_pb2.ListDelegationsResponse:
        page = delegations.list_page(
            self._store, current_caller(), page_size=request.page_size, page_token=request.page_token
        )
        return delegation_pb2.ListDelegationsResponse(
            delegations=[delegation_message(found, page.at) for found in page.delegations],
            next_page_token=page.next_page_token,
        )

    def DeleteDelegation(
        self, request: delegation_pb2.DeleteDelegationRequest, context: grpc.ServicerContext
    ) -> delegation_pb2.Delegation:
        found = name.delegation_name(request.name, "name")
        return delegation_message(*delegations.delete(self._store, current_caller(), found, etag=request.etag))


def delegation_message(delegation: Delegation, at: datetime) -> delegation_pb2.Delegation:
    """Returns the delegation, active or not at `at`."""
    return _ENCODE(delegation, active=delegation.is_active(at))
