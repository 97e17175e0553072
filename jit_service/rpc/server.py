"""Builds the gRPC servers: all servicers behind the one interceptor, with health and reflection."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from typing import Protocol

import grpc
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from authzen.v1 import access_request_pb2, authorization_pb2
from authzen.v1.access_request_pb2_grpc import add_AccessRequestServiceServicer_to_server
from authzen.v1.authorization_pb2_grpc import add_AuthorizationServiceServicer_to_server
from jit_service.check import GrantCache
from jit_service.check.checker import Checker
from jit_service.check.search import Searcher
from jit_service.proxy.open_requests import OpenRequests
from jit_service.rpc.authentication import Authenticator
from jit_service.rpc.authzen.access_requests import AccessRequestServicer
from jit_service.rpc.authzen.servicer import AuthzenServicer
from jit_service.rpc.client_certificates import ClientCertificates
from jit_service.rpc.envoy.ext_authz import AuthorizationServicer
from jit_service.rpc.envoy.ext_proc import ExternalProcessorServicer
from jit_service.rpc.envoy.generated import external_auth_pb2, external_processor_pb2
from jit_service.rpc.envoy.generated.external_auth_pb2_grpc import add_AuthorizationServicer_to_server
from jit_service.rpc.envoy.generated.external_processor_pb2_grpc import add_ExternalProcessorServicer_to_server
from jit_service.rpc.interceptor import CallInterceptor
from jit_service.rpc.protected_resource import ProtectedResource
from jit_service.rpc.quota import Quota, Rates
from jit_service.rpc.services.access import AccessServicer
from jit_service.rpc.services.audit import AuditServicer
from jit_service.rpc.services.console import ConsoleServicer
from jit_service.rpc.services.delegations import DelegationServicer
from jit_service.rpc.services.docs import DocsServicer
from jit_service.rpc.services.edge import add_edge_method
from jit_service.rpc.services.grants import GrantServicer
from jit_service.rpc.services.health import StoreHealth
from jit_service.rpc.services.locks import LockServicer
from jit_service.rpc.services.policies import PolicyServicer
from jit_service.rpc.services.signals import SignalServicer
from jit_service.rpc.services.tokens import TokenServicer
from jit_service.rpc.streams import Streams
from jit_service.rpc.transport.check_batch import CHECK_ACCESS, BatchCheckHandler
from jit_service.rpc.transport.grpcio_calls import CallsInterceptor
from jit_service.rpc.transport.grpcio_messages import is_supported
from jit_service.settings import Settings, Transport
from jit_service.storage import Store
from jit_service.storage.head_follower import HeadFollower
from jit_service.use_cases.authzen_requests import AccessRequests
from jit_service.use_cases.past_access import PastAccess
from jit_service.use_cases.signing_keys import Issuing
from jit_service.use_cases.unauthenticated_calls import UnauthenticatedCalls
from jitaccess.extras import needed_for
from jitaccess.v1 import (
    access_pb2,
    audit_pb2,
    console_pb2,
    delegation_pb2,
    docs_pb2,
    grant_pb2,
    lock_pb2,
    policy_pb2,
    signal_pb2,
    token_pb2,
)
from jitaccess.v1.access_pb2_grpc import add_AccessServiceServicer_to_server
from jitaccess.v1.audit_pb2_grpc import add_AuditServiceServicer_to_server
from jitaccess.v1.console_pb2_grpc import add_ConsoleServiceServicer_to_server
from jitaccess.v1.delegation_pb2_grpc import add_DelegationServiceServicer_to_server
from jitaccess.v1.docs_pb2_grpc import add_DocsServiceServicer_to_server
from jitaccess.v1.grant_pb2_grpc import add_GrantServiceServicer_to_server
from jitaccess.v1.lock_pb2_grpc import add_LockServiceServicer_to_server
from jitaccess.v1.policy_pb2_grpc import add_PolicyServiceServicer_to_server
from jitaccess.v1.signal_pb2_grpc import add_SignalServiceServicer_to_server
from jitaccess.v1.token_pb2_grpc import add_TokenServiceServicer_to_server

SERVICES = tuple(
    module.DESCRIPTOR.services_by_name[service].full_name
    for module, service in (
        (grant_pb2, "GrantService"),
        (access_pb2, "AccessService"),
        (policy_pb2, "PolicyService"),
        (delegation_pb2, "DelegationService"),
        (lock_pb2, "LockService"),
        (signal_pb2, "SignalService"),
        (token_pb2, "TokenService"),
        (audit_pb2, "AuditService"),
        (external_auth_pb2, "Authorization"),
        (authorization_pb2, "AuthorizationService"),
        (access_request_pb2, "AccessRequestService"),
        (docs_pb2, "DocsService"),
        (console_pb2, "ConsoleService"),
    )
)
EXT_PROC_SERVICE = external_processor_pb2.DESCRIPTOR.services_by_name["ExternalProcessor"].full_name
"""The service for proxies alone, which has an address of its own."""
# A call beyond so many per thread is refused with RESOURCE_EXHAUSTED: no client would wait that long for a thread.
_CALLS_PER_THREAD = 32
# So many streams beyond the limit may wait for their refusal.
_REFUSED_STREAMS = 64
_REFLECTION_THREADS = 2
# A call needs a thread only until its first message, which describes the request, is read.
_EXT_PROC_THREADS = 4
# After this time without an answer, the calls of a proxy whose host is gone end.
_EXT_PROC_KEEPALIVE_MS = 20_000
# The headers that Envoy allows, and the names in a JSON body, fit into it.
_METADATA_BYTES = 96 << 10
_HEALTH_CHECK = "/grpc.health.v1.Health/Check"


class Server(Protocol):
    """The part of grpc.Server that a service uses."""

    def add_insecure_port(self, address: str) -> int: ...

    def add_secure_port(self, address: str, server_credentials: grpc.ServerCredentials) -> int: ...

    def start(self) -> None: ...

    def stop(self, grace: float | None) -> threading.Event: ...


@dataclass(frozen=True, kw_only=True)
class Backend:
    """What the servers of one service answer with. Once it is `draining`, health says no."""

    store: Store
    authenticator: Authenticator
    grants: GrantCache
    checker: Checker
    searcher: Searcher
    past: PastAccess
    follower: HeadFollower
    streams: Streams
    issuing: Issuing | None
    unproved: UnauthenticatedCalls
    resource: ProtectedResource
    certificates: ClientCertificates | None = None
    stored_claims: frozenset[str] | None = None
    draining: threading.Event = field(default_factory=threading.Event)

    def interceptor(self, trusted_proxies: Sequence[str], quota: Quota) -> CallInterceptor:
        """Returns the interceptor of an address whose peers are trusted as these proxies."""
        return CallInterceptor(
            self.store,
            self.grants,
            self.authenticator,
            self.streams,
            trusted_proxies,
            quota=quota,
            unproved=self.unproved,
            resource=self.resource,
            certificates=self.certificates,
            stored_claims=self.stored_claims,
        )


def build_server(settings: Settings, backend: Backend) -> Server:
    """Returns the server of all services, bound to nothing yet. Raises ExtraMissing."""
    quota = _new_quota(settings)

    def interceptor(trusted_proxies: Sequence[str]) -> CallInterceptor:
        return backend.interceptor(trusted_proxies, quota)

    def register(server: grpc.Server) -> None:
        _add_servicers(server, settings, backend, quota)

    if settings.transport is Transport.NATIVE:
        return _native(settings, backend.streams, interceptor, register, backend.checker)
    return _grpcio(settings, interceptor(settings.trusted_proxies), register, backend.checker)


def _add_servicers(server: grpc.Server, settings: Settings, backend: Backend, quota: Quota) -> None:
    store, checker, searcher, issuing = backend.store, backend.checker, backend.searcher, backend.issuing
    add_GrantServiceServicer_to_server(GrantServicer(store, backend.follower, settings.bounds), server)
    add_AccessServiceServicer_to_server(AccessServicer(store, checker, searcher, backend.past), server)
    requests, url = AccessRequests(store, issuing, settings.bounds), settings.token_issuer
    add_AuthorizationServiceServicer_to_server(AuthzenServicer(checker, searcher, requests, url, quota), server)
    add_AccessRequestServiceServicer_to_server(AccessRequestServicer(store, requests, url), server)
    add_PolicyServiceServicer_to_server(PolicyServicer(store, dual_control=settings.policies_dual_control), server)
    add_DelegationServiceServicer_to_server(DelegationServicer(store, settings.bounds), server)
    add_LockServiceServicer_to_server(LockServicer(store), server)
    add_SignalServiceServicer_to_server(SignalServicer(store), server)
    add_TokenServiceServicer_to_server(TokenServicer(store, issuing, backend.resource), server)
    audit_servicer = AuditServicer(store, backend.follower, issuing, source=settings.notifications_source)
    add_AuditServiceServicer_to_server(audit_servicer, server)
    ext_authz = AuthorizationServicer(store, checker, backend.authenticator, issuing, quota)
    add_AuthorizationServicer_to_server(ext_authz, server)
    add_DocsServiceServicer_to_server(DocsServicer(), server)
    add_ConsoleServiceServicer_to_server(ConsoleServicer(backend.resource), server)
    add_edge_method(server)
    health_pb2_grpc.add_HealthServicer_to_server(StoreHealth(store, SERVICES, backend.draining), server)


def _new_quota(settings: Settings) -> Quota:
    """Returns the bounds on the calls that a principal may make to this process."""
    return Quota(Rates(writes=settings.writes_per_second, checks=settings.checks_per_second))


def build_ext_proc_server(settings: Settings, backend: Backend, open_requests: OpenRequests) -> grpc.Server:
    """Returns the server at which other Envoys hold their requests open, bound to nothing yet.

    It is grpcio's server on either transport, since pygrpc-native calls a servicer only after the last message.
    """
    server = grpc.server(
        ThreadPoolExecutor(max_workers=_EXT_PROC_THREADS, thread_name_prefix="ext-proc"),
        interceptors=[backend.interceptor(settings.trusted_proxies, _new_quota(settings))],
        options=[
            ("grpc.so_reuseport", int(settings.workers > 1)),
            ("grpc.max_receive_message_length", settings.max_message_bytes),
            ("grpc.keepalive_time_ms", _EXT_PROC_KEEPALIVE_MS),
            # Envoy pings every few seconds.
            ("grpc.http2.max_ping_strikes", 0),
        ],
    )
    add_ExternalProcessorServicer_to_server(ExternalProcessorServicer(open_requests), server)
    health_of = StoreHealth(backend.store, (EXT_PROC_SERVICE,), backend.draining)
    health_pb2_grpc.add_HealthServicer_to_server(health_of, server)
    return server


class _GrpcioServer:
    """A grpcio server with the interceptor that answers its calls, whose threads end with it."""

    def __init__(self, server: grpc.Server, calls: CallsInterceptor) -> None:
        self.add_insecure_port = server.add_insecure_port
        self.add_secure_port = server.add_secure_port
        self.start = server.start
        self._server = server
        self._calls = calls

    def stop(self, grace: float | None) -> threading.Event:
        """As grpc.Server's: refuses new calls, and lets those under way end for up to `grace` seconds."""
        stopped = self._server.stop(grace)

        def close() -> None:
            stopped.wait()
            self._calls.close()

        threading.Thread(target=close, name="stop", daemon=True).start()
        return stopped


