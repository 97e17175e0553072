"""Watching without a gap: where a stream that broke is taken up again, and what must not be told twice.

Both clients read their streams through a `Resumption`; it does no I/O.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from jitaccess.calls import Call
from jitaccess.errors import JitError, Unavailable
from jitaccess.model import GrantEvent, GrantEventType
from jitaccess.transport import Attempts

SILENCE = 20.0  # Seconds; a heartbeat comes every 5, so that after three missing ones the stream counts as dead.
_QUIET = (GrantEventType.HEARTBEAT, GrantEventType.OVERRUN)


class Resumption:
    """How far one watch is. Tries again without limit as long as each stream told something.

    A stream ends with the token it was opened with; the next one has the token as it is then.
    """

    def __init__(self, call: Call[GrantEvent], *, heartbeats: bool, new_attempts: Callable[[], Attempts]) -> None:
        self._call = call
        self._heartbeats = heartbeats
        self._new_attempts = new_attempts
        self._attempts: Attempts | None = None
        self._revision: int = call.request.start_revision  # type: ignore[attr-defined]  # It is a WatchGrantsRequest.
        # A stream from a revision has no CURRENT events; one from 0 has them first, and is to be begun anew until then.
        self._is_under_way = self._revision > 0
        self._told: set[tuple[str, int]] = set()
        self._tells = False

    def call(self) -> Call[GrantEvent]:
        """Returns the call that goes on after what was told."""
        request = type(self._call.request)()
        request.CopyFrom(self._call.request)
        request.start_revision = self._revision if self._is_under_way else 0  # type: ignore[attr-defined]
        return replace(self._call, request=request)

    def take(self, event: GrantEvent) -> bool:
        """Notes an event, and says whether to tell it."""
        self._attempts = None
        self._tells = True
        self._revision = event.revision
        if event.event_type is GrantEventType.CURRENT:
            return self._is_news(event)
        if event.event_type is not GrantEventType.OVERRUN:
            self._is_under_way = True
            self._told.clear()
        return event.event_type not in _QUIET or (self._heartbeats and event.event_type is GrantEventType.HEARTBEAT)

    def pause(self, fault: JitError) -> float:
        """Returns the seconds to wait before the call that goes on, or raises the fault where there shall be none."""
        if fault.reason == "TOKEN_EXPIRED" and self._tells:
            fault = ended()
        self._tells = False
        self._attempts = self._attempts or self._new_attempts()
        return self._attempts.pause(fault)

    def _is_news(self, event: GrantEvent) -> bool:
        key = (event.grant.name, event.grant.revision) if event.grant else ("", event.revision)
        is_news = key not in self._told
        self._told.add(key)
        return is_news


def ended() -> JitError:
    """Returns the fault of a stream that just ended."""
    return Unavailable("the service ended the stream")


def silent(seconds: float) -> JitError:
    """Returns the fault of a stream that gave no sign of life."""
    return Unavailable(f"the service gave no sign of life for {seconds:g} s")
