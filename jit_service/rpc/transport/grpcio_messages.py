"""Has a grpcio server read the message of a call before it gives the call a thread.

grpcio gives each call a thread of its pool, which then waits for the message and is woken for it. So whoever sends
headers and no message holds a thread, and sixteen such calls, which need no token, stopped the service. Here the
thread that reads the wire begins to read the message too, and hands on what has come
(docs/adr/0054-answer-checks-in-batches-on-grpcio.md).

grpcio lets a handler name the pool that its calls run on (`experimental_thread_pool`). The one here reads instead of
running. How to read, and how to end a call without a thread that waits for it, only private parts of grpcio tell.
`is_supported` says whether they are as in the releases that this was written for.
"""

from __future__ import annotations

import inspect
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final

import grpc
from grpc import _server as grpcio
from grpc._cython import cygrpc  # type: ignore[attr-defined]

from jit_service.domain.errors import JitError, TooManyCalls
from jit_service.rpc import errors

_RESPOND: Final = [
    "rpc_event",
    "state",
    "behavior",
    "argument_thunk",
    "request_deserializer",
    "response_serializer",
]
_SIGNATURES: Final = {
    "_status": ["rpc_event", "state", "serialized_response"],
    "_possibly_finish_call": ["state", "token"],
    "_select_thread_pool_for_behavior": ["behavior", "default_thread_pool"],
    "_unary_response_in_pool": _RESPOND,
    "_stream_response_in_pool": _RESPOND,
}
_DUE: Final = "receive_message"
"""grpcio's name for what a call waits for while its message is read."""
_NO_FLAGS: Final = 0
_log = logging.getLogger(__name__)


def is_supported() -> bool:
    """Whether the installed grpcio has the private parts that this rests on."""
    functions = {name: getattr(grpcio, name, None) for name in _SIGNATURES}
    known = all(
        function is not None and list(inspect.signature(function).parameters) == _SIGNATURES[name]
        for name, function in functions.items()
    )
    reads = hasattr(cygrpc, "ReceiveMessageOperation")
    return known and reads and {"_rpc_event", "_state"} <= set(getattr(grpcio._Context, "__annotations__", ()))


class Call:
    """A call on a server. `message` is empty until it has come."""

    __slots__ = ("_arguments", "context", "message")

    def __init__(self, arguments: tuple[Any, ...]) -> None:
        """Takes what grpcio gives a thread of its pool to run: the call's context, then a function and its arguments.

        These are the names in `_RESPOND`.
        """
        self._arguments = arguments
        _, _, event, state, _, _, decode, _ = arguments
        self.context: Any = grpcio._Context(event, state, decode)
        self.message = b""

    def read(self, then: Callable[[Any], Any]) -> None:
        """Begins to read the message. The thread that reads the wire tells `then` of what has come."""
        state = self.context._state
        with state.condition:
            operation = cygrpc.ReceiveMessageOperation(_NO_FLAGS)
            self.context._rpc_event.call.start_server_batch((operation,), then)
            state.due.add(_DUE)

    def has_read(self) -> Any:
        """Tells grpcio that nothing is read any more. Returns what it asks of what it has told."""
        state = self.context._state
        with state.condition:
            return grpcio._possibly_finish_call(state, _DUE)

    def run(self) -> None:
        """Runs the method's handler on this thread, which sends the answer; for a call that is over, does nothing."""
        run, respond, event, state, behaviour, _, decode, encode = self._arguments
        run(respond, event, state, behaviour, self._request, decode, encode)

    def send(self, answer: bytes) -> None:
        """Ends the call with the encoded answer."""
        self._finish(answer)

    def refuse(self, error: JitError) -> None:
        """Ends the call with the error."""
        errors.describe(self.context, error)
        self._finish(None)

    def end(self, code: grpc.StatusCode, details: str) -> None:
        """Ends the call with a status."""
        self.context.set_code(code)
        self.context.set_details(details)
        self._finish(None)

    def _finish(self, answer: bytes | None) -> None:
        grpcio._status(self.context._rpc_event, self.context._state, answer)

    def _request(self) -> Any:
        """Returns the message as the handler takes it; None where the call is over, or ends as it cannot be decoded."""
        decode = self.context._request_deserializer
        if not self.context.is_active():
            return None
        try:
            return self.message if decode is None else decode(self.message)
        except Exception:
            self.end(grpc.StatusCode.INTERNAL, "Exception deserializing request!")
            return None


class Silent:
    """The calls of a server whose message has not come, `most` at the most.

    With one more, the one that has been silent for longest is refused: who sends no message must not keep others out.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        # In the order in which they came.
        self._calls: dict[int, Call] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._calls)

    def add(self, call: Call) -> None:
        """Adds a call."""
        with self._lock:
            self._calls[id(call)] = call
            oldest = self._calls.pop(next(iter(self._calls))) if len(self._calls) > self._most else None
        if oldest is not None:
            oldest.refuse(TooManyCalls(f"{self._most} calls that came later have sent no message either"))

    def remove(self, call: Call) -> bool:
        """Removes a call that is silent no more. Returns whether it was not refused."""
        with self._lock:
            return self._calls.pop(id(call), None) is not None


class MessageFirst(ThreadPoolExecutor):
    """To grpcio it is the pool of a method's calls. It has no thread: it reads, and gives `then` what has come.

    `then` gets each call with its message. It runs on the thread that reads the wire, so it must not wait.
    """

    def __init__(self, method: str, silent: Silent, then: Callable[[Call], None]) -> None:
        super().__init__(max_workers=1)
        self._method = method
        self._silent = silent
        self._then = then

    def submit(self, /, *arguments: Any, **_: Any) -> Any:
        """Begins to read a call's message. Returns nothing to wait for: grpcio's own bound does not count the call."""
        call = Call(arguments)
        self._silent.add(call)
        call.read(partial(self._has_come, call))

    def _has_come(self, call: Call, read: Any) -> Any:
        waited = self._silent.remove(call)
        try:
            message: bytes | None = read.batch_operations[0].message()
            if message is not None and waited:
                call.message = message
                self._then(call)
            elif waited:
                # The client has closed its side, or gone.
                call.end(grpc.StatusCode.UNIMPLEMENTED, f"{self._method} requires exactly one request message.")
        except Exception:
            # Nothing may end the thread that reads the wire.
            _log.exception("a call of %s is not answered", self._method)
            if call.context.is_active():
                call.end(grpc.StatusCode.INTERNAL, errors.INTERNAL_MESSAGE)
        return call.has_read()