def _grpcio(
    settings: Settings, interceptor: CallInterceptor, register: Callable[[grpc.Server], None], checker: Checker
) -> Server:
    pool = ThreadPoolExecutor(max_workers=settings.rpc_threads, thread_name_prefix="rpc")
    most = settings.rpc_threads * _CALLS_PER_THREAD
    calls = CallsInterceptor(
        {CHECK_ACCESS: _check_handler(interceptor, checker)},
        pool,
        most=most,
        streams=settings.watch_streams,
        aside={_HEALTH_CHECK: ThreadPoolExecutor(max_workers=1, thread_name_prefix="aside")},
        shown=interceptor.admission.shown,
    )
    server = grpc.server(
        pool,
        # Where grpcio is not as it was, each call has its thread at once: slower, and no less right.
        interceptors=[calls, interceptor] if is_supported() else [interceptor],
        options=[
            # Without it a second server would silently share the port.
            ("grpc.so_reuseport", int(settings.workers > 1)),
            ("grpc.max_receive_message_length", settings.max_message_bytes),
            ("grpc.max_metadata_size", _METADATA_BYTES),
            ("grpc.absolute_max_metadata_size", _METADATA_BYTES),
        ],
        maximum_concurrent_rpcs=most + settings.watch_streams,
    )
    register(server)
    if settings.reflection:
        _add_reflection(server)
    return _GrpcioServer(server, calls)


