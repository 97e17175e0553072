"""The servicer of GrantService: decode, call, encode."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Protocol

import grpc

from jit_service.domain.bounds import Bounds
from jit_service.domain.caller import Caller
from jit_service.domain.language import name
from jit_service.feeds.grants import watch
from jit_service.feeds.replica import replicate
from jit_service.rpc.interceptor import current_caller
from jit_service.rpc.message_size import within_bytes
from jit_service.rpc.services.grants_messages import (
    approval_edits_of,
    ask_of,
    counter_edits_of,
    grant_message,
    more_time_of,
    plan_message,
    replica_message,
    selector_of,
    view_of,
    watch_message,
    watched_of,
)
from jit_service.storage import Store
from jit_service.storage.head_follower import HeadFollower
from jit_service.use_cases import bulk_revocation, grants
from jitaccess.v1 import grant_pb2
from jitaccess.v1.grant_pb2_grpc import GrantServiceServicer


class GrantServicer(GrantServiceServicer):
    """Requests for access and the grants they become."""

    def __init__(self, store: Store, follower: HeadFollower, bounds: Bounds) -> None:
        self._bounds = bounds
        self._store = store
        self._follower = follower

    def RequestGrant(self, request: grant_pb2.RequestGrantRequest, context: grpc.ServicerContext) -> grant_pb2.Grant:
        caller = current_caller()
        use_case = grants.preview if request.validate_only else grants.ask
        return grant_message(*use_case(self._store, caller, ask_of(request, caller.principal), bounds=self._bounds))

    def EnsureGrant(self, request: grant_pb2.EnsureGrantRequest, context: grpc.ServicerContext) -> grant_pb2.Grant:
        caller = current_caller()
        asked = ask_of(request, caller.principal)
        return grant_message(*grants.ensure(self._store, caller, asked, bounds=self._bounds))

    def GetGrant(self, request: grant_pb2.GetGrantRequest, context: grpc.ServicerContext) -> grant_pb2.Grant:
        return grant_message(*grants.get(self._store, current_caller(), name.grant_name(request.name, "name")))

    @within_bytes
    def ListGrants(
        self, request: grant_pb2.ListGrantsRequest, context: grpc.ServicerContext
    ) -> grant_pb2.ListGrantsResponse:
        page = grants.list_page(
            self._store,
            current_caller(),
            view=view_of(request.view),
            filter_text=request.filter,
            order_by=request.order_by,
            page_size=request.page_size,
            page_token=request.page_token,
        )
        return grant_pb2.ListGrantsResponse(
            grants=[grant_message(grant, page.at) for grant in page.grants], next_page_token=page.next_page_token
        )

    def ApproveGrant(self, request: grant_pb2.ApproveGrantRequest, context: grpc.ServicerContext) -> grant_pb2.Grant:
        edits = approval_edits_of(request)
        approve = partial(grants.approve, extension_round=request.extension_round, edits=edits, do=_done(request))
        return _change(approve, self._store, request)

    def DenyGrant(self, request: grant_pb2.DenyGrantRequest, context: grpc.ServicerContext) -> grant_pb2.Grant:
        deny = partial(grants.deny, extension_round=request.extension_round, do=_done(request))
        return _change(deny, self._store, request)

    def WithdrawGrant(self, request: grant_pb2.WithdrawGrantRequest, context: grpc.ServicerContext) -> grant_pb2.Grant:
        return _change(grants.withdraw, self._store, request)

    def RevokeGrant(self, request: grant_pb2.RevokeGrantRequest, context: grpc.ServicerContext) -> grant_pb2.Grant:
        return _change(grants.revoke, self._store, request)

    def RevokeGrants(
        self, request: grant_pb2.RevokeGrantsRequest, context: grpc.ServicerContext
    ) -> grant_pb2.RevokeGrantsResponse:
        selector = selector_of(request)
        if not request.plan_id:
            return plan_message(bulk_revocation.plan(self._store, selector))
        comment = name.free_text(request.comment, "comment")
        done = bulk_revocation.execute(
            self._store, current_caller(), selector, plan_id=request.plan_id, comment=comment
        )
        return plan_message(done)

    def ReleaseGrant(self, request: grant_pb2.ReleaseGrantRequest, context: grpc.ServicerContext) -> grant_pb2.Grant:
        return _change(grants.release, self._store, request)

    def CounterGrant(self, request: grant_pb2.CounterGrantRequest, context: grpc.ServicerContext) -> grant_pb2.Grant:
        counter = partial(grants.counter, edits=counter_edits_of(request), do=_done(request))
        return _change(counter, self._store, request)

    def AcceptCounterOffer(
        self, request: grant_pb2.AcceptCounterOfferRequest, context: grpc.ServicerContext
    ) -> grant_pb2.Grant:
        return _change(grants.accept_offer, self._store, request)

    def DeclineCounterOffer(
        self, request: grant_pb2.DeclineCounterOfferRequest, context: grpc.ServicerContext
    ) -> grant_pb2.Grant:
        return _change(grants.decline_offer, self._store, request)

    def ExtendGrant(self, request: grant_pb2.ExtendGrantRequest, context: grpc.ServicerContext) -> grant_pb2.Grant:
        grant, more = name.grant_name(request.name, "name"), more_time_of(request)
        do = _done(request)
        return grant_message(*grants.extend(self._store, current_caller(), grant, more, etag=request.etag, do=do))

    def CompleteReview(
        self, request: grant_pb2.CompleteReviewRequest, context: grpc.ServicerContext
    ) -> grant_pb2.Grant:
        return _change(grants.complete_review, self._store, request)

    def WatchGrants(
        self, request: grant_pb2.WatchGrantsRequest, context: grpc.ServicerContext
    ) -> Iterator[grant_pb2.WatchGrantsResponse]:
        context.add_callback(self._follower.wake)
        return self._replicate(request, context) if request.replica else self._watch(request, context)

    def _watch(
        self, request: grant_pb2.WatchGrantsRequest, context: grpc.ServicerContext
    ) -> Iterator[grant_pb2.WatchGrantsResponse]:
        updates = watch(
            self._store,
            current_caller(),
            watched_of(request),
            follower=self._follower,
            gone=lambda: not context.is_active(),
        )
        return map(watch_message, updates)

    def _replicate(
        self, request: grant_pb2.WatchGrantsRequest, context: grpc.ServicerContext
    ) -> Iterator[grant_pb2.WatchGrantsResponse]:
        updates = replicate(
            self._store,
            current_caller(),
            watched_of(request),
            follower=self._follower,
            gone=lambda: not context.is_active(),
        )
        return map(replica_message, updates)


class _Transition(Protocol):
    def __call__(self, store: Store, caller: Caller, name: str, *, comment: str, etag: str) -> grants.GrantAnswer: ...


class _TransitionRequest(Protocol):
    name: str
    comment: str
    etag: str


class _TriedRequest(Protocol):
    validate_only: bool


def _done(request: _TriedRequest) -> grants.Do:
    """Returns what is done with the transition: it is stored, or after a dry run only answered."""
    return grants.attempt if request.validate_only else grants.commit


def _change(change: _Transition, store: Store, request: _TransitionRequest) -> grant_pb2.Grant:
    """Does a transition. The requests of most transitions have the same fields."""
    grant = name.grant_name(request.name, "name")
    comment = name.free_text(request.comment, "comment")
    return grant_message(*change(store, current_caller(), grant, comment=comment, etag=request.etag))
