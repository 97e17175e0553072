"""The outermost interceptor: every call is authenticated, authorised and checked here, and every fault translated.

In this order: the message is decoded, the caller is identified, the authorisation table is asked, the message is
checked for what no servicer may see. A refusal of a write or a check is recorded before it is answered.
"""

from __future__ import annotations

import hashlib
import ipaddress
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from functools import cache, lru_cache
from typing import Any, NoReturn

import grpc
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError, Message

from jit_service.check import GrantCache
from jit_service.domain.audit.refusal import About
from jit_service.domain.caller import Caller, Origin
from jit_service.domain.errors import (
    JitError,
    Locked,
    MalformedMessage,
    ProxyRequired,
    RateExceeded,
    StoreUnavailable,
)
from jit_service.domain.frozen import replace
from jit_service.domain.grants.lock import demand_unlocked_caller
from jit_service.domain.language import name
from jit_service.domain.language.ip_address import canonical
from jit_service.rpc import errors, refusals, strictness
from jit_service.rpc.authentication import Authenticator, Identity
from jit_service.rpc.authorization import RULES, Rule, demand
from jit_service.rpc.quota import Quota
from jit_service.rpc.streams import Streams
from jit_service.storage import Store, work_for
from jit_service.use_cases import audit, delegations
from jit_service.use_cases.unauthenticated_calls import UnprovedCalls

_log = logging.getLogger(__name__)
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_MAX_USER_AGENT = 256
_MAX_ORIGINS = 4096
_MAX_SEEN_TOKENS = 10_000
# What a proxy says of itself when it asks for a client. The edge strips x-jit-* from what clients send, so a client
# cannot say it through Envoy (envoy/envoy.yaml).
_PROXY_METADATA = ("x-jit-proxy", "ext-authz")
Metadata = Sequence[tuple[str, str | bytes]]
_caller: ContextVar[Caller] = ContextVar("caller")


def current_caller() -> Caller:
    """Returns whoever the call at hand comes from."""
    return _caller.get()


class _MalformedRequest:
    """Stands for a request whose bytes are not its message."""


