"""A service without Envoy, on each transport, small enough to be overloaded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import grpc
import pytest

from jit_service.runtime.dev_issuer import DevIssuer
from jit_service.runtime.service import Service
from jit_service.settings import Address, Settings
from tests.conftest import Clock
from tests.world import Grpc, Person, Story

LOOPBACK = Address("127.0.0.1", 0)


@dataclass
class Rig:
    """A running service: as much of a World as calls over gRPC need."""

    service: Service
    issuer: DevIssuer
    clock: Clock
    settings: Settings
    grpc: Address = LOOPBACK
    channels: list[grpc.Channel] = field(default_factory=list)

    @cached_property
    def channel(self) -> grpc.Channel:
        return self.connect(str(self.grpc))

    def connect(self, target: str) -> grpc.Channel:
        """Returns a channel with a connection of its own."""
        channel = grpc.insecure_channel(target, options=[("grpc.use_local_subchannel_pool", 1)])
        self.channels.append(channel)
        return channel

    def token(self, person: Person) -> str:
        return self.issuer.token(
            person.principal, groups=person.groups, roles=person.roles, now=self.clock(), ttl=timedelta(hours=1)
        )

    def story(self) -> Story:
        return Story(self, Grpc(self))  # type: ignore[arg-type]


Serve = Callable[..., Rig]


@pytest.fixture
def serve(tmp_path: Path, sqlite_url: str, clock: Clock, transport: str) -> Iterator[Serve]:
    """Starts services with settings of their own; `unix` is the path of a socket to listen on too."""
    with ExitStack() as stack:

        def serve(*, listen: Address = LOOPBACK, unix: Path | None = None, **settings: Any) -> Rig:
            issuer = DevIssuer(tmp_path)
            usual = {"data_dir": tmp_path, "database_url": sqlite_url, "sweep_interval": timedelta(days=1)}
            made = Settings.load(**(usual | {"transport": transport} | settings)).with_issuer(issuer.issuer())
            rig = Rig(Service(made, clock=clock), issuer, clock, made)
            stack.callback(rig.service.stop)
            rig.grpc = rig.service.listen(listen)
            if unix is not None:
                rig.service.listen_unix(unix)
            rig.service.start()
            stack.callback(lambda: [channel.close() for channel in rig.channels])
            return rig

        yield serve
