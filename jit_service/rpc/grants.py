"""The servicer of GrantService: decode, call, encode."""

from __future__ import annotations

from typing import Protocol

import grpc

from jit_service import grants, revocation
from jit_service.domain import name
from jit_service.domain.caller import Caller
from jit_service.rpc.call import current_caller
from jit_service.rpc.messages import ask_of, grant_message, plan_message, selector_of
from jit_service.storage import Store
from jitaccess.v1 import grant_pb2
from jitaccess.v1.grant_pb2_grpc import GrantServiceServicer

_VIEWS = {
    grant_pb2.ListGrantsRequest.VIEW_UNSPECIFIED: grants.View.MINE,
    grant_pb2.ListGrantsRequest.MINE: grants.View.MINE,
    grant_pb2.ListGrantsRequest.REVIEWABLE: grants.View.REVIEWABLE,
    grant_pb2.ListGrantsRequest.ALL: grants.View.ALL,
    grant_pb2.ListGrantsRequest.VISIBLE: grants.View.VISIBLE,
}


class GrantServicer(GrantServiceServicer):
    """Requests for access and the grants they become."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def RequestGrant(self, request: grant_pb2.RequestGrantRequest, context: grpc.ServicerContext) -> grant_pb2.Grant:
        caller = current_caller()
        use_case = grants.preview if request.validate_only else grants.ask
        return grant_message(*use_case(self._store, caller, ask_of(request, caller.principal)))

    def EnsureGrant(self, request: grant_pb2.EnsureGrantRequest, context: grpc.ServicerContext) -> grant_pb2.Grant:
        caller = current_caller()
        return grant_message(*grants.ensure(self._store, caller, ask_of(request, caller.principal)))

    def GetGrant(self, request: grant_pb2.GetGrantRequest, context: grpc.ServicerContext) -> grant_pb2.Grant:
        return grant_message(*grants.get(self._store, current_caller(), name.grant_name(request.name, "name")))

    def ListGrants(
        self, request: grant_pb2.ListGrantsRequest, context: grpc.ServicerContext
    ) -> grant_pb2.ListGrantsResponse:
        page = grants.list_page(
            self._store,
            current_caller(),
            view=_VIEWS[request.view],
            filter_text=request.filter,
            order_by=request.order_by,
            page_size=request.page_size,
            page_token=request.page_token,
        )
        return grant_pb2.ListGrantsResponse(
            grants=[grant_message(grant, page.at) for grant in page.grants], next_page_token=page.next_page_token
        )

    def ApproveGrant(self, request: grant_pb2.ApproveGrantRequest, context: grpc.ServicerContext) -> grant_pb2.Grant:
        return _changed(grants.approve, self._store, request)

    def DenyGrant(self, request: grant_pb2.DenyGrantRequest, context: grpc.ServicerContext) -> grant_pb2.Grant:
        return _changed(grants.deny, self._store, request)

    def WithdrawGrant(self, request: grant_pb2.WithdrawGrantRequest, context: grpc.ServicerContext) -> grant_pb2.Grant:
        return _changed(grants.withdraw, self._store, request)

    def RevokeGrant(self, request: grant_pb2.RevokeGrantRequest, context: grpc.ServicerContext) -> grant_pb2.Grant:
        return _changed(grants.revoke, self._store, request)

    def RevokeGrants(
        self, request: grant_pb2.RevokeGrantsRequest, context: grpc.ServicerContext
    ) -> grant_pb2.RevokeGrantsResponse:
        selector = selector_of(request)
        if not request.plan_id:
            return plan_message(revocation.plan(self._store, selector))
        comment = name.free_text(request.comment, "comment")
        done = revocation.carry_out(self._store, current_caller(), selector, plan_id=request.plan_id, comment=comment)
        return plan_message(done)

    def ReleaseGrant(self, request: grant_pb2.ReleaseGrantRequest, context: grpc.ServicerContext) -> grant_pb2.Grant:
        return _changed(grants.release, self._store, request)


class _Change(Protocol):
    def __call__(self, store: Store, caller: Caller, name: str, *, comment: str, etag: str) -> grants.GrantAnswer: ...


class _ChangeRequest(Protocol):
    name: str
    comment: str
    etag: str


def _changed(change: _Change, store: Store, request: _ChangeRequest) -> grant_pb2.Grant:
    """The requests of the five transitions have the same fields."""
    grant = name.grant_name(request.name, "name")
    comment = name.free_text(request.comment, "comment")
    return grant_message(*change(store, current_caller(), grant, comment=comment, etag=request.etag))
