"""Open requests at a proxy: checks them again and again, and ends each when the grant that let it pass has ended.

One thread checks all of them, so a request that runs for an hour costs no thread. It ends those that it cannot check.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from jit_service.background import BackgroundThread
from jit_service.check import GrantCache, View
from jit_service.domain.checks.cached_grant import CachedGrant
from jit_service.domain.checks.http_request import Stream, why_over
from jit_service.domain.errors import JitError, PassageOver, ServiceStopping, StoreUnavailable, TooManyWatchers
from jit_service.proxy.cut_log import CutLog

SWEEP_INTERVAL: Final = timedelta(seconds=0.1)
"""How often all open requests are checked."""
BLIND: Final = timedelta(seconds=2)
"""How old the view of the grants may become before all open requests are ended."""
_log = logging.getLogger(__name__)


@dataclass(eq=False)
class OpenRequest:
    """An open request. `end` ends it, and is called once. `basis` is what its last check rested on."""

    stream: Stream
    end: Callable[[JitError], None]
    since: float = field(default_factory=time.monotonic)
    basis: tuple[object, ...] = ()


class OpenRequests(BackgroundThread):
    """The open requests, up to `limit` of them."""

    def __init__(self, view: GrantCache, *, limit: int) -> None:
        super().__init__(
            name="open-requests", interval=SWEEP_INTERVAL, undone="open requests cannot be checked, so all are ended"
        )
        self._view = view
        self._limit = limit
        self._open: set[OpenRequest] = set()
        self._lock = threading.Lock()
        self._cut_log = CutLog(view)

    def __len__(self) -> int:
        return len(self._open)

    def work(self) -> None:
        """Ends the requests that may not go on."""
        self.sweep()

    def failed(self, fault: Exception) -> None:
        """Ends all open requests: it is not known which may go on."""
        super().failed(fault)
        self._end_all(StoreUnavailable("open requests cannot be checked"))

    def add(self, stream: Stream, end: Callable[[JitError], None]) -> OpenRequest:
        """Calls `end` once when the stream may not go on, unless the request is forgotten before.

        Raises TooManyWatchers, ServiceStopping.
        """
        request = OpenRequest(stream, end)
        with self._lock:
            if self.stopping.is_set():
                raise ServiceStopping("the service stops")
            if len(self._open) >= self._limit:
                raise TooManyWatchers(f"{self._limit} requests run, as many as the service watches; try again later")
            self._open.add(request)
        return request

    @property
    def count(self) -> int:
        """How many requests are open."""
        return len(self._open)

    def forget(self, request: OpenRequest) -> None:
        """Removes a request that has ended by itself, or by the proxy's own timer at the end of its time."""
        with self._lock:
            was_open = request in self._open
            self._open.discard(request)
        if was_open and self._view.held(()).now >= request.stream.ends_at:
            self._cut_log.add(request.stream, request.stream.ends_by)

    def sweep(self) -> None:
        """Ends the requests that may not go on."""
        with self._lock:
            requests = tuple(self._open)
        if not requests:
            return
        known = self._view.held({request.stream.asked.subject for request in requests})
        if known.staleness is None or known.staleness > BLIND:
            self._end_all(StoreUnavailable("the store has not answered for too long, so no open request may go on"))
            return
        for request in requests:
            if (fault := _why_ended(request, known)) is not None:
                self._end(request, fault)

    def stop(self) -> None:
        """Ends the thread and all open requests."""
        super().stop()
        self._end_all(ServiceStopping("the service stops"))
        self._cut_log.close()

    def _end(self, request: OpenRequest, fault: JitError) -> None:
        with self._lock:
            if request not in self._open:
                return
            self._open.discard(request)
        try:
            request.end(fault)
        except Exception:
            # Go on, so that the other requests are ended.
            _log.exception("could not end a request that passed by %s", request.stream.grant)
        else:
            self._cut_log.add(request.stream, str(fault))

    def _end_all(self, fault: JitError) -> None:
        with self._lock:
            requests = tuple(self._open)
        for request in requests:
            self._end(request, fault)


def _why_ended(request: OpenRequest, known: View) -> JitError | None:
    try:
        return _fault(request, known)
    except Exception:
        _log.exception("could not check whether an open request may go on")
        return StoreUnavailable("it could not be checked whether the request may go on")


def _fault(request: OpenRequest, known: View) -> JitError | None:
    """Returns why the request may not go on, or None if it may."""
    stream = request.stream
    if known.revision < stream.revision:
        blind = time.monotonic() - request.since > BLIND.total_seconds()
        return StoreUnavailable(f"revision {stream.revision} has not arrived in time") if blind else None
    held = known.held[stream.asked.subject]
    basis = (held, known.book, known.locks)
    if known.now < stream.ends_at and _same(request.basis, basis) and _is_plain(stream.grant, held.grants):
        return None
    why = why_over(stream, grants=held.grants, evidence=known.evidence)
    request.basis = basis
    return PassageOver(why, grant=stream.grant) if why else None


def _same(before: tuple[object, ...], now: tuple[object, ...]) -> bool:
    """Returns whether all objects are the same; the index replaces its objects and never changes them."""
    return len(before) == len(now) and all(one is other for one, other in zip(before, now, strict=True))


def _is_plain(name: str, grants: tuple[CachedGrant, ...]) -> bool:
    """Returns whether the grant has no condition and no parent, so that only its end or a new basis can stop it."""
    return any(grant.name == name and not grant.check_condition and not grant.chain for grant in grants)
