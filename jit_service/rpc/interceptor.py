"""The outermost interceptor. It authenticates, authorises and checks every call, and translates every fault.

The order is: decode the message, identify the caller, look up the authorisation table, then refuse messages that no
servicer may see (strictness.py). A refusal of a write or a check is recorded before it is answered.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from functools import partial
from typing import Any, Final, NoReturn

import grpc
from google.protobuf.message import Message

from jit_service.check import GrantCache
from jit_service.domain.audit.refusal import About
from jit_service.domain.caller import Caller, Origin
from jit_service.domain.errors import (
    InvalidField,
    JitError,
    Locked,
    RateExceeded,
    Unauthenticated,
    Unavailable,
)
from jit_service.domain.grants.lock import demand_unlocked_caller
from jit_service.refusal_log import RefusalLog, fields_of
from jit_service.rpc import errors, refusals
from jit_service.rpc.admission import Admission, MalformedRequest, check_request, decode_request, edge_metadata
from jit_service.rpc.authentication import Authenticator
from jit_service.rpc.authorization import RULES, Rule
from jit_service.rpc.calls_seen import saw_answered, saw_ended, saw_failed, saw_refused
from jit_service.rpc.client_certificates import ClientCertificates
from jit_service.rpc.json_spelling import in_json_names
from jit_service.rpc.origins import Metadata, with_trace
from jit_service.rpc.protected_resource import ProtectedResource
from jit_service.rpc.quota import Quota
from jit_service.rpc.streams import Streams
from jit_service.storage import Store, set_caller
from jit_service.tracing import spans
from jit_service.tracing.spans import Traced
from jit_service.use_cases import audit, delegations
from jit_service.use_cases.unauthenticated_calls import UnauthenticatedCalls

_log = logging.getLogger(__name__)
_refusals = RefusalLog(_log)
_MAX_SEEN_TOKENS: Final = 10_000
_Guarded = tuple[Callable[..., Any], Callable[..., Any]]
_caller: ContextVar[Caller] = ContextVar("caller")


def current_caller() -> Caller:
    """Returns the caller of the call that this thread serves."""
    return _caller.get()


class CallInterceptor(grpc.ServerInterceptor):
    """The checks around every call. `trusted_proxies` may name their client's address; `view` has the locks.

    The handler depends on the method alone, so a transport may ask for it once per method.
    """

    def __init__(
        self,
        store: Store,
        view: GrantCache,
        authenticator: Authenticator,
        streams: Streams,
        trusted_proxies: Sequence[str],
        *,
        quota: Quota,
        unproved: UnauthenticatedCalls,
        resource: ProtectedResource,
        certificates: ClientCertificates | None = None,
        stored_claims: frozenset[str] | None = None,
    ) -> None:
        self.admission = Admission(authenticator, quota, trusted_proxies, certificates, stored_claims=stored_claims)
        self._unproved = unproved
        self._resource = resource
        self._store = store
        self._view = view
        self._authenticator = authenticator
        self._streams = streams
        self._seen_tokens: set[tuple[object, ...]] = set()

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler[Any, Any] | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Returns the handler behind the checks; that of a public method is not changed."""
        handler = continuation(handler_call_details)
        method = handler_call_details.method
        rule = RULES.get(method)
        if handler is None or (rule is not None and rule.public):
            return handler
        decode = handler.request_deserializer
        if decode is None or (guarded := self._guard(method, rule, handler)) is None:
            return grpc.unary_unary_rpc_method_handler(self._refuse_unlisted)
        make_handler, behaviour = guarded
        made: grpc.RpcMethodHandler[Any, Any] = make_handler(
            behaviour,
            request_deserializer=lambda data: decode_request(decode, data),
            response_serializer=handler.response_serializer,
        )
        return made

    def _guard(self, method: str, rule: Rule | None, handler: grpc.RpcMethodHandler[Any, Any]) -> _Guarded | None:
        """Returns what makes a handler of this kind, and its behaviour behind the checks; None for other kinds."""
        if handler.unary_unary is not None:
            return grpc.unary_unary_rpc_method_handler, partial(self._run_unary, method, rule, handler.unary_unary)
        if handler.unary_stream is not None:
            stream: Any = partial(self._run_stream, method, rule, handler.unary_stream)
            # grpcio's own way (its health servicer uses it) to give long calls threads of their own.
            stream.experimental_thread_pool = self._streams.pool
            return grpc.unary_stream_rpc_method_handler, stream
        if handler.stream_stream is not None:
            hold: Any = partial(self._run_held_stream, method, rule, handler.stream_stream)
            # grpcio's own way (its health servicer uses it) to keep a call open without a thread that waits for it.
            hold.experimental_non_blocking = True
            return grpc.stream_stream_rpc_method_handler, hold
        return None

    def _refuse_unlisted(self, _: bytes, context: grpc.ServicerContext) -> None:
        context.abort(grpc.StatusCode.PERMISSION_DENIED, "nobody may call this")

    def _run_unary(
        self,
        method: str,
        rule: Rule | None,
        behaviour: Callable[[Any, grpc.ServicerContext], Any],
        request: Message | MalformedRequest,
        context: grpc.ServicerContext,
    ) -> Any:
        since = time.perf_counter()
        metadata = context.invocation_metadata()
        with spans.call(method, metadata) as traced:
            caller = self._unproved_caller(method, metadata, context, traced)
            try:
                with spans.part("admit"):
                    caller = self.admission.identify(
                        rule, caller, metadata, context.peer(), self.admission.shown(context)
                    )
                    self.admission.count(rule, caller, request)
                    caller = check_request(rule, caller, request, metadata)
                    self._end_lost_delegations(caller)
                answer = _answer(caller, behaviour, request, context)
            except JitError as refusal:
                self._refuse(rule, caller, refusal, request, context, since=since)
            except Exception:
                _log.exception("%s failed", method, extra=fields_of(caller))
                saw_failed(method, since=since)
                errors.abort_internal(context)
            saw_answered(method, [since])
            return answer

    def _unproved_caller(
        self, method: str, metadata: Metadata, context: grpc.ServicerContext, traced: Traced | None
    ) -> Caller:
        """Returns the caller before it is identified; a call that comes without a trace has the one begun here."""
        caller = self.admission.unauthenticated(method, metadata, context.peer())
        return caller if traced is None else caller._replace(origin=with_trace(caller.origin, traced.trace_id))

    def _run_stream(
        self,
        method: str,
        rule: Rule | None,
        behaviour: Any,
        request: Message | MalformedRequest,
        context: grpc.ServicerContext,
    ) -> Iterator[Any]:
        """Serves a stream as `_run_unary` serves a call, till the token expires or issuers change."""
        with spans.stream(method, context.invocation_metadata()) as traced:
            yield from self._stream(method, rule, behaviour, request, context, traced)

    def _stream(
        self,
        method: str,
        rule: Rule | None,
        behaviour: Any,
        request: Message | MalformedRequest,
        context: grpc.ServicerContext,
        traced: Traced | None,
    ) -> Iterator[Any]:
        metadata = context.invocation_metadata()
        caller = self._unproved_caller(method, metadata, context, traced)
        trusted = self._authenticator.trusted
        try:
            caller = self.admission.identify(rule, caller, metadata, context.peer(), self.admission.shown(context))
            self.admission.count(rule, caller, request)
            caller = check_request(rule, caller, request, metadata)
            self._end_lost_delegations(caller)
            _caller.set(caller)
            set_caller(caller)
            for message in self._streams.carry(context, behaviour(request, context), by=caller):
                self._authenticator.demand_unexpired(caller.proved_until, trusted=trusted)
                yield message
            # What notices first that the client is gone ends the stream: the generator here, or grpcio itself.
            cancelled = not context.is_active()
            saw_ended(method, cancelled=cancelled)
            if cancelled:
                _settle(traced, "CANCELLED", "")
        except GeneratorExit:
            saw_ended(method, cancelled=True)
            _settle(traced, "CANCELLED", "")
            raise
        except JitError as refusal:
            set_caller(None)
            _settle(traced, errors.status_code(refusal).name, refusal.reason)
            self._refuse(rule, caller, refusal, request, context)
        except Exception:
            _settle(traced, "INTERNAL", "INTERNAL")
            _fail_stream(method, context)
            raise

    def _run_held_stream(
        self,
        method: str,
        rule: Rule | None,
        behaviour: Any,
        requests: Iterator[Message | MalformedRequest],
        context: grpc.ServicerContext,
        send: Callable[[object], None],
    ) -> None:
        """Serves a proxy's call that stays open after the behaviour returns. Only its first message is read."""
        caller = Caller(principal="", origin=Origin(method=method))
        request: Message | MalformedRequest = MalformedRequest()
        try:
            # This comes before any wait, so that only proxies can hold a thread.
            self.admission.demand_proxy(method, context.invocation_metadata(), context.peer())
            request = next(requests, request)
            check_request(rule, caller, request, ())
            behaviour(request, context, send)
        except JitError as refusal:
            self._refuse(rule, caller, refusal, request, context)
        except Exception:
            _fail_stream(method, context)
            raise

    def _refuse(
        self,
        rule: Rule | None,
        caller: Caller,
        refusal: JitError,
        request: Message | MalformedRequest,
        context: grpc.ServicerContext,
        *,
        since: float | None = None,
    ) -> NoReturn:
        """Records, counts and answers a refusal. `since` is when a unary call came, by time.perf_counter."""
        # A record of each call over the rate would let its sender fill the log.
        if not isinstance(refusal, RateExceeded):
            lock = self._lock_on(caller)
            refusal = lock or refusal
            # What somebody unproved or locked tries is recorded, whatever it is.
            if rule is None or rule.records(request) or (rule.recorded and (lock or not caller.principal)):
                self._record(caller, refusal, request)
        saw_refused(caller.origin.method, refusal, since=since)
        if isinstance(refusal, Unavailable):
            _refusals.warning("a call cannot be answered", refusal, caller)
        over_rest = edge_metadata(context.invocation_metadata())[0] is not None
        if isinstance(refusal, InvalidField) and over_rest:
            # The record keeps the proto's names: it is the same for every way that a call comes.
            refusal = in_json_names(refusal, caller.origin.method)
        if isinstance(refusal, Unauthenticated) and over_rest:
            errors.abort(context, refusal, ("www-authenticate", self._resource.challenge(refusal)))
        errors.abort(context, refusal)

    def _lock_on(self, caller: Caller) -> Locked | None:
        """Returns the refusal of a locked caller, which replaces any other refusal; None if it is not locked.

        A call that is not refused otherwise is refused by the store or the view when it reads (`storage.set_caller`).
        """
        try:
            if caller.principal:
                demand_unlocked_caller(self._view.strong(()).locks, caller)
        except Locked as locked:
            return locked
        except Unavailable as fault:
            _refusals.warning("the locks cannot be read", fault, caller)
        return None

    def has_met(self, caller: Caller) -> bool:
        """Returns whether a call with the caller's token has ended the delegations of rights that it no longer gives.

        A call that is answered in a batch does not end them, so the first with a token goes the ordinary way.
        """
        return _token(caller) in self._seen_tokens

    def _end_lost_delegations(self, caller: Caller) -> None:
        """Ends the caller's delegations of rights that its token no longer gives. It looks once per token."""
        if not caller.principal or self.has_met(caller):
            return
        delegations.end_lost(self._store, caller)
        if len(self._seen_tokens) >= _MAX_SEEN_TOKENS:
            self._seen_tokens.clear()
        self._seen_tokens.add(_token(caller))

    def _record(self, caller: Caller, refusal: JitError, request: Message | MalformedRequest) -> None:
        try:
            if caller.principal:
                about = About() if isinstance(request, MalformedRequest) else refusals.about(request)
                audit.record_refusal(self._store, caller, refusal, about)
            else:
                self._unproved.refused(caller, reason=refusal.reason)
        except Unavailable as fault:
            # The call is still refused. Only its record is lost, and the log says so.
            _refusals.warning("a refusal could not be recorded", fault, caller)


def _answer(
    caller: Caller,
    behaviour: Callable[[Any, grpc.ServicerContext], Any],
    request: Message | MalformedRequest,
    context: grpc.ServicerContext,
) -> Any:
    """Returns the servicer's answer to the caller."""
    token = _caller.set(caller)
    set_caller(caller)
    try:
        return behaviour(request, context)
    finally:
        set_caller(None)
        _caller.reset(token)


def _token(caller: Caller) -> tuple[object, ...]:
    """Returns what the caller's token proves of rights, and until when."""
    return caller.principal, caller.groups, caller.proved_until


def _settle(traced: Traced | None, code: str, reason: str) -> None:
    if traced is not None:
        traced.settle(code, reason)


def _fail_stream(method: str, context: grpc.ServicerContext) -> None:
    """Ends a stream after a fault. A stream whose client has gone needs no answer, and no line in the log."""
    if context.is_active():
        saw_failed(method)
        _log.exception("%s failed", method)
        errors.abort_internal(context)