class CallInterceptor(grpc.ServerInterceptor):
    """See the module. `trusted_proxies`: whose word counts for the caller's address. `view` knows who is locked.

    It decides by the method alone which handler a call gets, so a transport may ask it once for each method.
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
        unproved: UnprovedCalls,
    ) -> None:
        self._quota = quota
        self._unproved = unproved
        self._store = store
        self._view = view
        self._authenticator = authenticator
        self._streams = streams
        self._trusts_unix = "unix" in trusted_proxies
        self._trusted = [ipaddress.ip_network(proxy) for proxy in trusted_proxies if proxy != "unix"]
        # Most calls come by few ways, and to find out costs more than a decision.
        self._cached_origin = lru_cache(maxsize=_MAX_ORIGINS)(self._origin)
        self._seen_tokens: set[tuple[object, ...]] = set()

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler[Any, Any] | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Returns the handler within the checks; public methods are served as they are."""
        handler = continuation(handler_call_details)
        method = handler_call_details.method
        rule = RULES.get(method)
        if handler is None or (rule is not None and rule.public):
            return handler
        behaviour, decode = handler.unary_unary, handler.request_deserializer
        if handler.unary_stream is not None and decode is not None:
            return self._stream_handler(method, rule, handler, decode)
        if handler.stream_stream is not None and decode is not None:
            return self._held_stream_handler(method, rule, handler, decode)
        if behaviour is None or decode is None:
            return grpc.unary_unary_rpc_method_handler(self._refuse_unlisted)
        return grpc.unary_unary_rpc_method_handler(
            lambda request, context: self._run_unary(method, rule, behaviour, request, context),
            request_deserializer=lambda data: _decode(decode, data),
            response_serializer=handler.response_serializer,
        )

    def _stream_handler(
        self,
        method: str,
        rule: Rule | None,
        handler: grpc.RpcMethodHandler[Any, Any],
        decode: Callable[[bytes], Any],
    ) -> grpc.RpcMethodHandler[Any, Any]:
        def stream(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            return self._run_stream(method, rule, handler.unary_stream, request, context)

        # grpcio's own way (its health servicer uses it) to give long calls threads of their own.
        stream.experimental_thread_pool = self._streams.pool  # type: ignore[attr-defined]
        return grpc.unary_stream_rpc_method_handler(
            stream,
            request_deserializer=lambda data: _decode(decode, data),
            response_serializer=handler.response_serializer,
        )

    def _held_stream_handler(
        self,
        method: str,
        rule: Rule | None,
        handler: grpc.RpcMethodHandler[Any, Any],
        decode: Callable[[bytes], Any],
    ) -> grpc.RpcMethodHandler[Any, Any]:
        def hold(requests: Iterator[Any], context: grpc.ServicerContext, send: Callable[[object], None]) -> None:
            self._run_held_stream(method, rule, handler.stream_stream, requests, context, send)

        # grpcio's own way (its health servicer uses it) to have a call stay open that no thread waits for.
        hold.experimental_non_blocking = True  # type: ignore[attr-defined]
        return grpc.stream_stream_rpc_method_handler(
            hold,
            request_deserializer=lambda data: _decode(decode, data),
            response_serializer=handler.response_serializer,
        )

    def _refuse_unlisted(self, _: bytes, context: grpc.ServicerContext) -> None:
        context.abort(grpc.StatusCode.PERMISSION_DENIED, "nobody may call this")

    def _run_unary(
        self,
        method: str,
        rule: Rule | None,
        behaviour: Callable[[Any, grpc.ServicerContext], Any],
        request: Message | _MalformedRequest,
        context: grpc.ServicerContext,
    ) -> Any:
        metadata = context.invocation_metadata()
        caller = self._unauthenticated(method, metadata, context.peer())
        try:
            if rule is not None and rule.proxy:
                self._demand_proxy(method, metadata, context.peer())
            elif rule is None or not rule.anonymous:
                caller = self._authenticate(caller, metadata)
                self._quota.demand(caller, writes=rule is not None and rule.writes, weight=_count_questions(request))
            caller = _admit(rule, caller, request, metadata)
            self._end_lost_delegations(caller)
            token = _caller.set(caller)
            work_for(caller)
            try:
                return behaviour(request, context)
            finally:
                work_for(None)
                _caller.reset(token)
        except JitError as refusal:
            self._refuse(rule, caller, refusal, request, context)
        except Exception:
            _log.exception("%s failed", method)
            errors.abort_internal(context)

    def _run_stream(
        self,
        method: str,
        rule: Rule | None,
        behaviour: Any,
        request: Message | _MalformedRequest,
        context: grpc.ServicerContext,
    ) -> Iterator[Any]:
        """As `_run_unary`, message by message; what the token proves ends with it, so the stream does too."""
        metadata = context.invocation_metadata()
        caller = self._unauthenticated(method, metadata, context.peer())
        try:
            caller = self._authenticate(caller, metadata)
            self._quota.demand(caller, writes=False)
            caller = _admit(rule, caller, request, metadata)
            self._end_lost_delegations(caller)
            _caller.set(caller)
            work_for(caller)
            for message in self._streams.carry(context, behaviour(request, context), by=caller):
                self._authenticator.demand_unexpired(caller.proved_until)
                yield message
        except JitError as refusal:
            work_for(None)
            self._refuse(rule, caller, refusal, request, context)
        except Exception:
            if context.is_active():
                _log.exception("%s failed", method)
                errors.abort_internal(context)
            raise

    def _run_held_stream(
        self,
        method: str,
        rule: Rule | None,
        behaviour: Any,
        requests: Iterator[Message | _MalformedRequest],
        context: grpc.ServicerContext,
        send: Callable[[object], None],
    ) -> None:
        """As `_run_unary`, for a proxy's call that the behaviour leaves open; of its messages the first is read."""
        caller = Caller(principal="", origin=Origin(method=method))
        request: Message | _MalformedRequest = _MalformedRequest()
        try:
            # Before anything is waited for: whoever is no proxy holds no thread.
            self._demand_proxy(method, context.invocation_metadata(), context.peer())
            request = next(requests, request)
            _admit(rule, caller, request, ())
            behaviour(request, context, send)
        except JitError as refusal:
            self._refuse(rule, caller, refusal, request, context)
        except Exception:
            if context.is_active():
                _log.exception("%s failed", method)
                errors.abort_internal(context)
            raise

    def _refuse(
        self,
        rule: Rule | None,
        caller: Caller,
        refusal: JitError,
        request: Message | _MalformedRequest,
        context: grpc.ServicerContext,
    ) -> NoReturn:
        # To record what comes too often would let whoever sends it fill the log.
        if not isinstance(refusal, RateExceeded):
            refusal = self._lock_on(caller) or refusal
        if (rule is None or rule.recorded) and not isinstance(refusal, RateExceeded):
            self._record(caller, refusal, request)
        if isinstance(refusal, StoreUnavailable):
            _log.warning("%s: %s (%s)", caller.origin.method, refusal, refusal.__cause__)
        errors.abort(context, refusal)

    def _lock_on(self, caller: Caller) -> Locked | None:
        """Returns what the locked are told, whatever else is wrong with the call; None for anybody else.

        What is not wrong otherwise, the store or the view refuses as soon as it is asked (`storage.work_for`).
        """
        try:
            if caller.principal:
                demand_unlocked_caller(self._view.strong(()).locks, caller)
        except Locked as locked:
            return locked
        except StoreUnavailable as fault:
            _log.warning("who is locked is not known: %s (%s)", fault, fault.__cause__)
        return None

    def identify(
        self, method: str, metadata: Metadata, peer: str, identified: dict[tuple[str, ...], Identity]
    ) -> Caller:
        """Returns who makes a unary call, by what came with it. Raises JitError.

        For calls that are answered together, past `intercept_service`; nothing is recorded here. `identified` are those
        who have been identified for the same answer, by what they are authorised by.
        """
        rule = RULES.get(method)
        if rule is None or rule.public or rule.anonymous or rule.proxy:
            raise AssertionError(f"{method} is not for callers who prove who they are")
        authorization = _authorization(metadata)
        if (identity := identified.get(authorization)) is None:
            identity = identified[authorization] = self._authenticator.identify_at_once(authorization)
        return with_identity(self._unauthenticated(method, metadata, peer), identity)

    def count_check(self, caller: Caller) -> None:
        """Counts a check that is answered with others. Raises RateExceeded."""
        self._quota.demand(caller, writes=False)

    def admit(self, caller: Caller, request: Message, metadata: Metadata) -> None:
        """Lets the call pass if the caller may make it and it is sound. Raises JitError."""
        if _admit(RULES.get(caller.origin.method), caller, request, metadata) is not caller:
            raise AssertionError(f"{caller.origin.method} is one that may be sent again")

    def _unauthenticated(self, method: str, metadata: Metadata, peer: str) -> Caller:
        told = user_agent = traceparent = ""
        for key, value in metadata:
            if key == "user-agent":
                user_agent = _text(value)
            elif key == "x-envoy-external-address":
                told = _text(value)
            elif key == "traceparent":
                traceparent = _text(value)
        origin = self._cached_origin(method, without_port(peer), told, user_agent)
        if traceparent and (trace := _TRACEPARENT.fullmatch(traceparent)):
            origin = replace(origin, trace_id=trace[1])
        return Caller(principal="", origin=origin)

    def _authenticate(self, caller: Caller, metadata: Metadata) -> Caller:
        return with_identity(caller, self._authenticator.identify(_authorization(metadata)))

    def _end_lost_delegations(self, caller: Caller) -> None:
        """Looks once at what each token's bearer has delegated: a right that the token does not give ends."""
        token = (caller.principal, caller.groups, caller.proved_until)
        if not caller.principal or token in self._seen_tokens:
            return
        delegations.end_lost(self._store, caller)
        if len(self._seen_tokens) >= _MAX_SEEN_TOKENS:
            self._seen_tokens.clear()
        self._seen_tokens.add(token)

    def _demand_proxy(self, method: str, metadata: Metadata, peer: str) -> None:
        key, value = _PROXY_METADATA
        if not self._trusts(peer) or _last_value(metadata, key) != value:
            raise ProxyRequired(f"{method} is for trusted proxies, with the metadata {key}: {value}")

    def _origin(self, method: str, peer: str, told: str, user_agent: str) -> Origin:
        return Origin(
            method=method,
            source_address=self._source_address(peer, told),
            user_agent=name.harmless(user_agent, _MAX_USER_AGENT),
        )

    def _source_address(self, peer: str, told: str) -> str:
        """The peer's own address, or what the trusted hop says of its client; only a real address counts."""
        own = _peer_address(peer)
        return (canonical(told) or own) if self._trusts(peer) else own

    def _trusts(self, peer: str) -> bool:
        if peer.startswith("unix:"):
            return self._trusts_unix
        return _within(_peer_address(peer), self._trusted)

    def _record(self, caller: Caller, refusal: JitError, request: Message | _MalformedRequest) -> None:
        try:
            if caller.principal:
                about = About() if isinstance(request, _MalformedRequest) else refusals.about(request)
                audit.record_refusal(self._store, caller, refusal, about)
            else:
                self._unproved.refused(caller, reason=refusal.reason)
        except StoreUnavailable as fault:
            # The call is refused all the same; only its record is lost, and the log says so.
            _log.warning("a refusal (%s, %s) is not recorded: %s", caller.origin.method, refusal.reason, fault)


def _count_questions(request: Message | _MalformedRequest) -> int:
    """Returns how many questions the call is."""
    return max(1, len(getattr(request, "items", ())))


def _authorization(metadata: Metadata) -> tuple[str, ...]:
    return tuple([_text(value) for key, value in metadata if key == "authorization"])


def with_identity(caller: Caller, identity: Identity) -> Caller:
    """Returns the caller with the identity that its token proves."""
    return Caller(
        identity.principal,
        identity.groups,
        identity.roles,
        _with_token(caller.origin, identity.issuer, identity.issuer_subject, identity.token_id),
        claims=identity.claims,
        proved_until=identity.expires_at,
        exact=identity.exact,
    )


@lru_cache(maxsize=_MAX_ORIGINS)
def _with_token(origin: Origin, issuer: str, issuer_subject: str, token_id: str) -> Origin:
    """Returns the origin with the token that the call brought."""
    return replace(origin, issuer=issuer, issuer_subject=issuer_subject, token_id=token_id)


def _admit(rule: Rule | None, caller: Caller, request: Message | _MalformedRequest, metadata: Metadata) -> Caller:
    """Returns the caller with its request, which it may make and which is sound."""
    method = caller.origin.method
    demand(rule, caller)
    caller = _with_request_id(caller, request)
    if isinstance(request, _MalformedRequest):
        raise MalformedMessage(f"the request is not the message of {method}")
    if rule is None or not rule.proxy:
        strictness.check_message(request)
    path, names = edge_metadata(metadata)
    if path is not None:
        strictness.check_path(method, path, request)
        strictness.check_json(method, names, request)
    return caller


def edge_metadata(metadata: Metadata) -> tuple[str | None, str | None]:
    """Returns what the edge says of a transcoded call: its path, and the names in its JSON; None where it says none."""
    path = names = None
    for key, value in metadata:
        if key == "x-envoy-original-path":
            path = _text(value)
        elif key == "x-jit-json-names":
            names = _text(value)
    return path, names


def without_port(peer: str) -> str:
    """Returns gRPC's name of a peer with port 0: of the port a call's origin does not depend."""
    return peer if peer.startswith("unix") else f"{peer.rpartition(':')[0]}:0"


def _peer_address(peer: str) -> str:
    """Returns the IP address of gRPC's name of a peer; none for a Unix socket."""
    kind, _, address = peer.partition(":")
    return "" if kind == "unix" else canonical(_host(address))


def _host(address: str) -> str:
    """Returns the host of gRPC's `HOST:PORT`, where an IPv6 host is in (percent-encoded) brackets."""
    host = address.rpartition(":")[0]
    return host.replace("%5B", "").replace("%5D", "").strip("[]")


def _decode(decode: Callable[[bytes], Any], data: bytes) -> Any:
    try:
        return decode(data)
    except (DecodeError, ValueError):
        return _MalformedRequest()


def _with_request_id(caller: Caller, request: Message | _MalformedRequest) -> Caller:
    """Adds what makes the request known again: its request_id, and a digest of all of it."""
    if isinstance(request, _MalformedRequest) or not _has_request_id(request.DESCRIPTOR):
        return caller
    request_id = name.request_id(getattr(request, "request_id", ""))
    digest = hashlib.sha256(caller.origin.method.encode() + b"\0" + request.SerializeToString(deterministic=True))
    origin = replace(caller.origin, request_id=request_id)
    return caller._replace(origin=origin, request_digest=digest.hexdigest())


@cache
def _has_request_id(message: Descriptor) -> bool:
    return "request_id" in message.fields_by_name


def _last_value(metadata: Metadata, wanted: str) -> str | None:
    found = None
    for key, value in metadata:
        if key == wanted:
            found = _text(value)
    return found


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def _within(address: str, networks: Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> bool:
    return bool(address) and any(ipaddress.ip_address(address) in network for network in networks)