def _native(
    settings: Settings,
    streams: Streams,
    interceptor: Callable[[Sequence[str]], CallInterceptor],
    register: Callable[[grpc.Server], None],
    checker: Checker,
) -> Server:
    with needed_for("`--transport native`", "jit-service[native]"):
        from jit_service.rpc.transport.native import Limits, NativeServer
    limits = Limits(
        threads=settings.rpc_threads,
        waiting=settings.rpc_threads * _CALLS_PER_THREAD,
        streams=settings.watch_streams + _REFUSED_STREAMS,
        message_bytes=settings.max_message_bytes,
        metadata_bytes=_METADATA_BYTES,
    )
    # Only at the address of a Unix socket is a peer trusted that claims to be on one.
    elsewhere = tuple(proxy for proxy in settings.trusted_proxies if proxy != "unix")

    # One for each kind of address: what it has met, it has met for the batches too.
    @cache
    def of_address(unix: bool) -> CallInterceptor:
        return interceptor(settings.trusted_proxies if unix else elsewhere)

    return NativeServer(
        limits,
        streams=streams.pool,
        interceptor=of_address,
        register=register,
        register_behind=_add_reflection if settings.reflection else None,
        aside=frozenset({_HEALTH_CHECK}),
        batch_handlers=lambda unix: {CHECK_ACCESS: _check_handler(of_address(unix), checker)},
        share_port=settings.workers > 1,
    )


def _check_handler(interceptor: CallInterceptor, checker: Checker) -> BatchCheckHandler:
    """Returns what answers checks in batches at the interceptor's address."""
    return BatchCheckHandler(interceptor.admission, checker, has_met=interceptor.has_met)


def _add_reflection(server: grpc.Server) -> None:
    """Adds reflection on its own threads: it needs no token, and clients may hold its streams open."""
    servicer = reflection.ReflectionServicer((*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME))
    answer = servicer.ServerReflectionInfo

    def info(requests: object, context: grpc.ServicerContext) -> Iterator[object]:
        yield from answer(requests, context)

    info.experimental_thread_pool = ThreadPoolExecutor(_REFLECTION_THREADS)  # type: ignore[attr-defined]
    servicer.ServerReflectionInfo = info
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, server)
