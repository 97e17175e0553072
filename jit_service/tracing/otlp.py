"""Exports spans by OTLP over gRPC, with OpenTelemetry's SDK (extra `otel`).

A span costs its call some tens of microseconds, and nothing waits for the collector: one thread sends what was put into
a queue with a bound. What finds it full is dropped and counted.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Final

import grpc
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from jit_service.fault_log import FaultLog
from jit_service.metrics.catalogue import SPANS
from jit_service.tracing.spans import Part
from jit_service.tracing.traceparent import TraceParent

_MOST_WAITING: Final = 8192
"""Spans that wait to be sent, some megabytes of them."""
_MOST_A_SECOND: Final = 1000
"""Calls that are traced. Whoever calls may ask to be sampled, and shall not make all calls dearer by that."""
_AT_ONCE: Final = 512
_EVERY_MILLISECONDS: Final = 1000
_SECONDS: Final = 5.0
"""How long one batch is tried for."""
_STOP_SECONDS: Final = 2.0
_REMEMBERED: Final = 4096
_LIBRARY: Final = "opentelemetry"
# https://opentelemetry.io/docs/specs/semconv/rpc/grpc/: of a server's span only these are errors.
_OWN_FAULTS: Final = frozenset(
    {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
)
_log = logging.getLogger(__name__)


class _LastStatus(logging.Filter):
    """Keeps the gRPC status of the library's last line about a failed attempt, and lets no line through."""

    def __init__(self) -> None:
        super().__init__()
        self.words = "nothing"

    def filter(self, record: logging.LogRecord) -> bool:
        """Returns False."""
        arguments = record.args if isinstance(record.args, tuple) else ()
        self.words = next((each.name for each in arguments if isinstance(each, grpc.StatusCode)), self.words)
        return False


# The library logs each attempt in its own words; `_Sender` says it once.
_SAID: Final = _LastStatus()
logging.getLogger(_LIBRARY).setLevel(logging.CRITICAL + 1)
_OF_EXPORTS: Final = logging.getLogger(f"{_LIBRARY}.exporter.otlp.proto.grpc.exporter")
_OF_EXPORTS.setLevel(logging.WARNING)
_OF_EXPORTS.addFilter(_SAID)


