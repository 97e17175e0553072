"""One call on pygrpc-native, as grpcio's ServicerContext shows it to handlers."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple, NoReturn

import grpc
from pygrpc_native import STREAM_CLOSED, STREAM_FULL, NativeGrpcFront

Metadata = Sequence[tuple[str, str | bytes]]
# A stream whose client does not read is tried again after a pause that grows to this.
_FULL_SECONDS: Final = 0.01
_NO_DEADLINE: Final = float(2**63)
_log = logging.getLogger(__name__)


class Metadatum(NamedTuple):
    """One header, as grpcio gives it."""

    key: str
    value: str | bytes


class Aborted(Exception):
    """Ends a handler whose call was aborted."""


class CallContext(grpc.ServicerContext):
    """A call as grpcio shows it to handlers. Its answer and its end go to the transport."""

    # Of the class until they are set: most calls set none, and every call pays for what its construction sets.
    _over = False
    _callbacks: Sequence[Callable[[], None]] = ()
    _headers: Metadata = ()
    _trailers: Metadata = ()
    _code: grpc.StatusCode | None = None
    _details = ""

    def __init__(
        self, front: NativeGrpcFront, call_id: int, metadata: Metadata, peer: str, time_remaining: float | None
    ) -> None:
        self.call_id = call_id
        self._front = front
        self.metadata = metadata
        self._peer = peer
        self._ends_at = None if time_remaining is None else time.monotonic() + time_remaining
        self._lock = threading.Lock()

    def invocation_metadata(self) -> tuple[Metadatum, ...]:
        """Returns the headers; a key that came twice is there twice."""
        return tuple(Metadatum(key, value) for key, value in self.metadata)

    def peer(self) -> str:
        """Returns `ipv4:HOST:PORT`, `ipv6:[HOST]:PORT` or `unix:…`."""
        return self._peer

    def peer_identities(self) -> None:
        """Returns none: they come with TLS."""

    def peer_identity_key(self) -> None:
        """Returns none: it comes with TLS."""

    def auth_context(self) -> Mapping[str, bytes]:
        """Returns none: it comes with TLS."""
        return {}

    def is_active(self) -> bool:
        """Returns whether anybody still waits for the answer."""
        return not self._over

    def time_remaining(self) -> float:
        """Returns the seconds until the deadline."""
        return _NO_DEADLINE if self._ends_at is None else max(0.0, self._ends_at - time.monotonic())

    def cancel(self) -> bool:
        """Ends the call with CANCELLED, whether or not its client reads."""
        self.set_code(grpc.StatusCode.CANCELLED)
        self.set_details("cancelled by the service")
        self.fail()
        self.end()
        return True

    def add_callback(self, callback: Callable[[], None]) -> bool:
        """Has the callback called when the call ends; False where it has ended."""
        with self._lock:
            if not self._over:
                self._callbacks = (*self._callbacks, callback)
            return not self._over

    def end(self) -> None:
        """Marks the call as over and calls whoever wants to know, once."""
        with self._lock:
            self._over = True
            callbacks, self._callbacks = self._callbacks, ()
        for callback in callbacks:
            try:
                callback()
            except Exception:
                _log.exception("a callback at the end of a call failed")

    def send_initial_metadata(self, initial_metadata: Metadata) -> None:
        """Sets what goes out before the answer of a unary call; the answer takes it along."""
        self._headers = initial_metadata

    def set_trailing_metadata(self, trailing_metadata: Metadata) -> None:
        """Sets what goes out with the status."""
        self._trailers = trailing_metadata

    def trailing_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        """Returns what goes out with the status."""
        return tuple(self._trailers)

    def abort(self, code: grpc.StatusCode, details: str) -> NoReturn:
        """Ends the handler, and the call with this status."""
        self._code, self._details = code, details
        raise Aborted

    def abort_with_status(self, status: grpc.Status) -> NoReturn:
        """Ends the handler, and the call with this status."""
        self._trailers = status.trailing_metadata or ()
        self.abort(status.code, status.details)

    def set_code(self, code: grpc.StatusCode) -> None:
        """Sets the status of the answer."""
        self._code = code

    def set_details(self, details: str) -> None:
        """Sets the text of the status."""
        self._details = details

    def code(self) -> grpc.StatusCode | None:
        """Returns the status that was set."""
        return self._code

    def details(self) -> str:
        """Returns the text of the status that was set."""
        return self._details

    def set_compression(self, compression: grpc.Compression) -> None:
        """Does nothing: no answer is compressed."""

    def disable_next_message_compression(self) -> None:
        """Does nothing: no answer is compressed."""

    @property
    def has_failed(self) -> bool:
        """Whether the handler set a status of failure."""
        return self._code not in (None, grpc.StatusCode.OK)

    def respond(self, data: bytes) -> None:
        """Answers a unary call."""
        self._front.respond(
            self.call_id, data, initial_metadata=list(self._headers), trailing_metadata=list(self._trailers)
        )

    def send(self, data: bytes) -> bool:
        """Sends a message of a stream when there is room for it; False where nobody wants it any more."""
        pause = _FULL_SECONDS / 64
        while not self._over:
            sent = self._front.stream_try_send(self.call_id, data)
            if sent != STREAM_FULL:
                return sent != STREAM_CLOSED
            time.sleep(pause)
            pause = min(2 * pause, _FULL_SECONDS)
        return False

    def finish(self) -> None:
        """Ends a stream in order."""
        self._front.stream_end(self.call_id, trailing_metadata=list(self._trailers))

    def fail(self) -> None:
        """Ends the call with the status that was set."""
        code = self._code if self._code not in (None, grpc.StatusCode.OK) else grpc.StatusCode.UNKNOWN
        assert code is not None  # noqa: S101 (for mypy)
        self._front.fail(self.call_id, code.value[0], self._details, trailing_metadata=list(self._trailers))
