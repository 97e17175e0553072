"""Watching without a gap: where a broken stream is resumed, and which events must not be yielded twice.

Both clients read their streams through a `Resumption`; it does no I/O.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Generic, TypeVar

from google.protobuf.message import Message

from jitaccess._transport import Attempts
from jitaccess.contract.calls.audit import Told
from jitaccess.contract.calls.call import Call
from jitaccess.contract.model import GrantEvent, GrantEventType, TailedEvent
from jitaccess.errors import JitError, Unavailable
from jitaccess.v1 import audit_pb2

T = TypeVar("T")
E = TypeVar("E")

SILENCE = 20.0  # Seconds; a heartbeat comes every 5, so that after three missing ones the stream counts as dead.
# As such a service names the field, which it does not know.
_BATCHES = str(audit_pb2.TailAuditEventsRequest.BATCH_SIZE_FIELD_NUMBER)
_QUIET = (GrantEventType.HEARTBEAT, GrantEventType.OVERRUN)


class Resumption(ABC, Generic[T, E]):
    """How far one stream is: its answers are a `T` each, and of each it yields what there is, an `E` each.

    Tries again without limit as long as each stream brought something. A stream ends with the token it was opened
    with; the next one has the token as it is then.
    """

    def __init__(self, call: Call[T], *, heartbeats: bool, new_attempts: Callable[[], Attempts]) -> None:
        self._call = call
        self._heartbeats = heartbeats
        self._new_attempts = new_attempts
        self._attempts: Attempts | None = None
        self._tells = False
        self.has_told = False

    def call(self) -> Call[T]:
        """Returns the call that goes on after the last event."""
        request = type(self._call.request)()
        request.CopyFrom(self._call.request)
        self._place(request)
        return replace(self._call, request=request)

    def take(self, told: T) -> Iterable[E]:
        """Notes the answer, and returns what to yield of it."""
        self._attempts = None
        self._tells = self.has_told = True
        return self._take(told)

    def pause(self, fault: JitError) -> float:
        """Returns the seconds to wait before the call that goes on, or raises the fault where there shall be none."""
        if fault.reason == "TOKEN_EXPIRED" and self._tells:
            fault = ended()
        self._tells = False
        self._attempts = self._attempts or self._new_attempts()
        return self._attempts.pause(fault)

    @abstractmethod
    def _place(self, request: Message) -> None:
        """Makes the request begin after the last event."""

    @abstractmethod
    def _take(self, told: T) -> Iterable[E]: ...


class WatchResumption(Resumption[GrantEvent, GrantEvent]):
    """How far one watch is."""

    def __init__(self, call: Call[GrantEvent], *, heartbeats: bool, new_attempts: Callable[[], Attempts]) -> None:
        super().__init__(call, heartbeats=heartbeats, new_attempts=new_attempts)
        self._revision: int = call.request.start_revision  # type: ignore[attr-defined]  # It is a WatchGrantsRequest.
        # A stream from a revision has no CURRENT events; one from 0 has them first, and is to be begun anew until then.
        self._is_under_way = self._revision > 0
        self._history: str = call.request.start_history  # type: ignore[attr-defined]
        self._told: set[tuple[str, int]] = set()

    def _place(self, request: Message) -> None:
        if self._is_under_way:
            request.start_revision, request.start_history = self._revision, self._history  # type: ignore[attr-defined]
        else:
            request.start_revision = 0  # type: ignore[attr-defined]

    def _take(self, told: GrantEvent) -> Iterable[GrantEvent]:
        return (told,) if self._is_to_yield(told) else ()

    def _is_to_yield(self, told: GrantEvent) -> bool:
        self._revision, self._history = told.revision, told.history
        if told.event_type is GrantEventType.CURRENT:
            return self._is_news(told)
        if told.event_type is not GrantEventType.OVERRUN:
            self._is_under_way = True
            self._told.clear()
        return told.event_type not in _QUIET or (self._heartbeats and told.event_type is GrantEventType.HEARTBEAT)

    def _is_news(self, event: GrantEvent) -> bool:
        key = (event.grant.name, event.grant.revision) if event.grant else ("", event.revision)
        is_news = key not in self._told
        self._told.add(key)
        return is_news


class TailResumption(Resumption[Told, TailedEvent]):
    """How far one tailing of the audit log is."""

    def __init__(self, call: Call[Told], *, heartbeats: bool, new_attempts: Callable[[], Attempts]) -> None:
        super().__init__(call, heartbeats=heartbeats, new_attempts=new_attempts)
        self._seq: int = call.request.start_seq  # type: ignore[attr-defined]  # It is a TailAuditEventsRequest.
        self._batch_size: int = call.request.batch_size  # type: ignore[attr-defined]

    def pause(self, fault: JitError) -> float:
        """As of every stream. A service from before there were batches refuses them, and is asked without."""
        if self._batch_size and not self._tells and fault.reason == "INVALID_FIELD" and _BATCHES in _fields(fault):
            self._batch_size = 0
            return 0.0
        return super().pause(fault)

    def _place(self, request: Message) -> None:
        request.start_seq, request.batch_size = self._seq, self._batch_size  # type: ignore[attr-defined]

    def _take(self, told: Told) -> Iterable[TailedEvent]:
        self._seq = told[-1].seq
        return (event for event in told if event.audit_event is not None or self._heartbeats)


def _fields(fault: JitError) -> set[str]:
    return {violation.field for violation in fault.field_violations}


def ended() -> JitError:
    """Returns the fault of a stream that just ended."""
    return Unavailable("the service ended the stream")


def silent(seconds: float) -> JitError:
    """Returns the fault of a stream that gave no sign of life."""
    return Unavailable(f"the service gave no sign of life for {seconds:g} s")