class OtlpExporter:
    """Exports to the collector at `endpoint`, or where OTEL_EXPORTER_OTLP_ENDPOINT says. It is safe for any thread.

    The other OTEL_EXPORTER_OTLP_* variables (headers, certificates, compression), OTEL_SERVICE_NAME and
    OTEL_RESOURCE_ATTRIBUTES are read by the SDK.
    """

    def __init__(self, endpoint: str | None, *, ratio: float, headers: Mapping[str, str]) -> None:
        self.ratio = ratio
        self._sender = _Sender(OTLPSpanExporter(endpoint, headers=tuple(headers.items()) or None, timeout=_SECONDS))
        self._queue = _Bounded(self._sender)
        ours = {"service.name": "jit-service", "service.version": version("jit-service")}
        resource = Resource(ours).merge(OTELResourceDetector().detect())
        # What is sampled was decided before there is a span.
        provider = TracerProvider(sampler=ALWAYS_ON, resource=resource, shutdown_on_exit=False)
        provider.add_span_processor(self._queue)
        self._tracer = provider.get_tracer("jit_service", version("jit-service"))
        self._recent: OrderedDict[str, SpanContext] = OrderedDict()
        self._lock = threading.Lock()
        self._second = self._begun = 0

    def call(self, method: str, parent: TraceParent | None, state: str, *, began_at: int) -> _CallSpan | None:
        """Begins the span of a call; None if too many began in this second."""
        if not self._may_begin(began_at // 1_000_000_000):
            SPANS.add("dropped")
            return None
        name = method.removeprefix("/")
        span = self._tracer.start_span(
            name,
            context=_context(parent, state) if parent is not None else Context(),
            kind=SpanKind.SERVER,
            attributes={"rpc.system.name": "grpc", "rpc.method": name},
            start_time=began_at,
        )
        self._remember(span.get_span_context())
        return _CallSpan(self._tracer, span)

    def delivery(self, trace_id: str, receiver: str) -> _Span | None:
        """Begins the span of an attempt to notify the receiver, below the call that caused it."""
        with self._lock:
            cause = self._recent.get(trace_id)
        if cause is None:
            return None
        span = self._tracer.start_span(
            "notify",
            context=trace.set_span_in_context(NonRecordingSpan(cause), Context()),
            kind=SpanKind.CLIENT,
            attributes={"jit.receiver": receiver},
        )
        return _Span(self._tracer, span)

    def stop(self) -> None:
        """Sends what waits, for two seconds at most."""
        flushing = threading.Thread(target=self._queue.shutdown, name="traces-end", daemon=True)
        flushing.start()
        flushing.join(_STOP_SECONDS)
        self._sender.shutdown()

    def _may_begin(self, second: int) -> bool:
        with self._lock:
            if second != self._second:
                self._second, self._begun = second, 0
            self._begun += 1
            return self._begun <= _MOST_A_SECOND

    def _remember(self, span: SpanContext) -> None:
        with self._lock:
            self._recent[trace.format_trace_id(span.trace_id)] = span
            if len(self._recent) > _REMEMBERED:
                self._recent.popitem(last=False)


class _Span:
    """A span of OpenTelemetry's that has begun."""

    def __init__(self, tracer: trace.Tracer, span: trace.Span) -> None:
        self._tracer = tracer
        self._span = span

    @property
    def parent(self) -> TraceParent:
        """What a call that this one makes would send as its traceparent."""
        here = self._span.get_span_context()
        return TraceParent(trace.format_trace_id(here.trace_id), trace.format_span_id(here.span_id), sampled=True)

    def end(self, parts: Sequence[Part], *, code: str, reason: str) -> None:
        """Ends it, with its parts as children."""
        spans: dict[Part | None, trace.Span] = {None: self._span}
        # A part stands after the one around it, since that was entered first.
        for part in parts:
            around = trace.set_span_in_context(spans[part.within], Context())
            child = spans[part] = self._tracer.start_span(part.name, context=around, start_time=part.began_at)
            if part.failed:
                child.set_status(Status(StatusCode.ERROR))
            child.end(part.ended_at)
        self._settle(code, reason)
        self._span.end()

    def _settle(self, code: str, reason: str) -> None:
        if code != "OK":
            self._span.set_attribute("error.type", reason or code)
            self._span.set_status(Status(StatusCode.ERROR))


class _CallSpan(_Span):
    """The span of a call, as the conventions for RPC have it."""

    def _settle(self, code: str, reason: str) -> None:
        self._span.set_attribute("rpc.response.status_code", code)
        if code != "OK":
            self._span.set_attribute("error.type", reason or code)
        if code in _OWN_FAULTS:
            self._span.set_status(Status(StatusCode.ERROR))


class _Sender(SpanExporter):
    """Sends batches, counts what became of them, and logs a collector that does not take them once."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._faults = FaultLog(_log, "traces are not exported")
        self._lock = threading.Lock()
        self._waiting = 0

    def take(self) -> bool:
        """Returns whether one more span may wait; if not, it is counted as dropped."""
        with self._lock:
            if self._waiting >= _MOST_WAITING:
                SPANS.add("dropped")
                return False
            self._waiting += 1
            return True

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Sends the spans."""
        try:
            result = self._exporter.export(spans)
        except Exception as fault:
            result = SpanExportResult.FAILURE
            _SAID.words = type(fault).__name__
        with self._lock:
            self._waiting -= len(spans)
        if result is SpanExportResult.SUCCESS:
            SPANS.add("exported", by=len(spans))
            self._faults.succeeded()
        else:
            SPANS.add("failed", by=len(spans))
            self._faults.failed(OSError(f"the collector says {_SAID.words}"))
        return result

    def shutdown(self) -> None:
        """Ends an attempt that is under way."""
        self._exporter.shutdown()


class _Bounded(BatchSpanProcessor):
    """The queue of spans that wait to be sent."""

    def __init__(self, sender: _Sender) -> None:
        super().__init__(
            sender,
            max_queue_size=_MOST_WAITING,
            schedule_delay_millis=_EVERY_MILLISECONDS,
            max_export_batch_size=_AT_ONCE,
        )
        self._sender = sender

    def on_end(self, span: ReadableSpan) -> None:
        """Puts the span into the queue, if there is room."""
        if self._sender.take():
            super().on_end(span)


def _context(parent: TraceParent, state: str) -> Context:
    """Returns the context of a call whose caller's span is in another process."""
    span = SpanContext(
        trace_id=int(parent.trace_id, 16),
        span_id=int(parent.span_id, 16),
        is_remote=True,
        trace_flags=TraceFlags(TraceFlags.SAMPLED),
        trace_state=TraceState.from_header([state]) if state else TraceState(),
    )
    return trace.set_span_in_context(NonRecordingSpan(span), Context())
