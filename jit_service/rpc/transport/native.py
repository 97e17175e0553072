"""The server on pygrpc-native: its HTTP/2 runs in Rust outside the GIL; its calls come to servicers here.

It is built on the package's low-level interface, since its `server()` has no bound on waiting calls, runs streams on
the threads of calls, and keeps such a thread while a client does not read (docs/adr/0021-two-transports.md).

Unary and server-streaming methods are served. A call waits for a thread in a queue that has a bound; a stream has a
thread of its own. Interceptors are asked once for each method, when the server starts: they must decide by the method.
"""

from __future__ import annotations

import contextvars
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from queue import SimpleQueue
from typing import Any, Final, NamedTuple, TypeAlias

import grpc
from google.protobuf.message import DecodeError
from pygrpc_native import EVENT_CALL, NativeGrpcFront

from jit_service.domain.errors import JitError, ServiceStopping, TooManyCalls
from jit_service.rpc import errors
from jit_service.rpc.admission import Call
from jit_service.rpc.calls_seen import saw_refused
from jit_service.rpc.transport.batch_queue import BATCH, BatchQueue, Waiting
from jit_service.rpc.transport.check_batch import Answer, BatchHandler
from jit_service.rpc.transport.grpcio_behind import GrpcioBehind
from jit_service.rpc.transport.native_context import Aborted, CallContext

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
_STOP_POLL_SECONDS: Final = 0.01
_LEAVING_SECONDS: Final = 0.05
_GATHER_SECONDS: Final = 0.002
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """`threads` answer calls, up to `waiting` calls wait for one, up to `streams` streams are open or being refused.

    Messages and metadata are in bytes.
    """

    threads: int
    waiting: int
    streams: int
    message_bytes: int
    metadata_bytes: int


@dataclass(frozen=True)
class _Method:
    """A method. With a batch queue its calls are answered in batches where they can be, else one by one."""

    path: str
    handler: Handler
    queue: SimpleQueue[_Job | None]
    batch_queue: BatchQueue | None = None


@dataclass(frozen=True)
class _Listener:
    """One address: what it serves, by the number that the front has for it, and the calls under way.

    Of a call that waits in a batch queue only its id is here.
    """

    front: NativeGrpcFront
    methods: tuple[_Method, ...]
    calls: dict[int, CallContext | None] = field(default_factory=dict)

    @property
    def batch_queues(self) -> tuple[tuple[_Method, BatchQueue], ...]:
        return tuple((method, method.batch_queue) for method in self.methods if method.batch_queue is not None)


class _Job(NamedTuple):
    listener: _Listener
    method: _Method
    context: CallContext
    payload: bytes


