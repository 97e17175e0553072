"""Answers the calls of a grpcio server: those of some methods in batches by one thread, all others each on a thread.

Threads that wait for one batch are woken one after the other, and that took more time than the checks did. So a call
that is answered in a batch has no thread: it waits in a queue, and whoever answers the batch sends each answer itself
(docs/adr/0054-answer-checks-in-batches-on-grpcio.md).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from functools import partial
from itertools import count
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import grpc

from jit_service.domain.errors import TooManyCalls
from jit_service.rpc import admission
from jit_service.rpc.calls_seen import saw_refused
from jit_service.rpc.client_certificates import NOTHING_SHOWN, Shown
from jit_service.rpc.transport.batch_queue import BatchQueue, Waiting
from jit_service.rpc.transport.check_batch import Answer, BatchHandler
from jit_service.rpc.transport.grpcio_messages import Call, MessageFirst, Silent

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
_MAX_SILENT: Final = 512
"""How many calls of a server may have sent no message yet."""


class CallsInterceptor(grpc.ServerInterceptor):
    """Gives the methods of `batches` a handler that answers in batches, and the others of one message one on a thread.

    It comes before every other interceptor. They must decide by the method alone, since each method's handler is asked
    for once. A call that has no answer in its batch is answered by that handler, on a thread of the `pool`.

    Calls run on the `pool`, but those of the methods in `aside` have threads of their own, so that a flood does not
    make the service look ill, and streams have those of their handler, where so many as `streams` may be open. Of each
    such pool, and of each method of `batches`, at most so many calls as `most` wait or are being answered; more are
    refused with TOO_MANY_CALLS. grpcio's own bound counts none of them. `shown` tells the client certificate of a call.
    """

    def __init__(
        self,
        batches: Mapping[str, BatchHandler],
        pool: Executor,
        *,
        most: int,
        streams: int = 0,
        aside: Mapping[str, Executor] = MappingProxyType({}),
        shown: Callable[[grpc.ServicerContext], Shown] = lambda _: NOTHING_SHOWN,
    ) -> None:
        self._shown = shown
        self._batches = batches
        self._aside = aside
        self._most = most
        self._streams = streams
        self._silent = Silent(_MAX_SILENT)
        self._threads = _Threads(pool, most)
        self._pools: dict[Executor, _Threads] = {pool: self._threads}
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
                known = self._handlers[method] = self._handler(method, found)
        return known

    def close(self) -> None:
        """Ends the threads that answer batches."""
        with self._lock:
            for calls in self.calls:
                calls.queue.close()

    def _handler(self, method: str, found: Handler) -> Handler:
        """Returns the handler with the same behaviour, which has a thread only once its message has come."""
        if found.request_streaming:
            return found
        plain: Any = found.unary_unary or found.unary_stream
        behaviour: Any = partial(plain)
        behaviour.experimental_thread_pool = MessageFirst(method, self._silent, self._taker(method, found, plain))
        kind = grpc.unary_stream_rpc_method_handler if found.response_streaming else grpc.unary_unary_rpc_method_handler
        return kind(behaviour, found.request_deserializer, found.response_serializer)

    def _taker(self, method: str, found: Handler, plain: Any) -> Callable[[Call], None]:
        """Returns what takes the method's calls."""
        if method in self._batches:
            if found.response_streaming:
                raise TypeError(f"{method} is no unary method, and only such are answered in batches")
            return self._batched(method)
        pool = self._aside.get(method) or getattr(plain, "experimental_thread_pool", None)
        if pool is None:
            return partial(self._threads.take, method)
        most = self._most + self._streams * found.response_streaming
        return partial(self._pools.setdefault(pool, _Threads(pool, most)).take, method)

    def _batched(self, method: str) -> Callable[[Call], None]:
        queue = BatchQueue(method, self._batches[method])
        calls = _Calls(method, queue, self._threads, most=self._most, shown=self._shown)
        self.calls.append(calls)
        work = (calls.still_waits, calls.answer)
        threading.Thread(target=queue.run, args=work, name="batch", daemon=True).start()
        return calls.take


class _Threads:
    """Runs calls on the threads of a pool; at most so many as `most` wait or run."""

    def __init__(self, pool: Executor, most: int) -> None:
        self._pool = pool
        self._most = most
        self._taken = 0
        self._lock = threading.Lock()

    def take(self, method: str, call: Call) -> None:
        """Has a call run, or refuses it."""
        with self._lock:
            if fits := self._taken < self._most:
                self._taken += 1
        if fits:
            self.run(call, self._leave)
        else:
            _turn_away(method, call, self._most)

    def run(self, call: Call, then: Callable[[], object]) -> None:
        """Has a call run that is counted already, and then does what ends that."""

        def run() -> None:
            try:
                call.run()
            finally:
                then()

        self._pool.submit(run)

    def _leave(self) -> None:
        with self._lock:
            self._taken -= 1


class _Calls:
    """The calls of one method that wait or are being answered, `most` at the most."""

    def __init__(
        self,
        method: str,
        queue: BatchQueue,
        threads: _Threads,
        *,
        most: int,
        shown: Callable[[grpc.ServicerContext], Shown],
    ) -> None:
        self._shown = shown
        self.queue = queue
        self._method = method
        self._threads = threads
        self._most = most
        self._calls: dict[int, Call] = {}
        self._numbers = count()

    def take(self, call: Call) -> None:
        """Takes a call to the queue, or refuses it."""
        if len(self._calls) >= self._most:
            _turn_away(self._method, call, self._most)
            return
        number, context = next(self._numbers), call.context
        asked = admission.Call(call.message, context.invocation_metadata(), context.peer(), self._shown(context))
        # Only now: a call that cannot be taken must not count for ever.
        self._calls[number] = call
        self.queue.put((number, None, asked))

    def still_waits(self, number: int) -> bool:
        """Whether anybody waits for the answer; what was cancelled, or is over its deadline, is forgotten."""
        if self._calls[number].context.is_active():
            return True
        del self._calls[number]
        return False

    def answer(self, waiting: Sequence[Waiting], answers: Sequence[Answer]) -> None:
        """Sends the answers; calls without one are answered by themselves."""
        for (number, *_), answer in zip(waiting, answers, strict=True):
            if answer is None:
                self._threads.run(self._calls[number], partial(self._calls.__delitem__, number))
                continue
            call = self._calls.pop(number)
            if isinstance(answer, bytes):
                call.send(answer)
            else:
                call.refuse(answer)


def _turn_away(method: str, call: Call, most: int) -> None:
    refusal = TooManyCalls(f"{most} calls wait already; try again later")
    saw_refused(method, refusal)
    call.refuse(refusal)
