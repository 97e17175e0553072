"""A service whose ports have TLS, and who signs the certificates that it and its clients have."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from jit_service.domain.caller import Role
from jit_service.runtime.dev_issuer import DevIssuer
from jit_service.runtime.service import Service
from jit_service.settings import Address, Settings
from jitaccess.v1 import access_pb2
from jitaccess.v1.access_pb2_grpc import AccessServiceStub
from tests.certificates import HOUR, Authority, Pair
from tests.conftest import Clock


@dataclass
class Secure:
    """A service with TLS, and who signs the certificates that it knows."""

    service: Service
    address: Address
    passing: Address
    authority: Authority
    server: Pair
    clients: Authority
    issuer: DevIssuer
    clock: Clock
    stack: ExitStack

    def channel(self, shows: Pair | None = None, *, to: Address | None = None) -> grpc.Channel:
        chain, key = (shows.chain.read_bytes(), shows.key.read_bytes()) if shows else (None, None)
        credentials = grpc.ssl_channel_credentials(self.authority.file.read_bytes(), key, chain)
        # Else a channel would share another's connection, whose certificate it would not show.
        options = [("grpc.use_local_subchannel_pool", 1)]
        return self.stack.enter_context(
            grpc.secure_channel(f"localhost:{(to or self.address).port}", credentials, options)
        )

    def token(self, principal: str, *roles: Role) -> tuple[str, str]:
        token = self.issuer.token(principal, groups=(), roles=roles, now=self.clock(), ttl=HOUR)
        return ("authorization", f"Bearer {token}")

    def who(self, channel: grpc.Channel, *metadata: tuple[str, str]) -> access_pb2.WhoAmIResponse:
        return AccessServiceStub(channel).WhoAmI(access_pb2.WhoAmIRequest(), metadata=metadata, timeout=10)

    def refused(self, channel: grpc.Channel, *metadata: tuple[str, str]) -> str:
        with pytest.raises(grpc.RpcError) as refused:
            self.who(channel, *metadata)
        return f"{refused.value.code().name}: {refused.value.details()}"

    def renew(self) -> Pair:
        return self.authority.sign("server", dns=["localhost"])


def started(
    stack: ExitStack,
    directory: Path,
    url: str,
    clock: Clock,
    *,
    principals: Any,
    mutual: bool = True,
    **settings: Any,
) -> Secure:
    """Starts a service on loopback, which the stack ends. With `mutual` TLS it demands certificates of its clients."""
    authority, clients = Authority(directory, "ca"), Authority(directory, "clients")
    server = authority.sign("server", dns=["localhost"])
    issuer = DevIssuer(directory)
    mtls = {"tls_client_ca": clients.file, "tls_principals": principals} if mutual else {}
    files = {"tls_cert": server.chain, "tls_key": server.key}
    usual = {"data_dir": directory, "database_url": url, "sweep_interval": timedelta(days=1)}
    service = Service(Settings.load(**usual, **files, **mtls, **settings).with_issuer(issuer.issuer()), clock=clock)
    stack.callback(service.stop)
    address = service.listen(Address("127.0.0.1", 0))
    passing = service.listen_passing(Address("127.0.0.1", 0))
    service.start()
    return Secure(service, address, passing, authority, server, clients, issuer, clock, stack)