class NativeServer:
    """A server with as many addresses as are added to it. What a service needs of it is as in grpc.Server.

    `interceptor` gives the interceptor of an address, told whether that is a Unix socket. `register` adds the servicers
    to a server; `register_behind` adds to a grpcio server what only that can serve. The methods `aside` have a thread
    of their own, so that a flood does not make the service look ill. `batch_handlers` gives the methods whose calls are
    answered together, as `interceptor` gives the interceptor.
    """

    def __init__(
        self,
        limits: Limits,
        *,
        streams: Executor,
        interceptor: Callable[[bool], grpc.ServerInterceptor],
        register: Callable[[Any], None],
        register_behind: Callable[[grpc.Server], None] | None,
        aside: frozenset[str],
        batch_handlers: Callable[[bool], Mapping[str, BatchHandler]],
        share_port: bool,
    ) -> None:
        self._limits = limits
        self._streams = streams
        self._interceptor = interceptor
        self._handlers = _Handlers()
        register(self._handlers)
        self._behind = GrpcioBehind(register_behind) if register_behind is not None else None
        self._aside_paths = aside
        self._batch_handlers = batch_handlers
        self._share_port = share_port
        self._listeners: list[_Listener] = []
        self._waiting: SimpleQueue[_Job | None] = SimpleQueue()
        self._aside: SimpleQueue[_Job | None] = SimpleQueue()
        self._open_streams = 0
        self._lock = threading.Lock()
        self._stopping = False
        self._terminated = threading.Event()

    def add_insecure_port(self, address: str) -> int:
        """Binds `HOST:PORT` or `unix:PATH`. Returns the port. Raises RuntimeError."""
        unix = address.startswith("unix:")
        try:
            with _patient_threads():
                front = NativeGrpcFront(
                    address,
                    [],
                    call_details=True,
                    delay_stream_headers=True,
                    keepalive_permit_without_calls=False,
                    max_metadata_size=self._limits.metadata_bytes,
                    reuse_port=self._share_port and not unix,
                )
        except (OSError, ValueError) as fault:
            raise RuntimeError(f"cannot bind {address}") from fault
        interceptor, handlers = self._interceptor(unix), self._batch_handlers(unix)
        methods = [
            self._method(path, handler, interceptor, handlers.get(path))
            for path, handler in self._handlers.by_path.items()
        ]
        self._listeners.append(_Listener(front, tuple(methods)))
        return front.bound_port

    def add_secure_port(self, address: str, server_credentials: grpc.ServerCredentials) -> int:
        """Raises RuntimeError: pygrpc-native has no TLS. The settings refuse it before."""
        raise RuntimeError(f"pygrpc-native cannot serve TLS at {address}")

    def start(self) -> None:
        """Begins to answer."""
        for queue, threads in self._queues():
            for number in range(threads):
                threading.Thread(target=self._work, args=(queue,), name=f"rpc-{number}", daemon=True).start()
        behind = self._behind.start() if self._behind is not None else None
        for listener in self._listeners:
            if behind is not None:
                listener.front.set_fallback(behind)
            listener.front.add_methods(
                [(method.path, method.handler.response_streaming) for method in listener.methods]
            )
            with _patient_threads():
                listener.front.start()
            threading.Thread(target=self._dispatch, args=(listener,), name="dispatch", daemon=True).start()
            for method, batch_queue in listener.batch_queues:
                answer = partial(self._answer_batch, listener, method)
                work = (listener.calls.__contains__, answer)
                threading.Thread(target=batch_queue.run, args=work, name="batch", daemon=True).start()

    def stop(self, grace: float | None) -> threading.Event:
        """Refuses new calls, lets those under way end for up to `grace` seconds, then closes; the event says when."""
        self._stopping = True
        threading.Thread(target=self._close, args=(grace or 0.0,), name="stop", daemon=True).start()
        return self._terminated

    def _close(self, grace: float) -> None:
        self._await_calls(time.monotonic() + grace)
        for listener in self._listeners:
            listener.front.close()
            for context in tuple(listener.calls.values()):
                if context is not None:
                    context.end()
        for queue, threads in self._queues():
            for _ in range(threads):
                queue.put(None)
        for listener in self._listeners:
            for _, batch_queue in listener.batch_queues:
                batch_queue.close()
        if self._behind is not None:
            self._behind.stop()
        self._terminated.set()

    def _await_calls(self, deadline: float) -> None:
        """Returns when no call has been under way for a moment, or at the deadline.

        Closing cuts off an answer that the front has but has not sent, and the front does not tell which it has sent.
        """
        last = time.monotonic()
        while (now := time.monotonic()) < min(deadline, last + _LEAVING_SECONDS):
            if any(listener.calls for listener in self._listeners):
                last = now
            time.sleep(_STOP_POLL_SECONDS)

    def _queues(self) -> tuple[tuple[SimpleQueue[_Job | None], int], ...]:
        return (self._waiting, self._limits.threads), (self._aside, 1)

    def _method(
        self, path: str, registered: Handler, interceptor: grpc.ServerInterceptor, batch: BatchHandler | None
    ) -> _Method:
        handler = interceptor.intercept_service(lambda _: registered, _Details(path, ()))  # type: ignore[arg-type]
        if handler is None or handler.response_streaming != registered.response_streaming:
            raise TypeError(f"the interceptor gave {path} a handler of another kind")
        queue = self._aside if path in self._aside_paths else self._waiting
        return _Method(path, handler, queue, BatchQueue(path, batch) if batch is not None else None)

    def _dispatch(self, listener: _Listener) -> None:
        batch_queues = [batch_queue for _, batch_queue in listener.batch_queues]
        while (events := listener.front.recv_batch_details(BATCH)) is not None:
            for kind, call_id, number, payload, _, details in events:
                if kind != EVENT_CALL or payload is None or details is None:
                    self._end(listener, call_id)
                    continue
                method = listener.methods[number]
                if (queue := method.batch_queue) is not None and self._has_room(queue) and self._is_small(payload):
                    metadata, peer, time_remaining = details
                    listener.calls[call_id] = None
                    queue.put((call_id, time_remaining, Call(payload, metadata, peer)))
                else:
                    self._accept(_Job(listener, method, CallContext(listener.front, call_id, *details), payload))
            # While those are answered more come, to be taken at once: to take each as it comes would cost two threads a
            # turn each. Whoever is slow to answer holds the others up no longer than this.
            for batch_queue in batch_queues:
                batch_queue.wait_until_idle(_GATHER_SECONDS)

    def _end(self, listener: _Listener, call_id: int) -> None:
        """Notes that nobody waits for the call's answer any more."""
        if (context := listener.calls.get(call_id)) is not None:
            context.end()
        else:
            listener.calls.pop(call_id, None)

    def _has_room(self, batch_queue: BatchQueue) -> bool:
        return not self._stopping and len(batch_queue) < self._limits.waiting

    def _is_small(self, payload: bytes) -> bool:
        return len(payload) <= self._limits.message_bytes

    def _accept(self, job: _Job) -> None:
        """Has the call answered by a thread, or refuses it at once."""
        if not self._is_small(job.payload):
            job.context.set_code(grpc.StatusCode.RESOURCE_EXHAUSTED)
            job.context.set_details(f"the message has {len(job.payload)} B; {self._limits.message_bytes} are allowed")
            job.context.fail()
        elif self._stopping:
            _turn_away(job.method, job.context, ServiceStopping("the service stops"))
        elif job.method.handler.response_streaming:
            self._accept_stream(job)
        elif job.method.batch_queue is not None:
            # Such a call comes here only where the batch queue is full.
            self._refuse_waiting(job.method, job.context)
        else:
            self._accept_unary(job)

    def _accept_unary(self, job: _Job) -> None:
        if job.method.queue.qsize() >= self._limits.waiting:
            job.listener.calls.pop(job.context.call_id, None)
            self._refuse_waiting(job.method, job.context)
        else:
            job.listener.calls[job.context.call_id] = job.context
            job.method.queue.put(job)

    def _accept_stream(self, job: _Job) -> None:
        with self._lock:
            if self._open_streams >= self._limits.streams:
                refusal = TooManyCalls("as many streams as the service keeps are open or wait")
                _turn_away(job.method, job.context, refusal)
                return
            self._open_streams += 1
        job.listener.calls[job.context.call_id] = job.context
        self._streams.submit(contextvars.Context().run, self._answer, job, self._stream)

    def _work(self, queue: SimpleQueue[_Job | None]) -> None:
        while (job := queue.get()) is not None:
            contextvars.Context().run(self._answer, job, _unary)

    def _answer_batch(
        self, listener: _Listener, method: _Method, waiting: Sequence[Waiting], answers: Sequence[Answer]
    ) -> None:
        """Sends the answers of a batch; calls without one are answered by themselves."""
        for (call_id, time_remaining, call), answer in zip(waiting, answers, strict=True):
            if isinstance(answer, bytes):
                listener.calls.pop(call_id, None)
                listener.front.respond(call_id, answer)
                continue
            context = CallContext(listener.front, call_id, call.metadata, call.peer, time_remaining)
            if answer is None:
                self._accept_unary(_Job(listener, method, context, call.payload))
            else:
                listener.calls.pop(call_id, None)
                _refuse(context, answer)

    def _refuse_waiting(self, method: _Method, context: CallContext) -> None:
        refusal = TooManyCalls(f"{self._limits.waiting} calls wait already; try again later")
        _turn_away(method, context, refusal)

    def _stream(self, job: _Job) -> None:
        try:
            _stream(job)
        finally:
            with self._lock:
                self._open_streams -= 1

    def _answer(self, job: _Job, answer: Callable[[_Job], None]) -> None:
        try:
            answer(job)
        except Aborted:
            job.context.fail()
        except Exception:
            # The interceptor translates what servicers raise; this is what is left, and its words stay here.
            _log.exception("%s failed", job.method.path)
            job.context.set_code(grpc.StatusCode.INTERNAL)
            job.context.set_details(errors.INTERNAL_MESSAGE)
            job.context.fail()
        finally:
            job.listener.calls.pop(job.context.call_id, None)
            job.context.end()


