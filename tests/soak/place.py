"""What a run's clients know of the service that they call: where it is, and how to be somebody there."""

from __future__ import annotations

import threading
from typing import Protocol

from jit_service.settings import Address
from tests.world import Person

REST = "REST"
"""The way through Envoy. The other ways are gRPC, straight to one process."""


class Place(Protocol):
    """A service that can be called, whatever befalls it meanwhile."""

    @property
    def stopping(self) -> threading.Event:
        """Set when the clients are to end."""

    @property
    def ways(self) -> tuple[str, ...]:
        """The ways to call: a process each, and last REST."""

    @property
    def http(self) -> Address:
        """Where Envoy is now."""

    @property
    def grpc(self) -> Address:
        """Where floods go: all processes, or one of them."""

    def address_of(self, way: str) -> str:
        """Returns where a process answers gRPC now."""

    def token(self, person: Person) -> str:
        """Returns a token of the person that outlives the run."""
