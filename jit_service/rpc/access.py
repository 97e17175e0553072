"""The servicer of AccessService: decode, call, encode."""

from __future__ import annotations

import grpc

from jit_service import access
from jit_service.domain.caller import Caller
from jit_service.domain.decision import Question
from jit_service.domain.errors import InvalidField, JitError
from jit_service.domain.refusal import About
from jit_service.rpc.call import current_caller
from jit_service.rpc.messages import check_message, context_of, refused_item
from jit_service.storage import Store
from jitaccess.v1 import access_pb2
from jitaccess.v1.access_pb2_grpc import AccessServiceServicer


class AccessServicer(AccessServiceServicer):
    """Decisions."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def CheckAccess(
        self, request: access_pb2.CheckAccessRequest, context: grpc.ServicerContext
    ) -> access_pb2.CheckAccessResponse:
        caller = current_caller()
        checked = access.check(self._store, caller, _question(caller, request), min_revision=request.min_revision)
        return check_message(checked, explain=request.explain)

    def BatchCheckAccess(
        self, request: access_pb2.BatchCheckAccessRequest, context: grpc.ServicerContext
    ) -> access_pb2.BatchCheckAccessResponse:
        if not 1 <= len(request.items) <= access.MAX_ITEMS:
            raise InvalidField("items", f"has {len(request.items)} items; 1 to {access.MAX_ITEMS} are allowed")
        caller = current_caller()
        answers = access.check_many(
            self._store,
            caller,
            [_item(caller, item) for item in request.items],
            min_revision=max(item.min_revision for item in request.items),
        )
        results = [
            refused_item(answer) if isinstance(answer, JitError) else check_message(answer, explain=item.explain)
            for item, answer in zip(request.items, answers, strict=True)
        ]
        return access_pb2.BatchCheckAccessResponse(results=results)


def _question(caller: Caller, request: access_pb2.CheckAccessRequest) -> Question:
    return access.question(
        caller,
        subject=request.subject,
        action=request.action,
        resource=request.resource,
        asserted=context_of(request.context),
    )


def _item(caller: Caller, item: access_pb2.CheckAccessRequest) -> Question | access.RefusedItem:
    try:
        return _question(caller, item)
    except JitError as error:
        about = About(subject=item.subject, resources=(item.resource,), actions=(item.action,))
        return access.RefusedItem(error=error, about=about)