class _Handlers:
    """Collects what generated code adds to a server."""

    def __init__(self) -> None:
        self.by_path: dict[str, Handler] = {}

    def add_registered_method_handlers(self, service_name: str, method_handlers: Mapping[str, Handler]) -> None:
        for name, handler in method_handlers.items():
            if handler.request_streaming:
                raise TypeError(f"{service_name}.{name} streams requests, which this transport does not serve")
            self.by_path[f"/{service_name}/{name}"] = handler

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Iterable[grpc.GenericRpcHandler]) -> None:
        """Does nothing: generated code adds the same methods both ways."""


class _Details(NamedTuple):
    """grpc.HandlerCallDetails of a method, without a call."""

    method: str
    invocation_metadata: tuple[()]


@contextmanager
def _patient_threads() -> Iterator[None]:
    """Threads that are started within wait for their turn when they wake, where the system knows such (sched(7)).

    Answers are given in a burst. By default each would wake a thread that interrupts the one which gives them.
    """
    may = hasattr(os, "SCHED_BATCH") and os.sched_getscheduler(0) == os.SCHED_OTHER
    if may:
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    try:
        yield
    finally:
        if may:
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def _unary(job: _Job) -> None:
    # Nobody waits for the answer of a call that was cancelled in the queue.
    if not job.context.is_active():
        return
    answer = _handler_of(job.method.handler.unary_unary)(_request(job), job.context)
    if job.context.has_failed:
        job.context.fail()
    else:
        job.context.respond(_encoded(job, answer))


def _stream(job: _Job) -> None:
    answers: Iterator[Any] = _handler_of(job.method.handler.unary_stream)(_request(job), job.context)
    try:
        for answer in answers:
            if not job.context.send(_encoded(job, answer)):
                return
        job.context.finish()
    finally:
        close = getattr(answers, "close", None)
        if close is not None:
            close()


def _handler_of(behaviour: Callable[[Any, grpc.ServicerContext], Any] | None) -> Callable[..., Any]:
    if behaviour is None:
        raise TypeError("the method has no handler of its kind")
    return behaviour


def _request(job: _Job) -> Any:
    decode = job.method.handler.request_deserializer
    try:
        return job.payload if decode is None else decode(job.payload)
    except (DecodeError, ValueError):
        job.context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"the request is not the message of {job.method.path}")


def _encoded(job: _Job, answer: Any) -> bytes:
    encode = job.method.handler.response_serializer
    return bytes(answer if encode is None else encode(answer))


def _turn_away(method: _Method, context: CallContext, refusal: JitError) -> None:
    """Refuses a call that no servicer sees."""
    saw_refused(method.path, refusal)
    _refuse(context, refusal)


def _refuse(context: CallContext, error: JitError) -> None:
    errors.describe(context, error)
    context.fail()
