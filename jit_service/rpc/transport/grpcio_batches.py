"""Has a grpcio server answer the waiting calls of a unary method in batches, by one thread.

grpcio gives each unary call a thread, which has to wait for its answer. Threads that wait for one batch are woken one
after the other, and that took more time than the checks did. Here a call leaves its thread as soon as its message is
read, and whoever answers the batch sends each answer itself (docs/adr/0054-answer-checks-in-batches-on-grpcio.md).

grpcio has a public way to keep a call open without a thread, `experimental_non_blocking`, but only private functions
end such a call without waiting for it. `is_supported` says whether they are as in the releases that this was written
for; without them each call keeps its thread.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from contextvars import Context
from functools import partial
from itertools import count
from typing import Any, Final, TypeAlias

import grpc
from grpc import _server as grpcio

from jit_service.domain.errors import JitError, TooManyCalls
from jit_service.rpc import errors
from jit_service.rpc.admission import Call
from jit_service.rpc.calls_seen import saw_refused
from jit_service.rpc.client_certificates import NOTHING_SHOWN, Shown
from jit_service.rpc.transport.batch_queue import BatchQueue, Waiting
from jit_service.rpc.transport.check_batch import Answer, BatchHandler

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
_SIGNATURES: Final = {
    "_status": ["rpc_event", "state", "serialized_response"],
    "_unary_response_in_pool": [
        "rpc_event",
        "state",
        "behavior",
        "argument_thunk",
        "request_deserializer",
        "response_serializer",
    ],
}


def is_supported() -> bool:
    """Whether the installed grpcio has the private functions that this rests on."""
    functions = {name: getattr(grpcio, name, None) for name in _SIGNATURES}
    known = all(
        function is not None and list(inspect.signature(function).parameters) == _SIGNATURES[name]
        for name, function in functions.items()
    )
    return known and {"_rpc_event", "_state"} <= set(getattr(grpcio._Context, "__annotations__", ()))


class BatchingInterceptor(grpc.ServerInterceptor):
    """Gives the methods of `batches` a handler that answers in batches, and all others the one that they have.

    It comes before every other interceptor. They must decide by the method alone, since each method's handler is asked
    for once. A call that has no answer in its batch is answered by that handler, on a thread of the `pool`.

    Of each method at most so many calls as `most` wait or are being answered; more are refused with TOO_MANY_CALLS.
    grpcio's own bound does not count a call that has left its thread. `shown` tells the client certificate of a call.
    """

    def __init__(
        self,
        batches: Mapping[str, BatchHandler],
        pool: Executor,
        *,
        most: int,
        shown: Callable[[grpc.ServicerContext], Shown] = lambda _: NOTHING_SHOWN,
    ) -> None:
        self._shown = shown
        self._batches = batches
        self._pool = pool
        self._most = most
        self._handlers: dict[str, Handler] = {}
        self.calls: list[_Calls] = []
        self._lock = threading.Lock()

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Handler | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Returns the method's handler; None for a method that the server has not."""
        method = handler_call_details.method
        if (known := self._handlers.get(method)) is not None:
            return known
        with self._lock:
            if (known := self._handlers.get(method)) is None and (found := continuation(handler_call_details)):
                known = self._handlers[method] = self._batched(method, found) if method in self._batches else found
        return known

    def close(self) -> None:
        """Ends the threads that answer."""
        with self._lock:
            for calls in self.calls:
                calls.queue.close()

    def _batched(self, method: str, plain: Handler) -> Handler:
        if plain.unary_unary is None:
            raise TypeError(f"{method} is no unary method, and only such are answered in batches")
        queue = BatchQueue(method, self._batches[method])
        calls = _Calls(method, queue, plain, self._pool, most=self._most, shown=self._shown)
        self.calls.append(calls)
        work = (calls.still_waits, calls.answer)
        threading.Thread(target=queue.run, args=work, name="batch", daemon=True).start()
        take: Any = partial(calls.take)
        take.experimental_non_blocking = True
        # On the wire a unary call and a stream of one message are the same, and only a stream may end later.
        return grpc.unary_stream_rpc_method_handler(take)


class _Calls:
    """The calls of one method that wait or are being answered, `most` at the most."""

    def __init__(
        self,
        method: str,
        queue: BatchQueue,
        plain: Handler,
        pool: Executor,
        *,
        most: int,
        shown: Callable[[grpc.ServicerContext], Shown],
    ) -> None:
        self._shown = shown
        self.queue = queue
        self._method = method
        self._plain = plain
        self._pool = pool
        self._most = most
        self._contexts: dict[int, Any] = {}
        self._numbers = count()

    def take(self, payload: bytes, context: grpc.ServicerContext, _: Callable[[object], None]) -> None:
        """Takes a call from its thread, which goes on to the next."""
        if len(self._contexts) >= self._most:
            refusal = TooManyCalls(f"{self._most} calls wait already; try again later")
            saw_refused(self._method, refusal)
            _refuse(context, refusal)
            return
        number = next(self._numbers)
        self._contexts[number] = context
        call = Call(payload, context.invocation_metadata(), context.peer(), self._shown(context))
        self.queue.put((number, None, call))

    def still_waits(self, number: int) -> bool:
        """Whether anybody waits for the answer; what was cancelled, or is over its deadline, is forgotten."""
        if self._contexts[number].is_active():
            return True
        del self._contexts[number]
        return False

    def answer(self, waiting: Sequence[Waiting], answers: Sequence[Answer]) -> None:
        """Sends the answers; calls without one are answered by themselves."""
        for (number, _, call), answer in zip(waiting, answers, strict=True):
            if answer is None:
                self._pool.submit(Context().run, self._by_itself, number, call.payload)
                continue
            context = self._contexts.pop(number)
            if isinstance(answer, bytes):
                grpcio._status(context._rpc_event, context._state, answer)
            else:
                _refuse(context, answer)

    def _by_itself(self, number: int, payload: bytes) -> None:
        context, decode = self._contexts[number], self._plain.request_deserializer
        behaviour: Any = self._plain.unary_unary
        try:
            request = payload if decode is None else decode(payload)
            grpcio._unary_response_in_pool(
                context._rpc_event,
                context._state,
                behaviour,
                lambda: request,
                decode,
                self._plain.response_serializer,
            )
        finally:
            del self._contexts[number]


def _refuse(context: Any, error: JitError) -> None:
    errors.describe(context, error)
    grpcio._status(context._rpc_event, context._state, None)
