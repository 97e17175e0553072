"""The gRPC server: the servicers, health and reflection behind the one interceptor."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from jit_service.access import Checker
from jit_service.domain.errors import StoreUnavailable
from jit_service.rpc.access import AccessServicer
from jit_service.rpc.audit import AuditServicer
from jit_service.rpc.call import CallInterceptor
from jit_service.rpc.delegations import DelegationServicer
from jit_service.rpc.grants import GrantServicer
from jit_service.rpc.identity import Authenticator
from jit_service.rpc.policies import PolicyServicer
from jit_service.rpc.signals import SignalServicer
from jit_service.rpc.streams import Streams
from jit_service.rpc.tokens import TokenServicer
from jit_service.settings import Settings
from jit_service.signing_keys import Issuing
from jit_service.storage import Store
from jit_service.watch import Feed
from jitaccess.v1 import access_pb2, audit_pb2, delegation_pb2, grant_pb2, policy_pb2, signal_pb2, token_pb2
from jitaccess.v1.access_pb2_grpc import add_AccessServiceServicer_to_server
from jitaccess.v1.audit_pb2_grpc import add_AuditServiceServicer_to_server
from jitaccess.v1.delegation_pb2_grpc import add_DelegationServiceServicer_to_server
from jitaccess.v1.grant_pb2_grpc import add_GrantServiceServicer_to_server
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
        (signal_pb2, "SignalService"),
        (token_pb2, "TokenService"),
        (audit_pb2, "AuditService"),
    )
)
# Beyond it a call is refused with RESOURCE_EXHAUSTED instead of waiting for a thread longer than anybody would.
_CALLS_PER_THREAD = 32


class StoreHealth(health.HealthServicer):  # type: ignore[misc]
    """Health that asks the store: a service that cannot read it serves nobody."""

    def __init__(self, store: Store) -> None:
        super().__init__()
        self._store = store

    def Check(self, request: health_pb2.HealthCheckRequest, context: grpc.ServicerContext) -> object:
        """Answers SERVING only while the store answers."""
        if request.service not in ("", *SERVICES):
            context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
        try:
            with self._store.snapshot():
                status = health_pb2.HealthCheckResponse.SERVING
        except StoreUnavailable:
            status = health_pb2.HealthCheckResponse.NOT_SERVING
        return health_pb2.HealthCheckResponse(status=status)


def build_server(
    settings: Settings,
    store: Store,
    authenticator: Authenticator,
    *,
    checker: Checker,
    feed: Feed,
    streams: Streams,
    issuing: Issuing | None,
) -> grpc.Server:
    """Returns the server, bound to nothing yet."""
    server = grpc.server(
        ThreadPoolExecutor(max_workers=settings.rpc_threads, thread_name_prefix="rpc"),
        interceptors=[CallInterceptor(store, authenticator, streams, settings.trusted_proxies)],
        options=[
            # Without it a second server would silently share the port.
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", settings.max_message_bytes),
            # Envoy's bounds on headers, and the names in a JSON body, fit into it.
            ("grpc.max_metadata_size", 96 << 10),
            ("grpc.absolute_max_metadata_size", 96 << 10),
        ],
        maximum_concurrent_rpcs=settings.rpc_threads * _CALLS_PER_THREAD + settings.watch_streams,
    )
    add_GrantServiceServicer_to_server(GrantServicer(store, feed), server)
    add_AccessServiceServicer_to_server(AccessServicer(checker), server)
    add_PolicyServiceServicer_to_server(PolicyServicer(store, dual_control=settings.policies_dual_control), server)
    add_DelegationServiceServicer_to_server(DelegationServicer(store), server)
    add_SignalServiceServicer_to_server(SignalServicer(store), server)
    add_TokenServiceServicer_to_server(TokenServicer(store, issuing), server)
    add_AuditServiceServicer_to_server(AuditServicer(store), server)
    health_pb2_grpc.add_HealthServicer_to_server(StoreHealth(store), server)
    if settings.reflection:
        reflection.enable_server_reflection((*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    return server
