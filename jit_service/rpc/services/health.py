"""The servicer of grpc.health.v1."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator

import grpc
from grpc_health.v1 import health, health_pb2

from jit_service.domain.errors import Unavailable
from jit_service.rpc.services.edge import SERVICE as EDGE
from jit_service.storage import Store


class StoreHealth(health.HealthServicer):  # type: ignore[misc]
    """Health by the store. The server as a whole is healthy while the store reads and writes, a service while it reads.

    A load balancer asks about the whole, and sends nothing to a server that cannot write. Envoy asks about a service,
    and goes on passing calls to a server that only reads; a write that fails there gets the reason as its answer.

    Neither sends anything new to a server that is `draining`. Envoy beside the server, which has no other to send it
    to, asks about jitaccess.edge instead: that stays healthy while the store reads, also then.
    """

    def __init__(self, store: Store, services: Collection[str], draining: threading.Event) -> None:
        super().__init__(experimental_non_blocking=False)
        self._store = store
        self._services = frozenset(services) | {EDGE}
        self._draining = draining

    def Check(self, request: health_pb2.HealthCheckRequest, context: grpc.ServicerContext) -> object:
        """Answers SERVING while the store answers and, for the server as a whole, also takes writes; see the class."""
        if request.service and request.service not in self._services:
            context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
        if self._draining.is_set() and request.service != EDGE:
            return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.NOT_SERVING)
        try:
            with self._store.snapshot():
                pass
            if not request.service:
                self._store.prove_writing()
            status = health_pb2.HealthCheckResponse.SERVING
        except Unavailable:
            status = health_pb2.HealthCheckResponse.NOT_SERVING
        return health_pb2.HealthCheckResponse(status=status)

    def Watch(self, request: health_pb2.HealthCheckRequest, context: grpc.ServicerContext) -> Iterator[object]:
        """Refuses the call, as grpc.health.v1 allows: it would hold a thread for any client without a token."""
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "ask with Check")
