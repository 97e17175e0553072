"""The clients of an in-memory service: the real ones, without a network between."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from jitaccess.aio import AsyncJitClient
from jitaccess.client import JitClient
from jitaccess.contract.calls.call import Call
from jitaccess.errors import Misconfigured

if TYPE_CHECKING:
    from jitaccess.testing.memory import MemoryService

T = TypeVar("T")
_ADDRESS = "memory"


class MemoryClient(JitClient):
    """A JitClient whose calls the in-memory service answers."""

    def __init__(self, service: MemoryService) -> None:
        self._service = service

    @property
    def address(self) -> str:
        """Where the service is."""
        return _ADDRESS

    def close(self) -> None:
        """There is no connection to close."""

    def send(self, call: Call[T], *, timeout: float | None = None) -> T:  # noqa: ARG002 (it is there at once)
        """Makes a call, and returns its answer."""
        return call.read_answer(self._service.answer(call.rpc, call.request))

    def open_stream(self, call: Call[T]) -> Any:
        """No stream is offered."""
        raise Misconfigured(f"the in-memory service does not offer {call.rpc}", reason="NOT_OFFERED")


class AsyncMemoryClient(AsyncJitClient):
    """An AsyncJitClient whose calls the in-memory service answers."""

    def __init__(self, service: MemoryService) -> None:
        self._service = service

    @property
    def address(self) -> str:
        """Where the service is."""
        return _ADDRESS

    async def close(self) -> None:
        """There is no connection to close."""

    async def send(self, call: Call[T], *, timeout: float | None = None) -> T:  # noqa: ARG002 (it is there at once)
        """Makes a call, and returns its answer."""
        return call.read_answer(self._service.answer(call.rpc, call.request))

    def open_stream(self, call: Call[T]) -> Any:
        """No stream is offered."""
        raise Misconfigured(f"the in-memory service does not offer {call.rpc}", reason="NOT_OFFERED")
