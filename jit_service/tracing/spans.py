"""Collects what is done for sampled calls, part by part. Without an exporter each place costs one look at a variable.

A call that is answered in a batch shares its parts with the others: each sampled one gets them all, as its own. Parts
become spans only when the call has its answer, so a call that the batch hands back leaves nothing behind.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Final, Protocol

from jit_service.tracing import traceparent
from jit_service.tracing.traceparent import TraceParent

Metadata = Sequence[tuple[str, str | bytes]]


class Span(Protocol):
    """A span that has begun, as the exporter keeps it."""

    @property
    def parent(self) -> TraceParent:
        """What a call that this one makes would send as its traceparent."""

    def end(self, parts: Sequence[Part], *, code: str, reason: str) -> None:
        """Ends it, with its parts as children."""


class Exporter(Protocol):
    """Where spans go. Its methods wait for nothing, and raise nothing. `ratio` of the calls without a trace begin one.

    `began_at` is in nanoseconds since 1970.
    """

    ratio: float

    def call(self, method: str, parent: TraceParent | None, state: str, *, began_at: int) -> Span | None:
        """Begins the span of a call; `state` is its tracestate. None if there are too many."""

    def delivery(self, trace_id: str, receiver: str) -> Span | None:
        """Begins the span of a notification; None if no call of that trace was sampled here a short while ago."""


class Part:
    """A part of the work, from entering it to leaving it, in nanoseconds since 1970; `within` is the part around it."""

    __slots__ = ("_work", "began_at", "ended_at", "failed", "name", "within")

    def __init__(self, work: _Work, name: str) -> None:
        self._work = work
        self.name = name
        self.failed = False
        self.within: Part | None = None
        self.began_at = self.ended_at = 0

    def __enter__(self) -> None:
        self.within, self._work.inmost = self._work.inmost, self
        self._work.parts.append(self)
        self.began_at = time.time_ns()

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        self.ended_at = time.time_ns()
        self.failed = kind is not None and issubclass(kind, Exception)
        self._work.inmost = self.within


class _Work:
    """What one thread does for a call, or for several that are answered together."""

    __slots__ = ("inmost", "parts")

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.inmost: Part | None = None


class Traced:
    """A sampled call, from its span's begin to its end. As a context, the parts of what is done within are its own."""

    def __init__(self, span: Span, work: _Work | None) -> None:
        """Without `work`, no parts are collected."""
        self._span = span
        self._work = work
        self._outcome = ("OK", "")
        self.trace_id = span.parent.trace_id

    def settle(self, code: str, reason: str) -> None:
        """Notes how the call ends: its gRPC status, and the reason of a refusal."""
        self._outcome = (code, reason)

    def end(self) -> None:
        """Ends the span."""
        code, reason = self._outcome
        self._span.end(self._work.parts if self._work is not None else (), code=code, reason=reason)

    @property
    def header(self) -> tuple[str, str]:
        """The metadata that puts a call into this span."""
        trace_id, span_id, _ = self._span.parent
        return "traceparent", f"00-{trace_id}-{span_id}-01"

    def __enter__(self) -> Traced:
        if self._work is not None:
            _settled.set(self)
            _doing.set(self._work)
        return self

    def __exit__(self, *_: object) -> None:
        if self._work is not None:
            _settled.set(None)
            _doing.set(None)
        self.end()


class Together:
    """The sampled calls among those answered together, by their places. As a context, their parts are shared."""

    def __init__(self, calls: dict[int, Traced], work: _Work) -> None:
        self.calls = calls
        self._work = work

    def __enter__(self) -> None:
        _doing.set(self._work)

    def __exit__(self, *_: object) -> None:
        _doing.set(None)


_exporter: Exporter | None = None
_NOTHING: Final = nullcontext(None)
_doing: ContextVar[_Work | None] = ContextVar("doing", default=None)
_settled: ContextVar[Traced | None] = ContextVar("settled", default=None)


def use(exporter: Exporter | None) -> None:
    """Has this process export by the exporter from now on; None ends that."""
    global _exporter
    _exporter = exporter


def call(method: str, metadata: Metadata) -> AbstractContextManager[Traced | None]:
    """Returns the context of a call that begins now; it gives None for a call that is not sampled."""
    if (exporter := _exporter) is None:
        return _NOTHING
    return _begun(exporter, method, metadata, time.time_ns(), _Work()) or _NOTHING


def stream(method: str, metadata: Metadata) -> AbstractContextManager[Traced | None]:
    """As `call`, for a stream: it is a span without parts, which it would have for hours."""
    if (exporter := _exporter) is None:
        return _NOTHING
    return _begun(exporter, method, metadata, time.time_ns(), None) or _NOTHING


def together(method: str, calls: Sequence[tuple[float, Metadata]]) -> Together | None:
    """Returns those of the calls that are sampled, each with its begin by time.perf_counter; None if none is."""
    if (exporter := _exporter) is None:
        return None
    work, ahead = _Work(), time.time_ns() - time.perf_counter_ns()
    sampled = {}
    for place, (came, metadata) in enumerate(calls):
        if (traced := _begun(exporter, method, metadata, ahead + int(came * 1e9), work)) is not None:
            sampled[place] = traced
    return Together(sampled, work) if sampled else None


def delivery(trace_id: str, receiver: str) -> AbstractContextManager[Traced | None]:
    """Returns the context of an attempt to tell a receiver of what the trace's call did; it gives None if unknown."""
    if _exporter is None or not trace_id or (span := _exporter.delivery(trace_id, receiver)) is None:
        return _NOTHING
    return Traced(span, None)


def part(name: str) -> AbstractContextManager[None]:
    """Returns the context of a part of what this thread does; nothing is noted where no call is sampled."""
    if _exporter is None or (work := _doing.get()) is None:
        return _NOTHING
    return Part(work, name)


def settle(code: str, reason: str) -> None:
    """Notes how the call of this thread ends, if it is sampled."""
    if _exporter is not None and (traced := _settled.get()) is not None:
        traced.settle(code, reason)


def _begun(exporter: Exporter, method: str, metadata: Metadata, at: int, work: _Work | None) -> Traced | None:
    """Returns the call if its caller samples it, or, where it comes without a trace, if the ratio does."""
    given = state = ""
    for key, value in metadata:
        if key == "traceparent":
            given = _text(value)
        elif key == "tracestate":
            state = _text(value)
    parent = traceparent.parse(given) if given else None
    if not (parent.sampled if parent is not None else random.random() < exporter.ratio):  # noqa: S311
        return None
    span = exporter.call(method, parent, state, began_at=at)
    return Traced(span, work) if span is not None else None


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value
