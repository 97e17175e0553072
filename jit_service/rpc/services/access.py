"""The servicer of AccessService: decode, call, encode."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import grpc

from jit_service.check import checker as access
from jit_service.check import questions, search
from jit_service.check.checker import Checker
from jit_service.check.questions import Consistency
from jit_service.check.search import Searcher
from jit_service.domain.audit.refusal import About
from jit_service.domain.caller import Caller
from jit_service.domain.checks.decision import Question
from jit_service.domain.errors import InvalidField, JitError
from jit_service.rpc.interceptor import current_caller
from jit_service.rpc.mapping import Encoder
from jit_service.rpc.message_size import within_bytes
from jit_service.rpc.request_cache import Questions
from jit_service.rpc.services.access_messages import batch_message, check_message, past_message, search_message
from jit_service.rpc.well_known_types import instant_of, json_object_of
from jit_service.storage import Store
from jit_service.use_cases.callers import Recognised, recognise
from jit_service.use_cases.past_access import PastAccess
from jitaccess.v1 import access_pb2
from jitaccess.v1.access_pb2_grpc import AccessServiceServicer

_ENCODE_RECOGNISED = Encoder(access_pb2.WhoAmIResponse, Recognised)


class AccessServicer(AccessServiceServicer):
    """Checks and searches of access."""

    def __init__(self, store: Store, checker: Checker, searcher: Searcher, past: PastAccess) -> None:
        self._store = store
        self._checker = checker
        self._searcher = searcher
        self._past = past
        self._questions = Questions()

    def CheckAccess(
        self, request: access_pb2.CheckAccessRequest, context: grpc.ServicerContext
    ) -> access_pb2.CheckAccessResponse:
        caller = current_caller()
        if request.HasField("read_time"):
            return self._check_past(caller, request)
        checked = self._checker.check(
            caller,
            self._questions.of(caller, request),
            min_revision=request.min_revision,
            consistency=consistency_of(request.consistency),
        )
        return check_message(checked, explain=request.explain)

    def BatchCheckAccess(
        self, request: access_pb2.BatchCheckAccessRequest, context: grpc.ServicerContext
    ) -> access_pb2.BatchCheckAccessResponse:
        if not 1 <= len(request.items) <= access.MAX_ITEMS:
            raise InvalidField("items", f"has {len(request.items)} items; 1 to {access.MAX_ITEMS} are allowed")
        caller = current_caller()
        question = self._questions.of_caller(caller)
        answers = self._checker.check_many(
            caller,
            [_item(question, item) for item in request.items],
            min_revision=max(item.min_revision for item in request.items),
            consistency=_strictest(request.items),
        )
        return batch_message(answers, explained=[item.explain for item in request.items])

    @within_bytes
    def SearchAccess(
        self, request: access_pb2.SearchAccessRequest, context: grpc.ServicerContext
    ) -> access_pb2.SearchAccessResponse:
        caller = current_caller()
        wanted = search.search_query(
            caller,
            subject=request.subject,
            action=request.action,
            resource=request.resource,
            asserted=json_object_of(request.context, "context"),
            read_at=instant_of(request.read_time, "read_time") if request.HasField("read_time") else None,
        )
        search_page = self._searcher.search if wanted.read_at is None else self._past.search
        return search_message(search_page(caller, wanted, page_size=request.page_size, page_token=request.page_token))

    def _check_past(self, caller: Caller, request: access_pb2.CheckAccessRequest) -> access_pb2.CheckAccessResponse:
        if request.min_revision:
            raise InvalidField("min_revision", f"is {request.min_revision}; it does not go with read_time")
        if consistency_of(request.consistency) is Consistency.BOUNDED:
            raise InvalidField("consistency", "is BOUNDED; it does not go with read_time, which is read from the store")
        asked = questions.past_question(
            caller,
            subject=request.subject,
            action=request.action,
            resource=request.resource,
            asserted=json_object_of(request.context, "context"),
        )
        answer = self._past.check(caller, asked, instant_of(request.read_time, "read_time"))
        return past_message(answer, explain=request.explain)

    def WhoAmI(self, request: access_pb2.WhoAmIRequest, context: grpc.ServicerContext) -> access_pb2.WhoAmIResponse:
        return _ENCODE_RECOGNISED(recognise(self._store, current_caller()))


def _item(
    question: Callable[[access_pb2.CheckAccessRequest], Question], item: access_pb2.CheckAccessRequest
) -> Question | questions.RefusedItem:
    try:
        if item.HasField("read_time"):
            raise InvalidField("read_time", "is not for batches; ask about the past by CheckAccess, one by one")
        return question(item)
    except JitError as error:
        about = About(subject=item.subject, resources=(item.resource,), actions=(item.action,))
        return questions.RefusedItem(error=error, about=about)


def consistency_of(value: int) -> Consistency:
    """Returns the consistency of an enum value that the contract has; STRONG where none is given."""
    is_bounded = value == access_pb2.CheckAccessRequest.BOUNDED
    return Consistency.BOUNDED if is_bounded else Consistency.STRONG


def _strictest(items: Sequence[access_pb2.CheckAccessRequest]) -> Consistency:
    """Returns the consistency of the batch: STRONG if one item asks for it, since all are answered at one revision."""
    all_bounded = all(consistency_of(item.consistency) is Consistency.BOUNDED for item in items)
    return Consistency.BOUNDED if all_bounded else Consistency.STRONG
