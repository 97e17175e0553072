"""The requests that are open at a proxy by a grant: judged again and again, and ended when that grant is over.

One thread judges all of them, so that one that runs for an hour costs no thread. What cannot be judged is ended.
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
from jit_service.domain.checks.cached_grant import LiveGrant
from jit_service.domain.checks.http_request import Stream, why_over
from jit_service.domain.errors import JitError, PassageOver, ServiceStopping, StoreUnavailable, TooManyWatchers

SWEEP_INTERVAL: Final = timedelta(seconds=0.1)
"""How often all of them are judged."""
BLIND: Final = timedelta(seconds=2)
"""How old the view of the grants may become until nobody can say that a stream may go on."""
_log = logging.getLogger(__name__)


@dataclass(eq=False)
class OpenRequest:
    """An open request. `end` ends it, once; `basis` is what it was last judged by."""

    stream: Stream
    end: Callable[[JitError], None]
    since: float = field(default_factory=time.monotonic)
    basis: tuple[object, ...] = ()


class OpenRequests(BackgroundThread):
    """The open requests, up to `limit` of them."""

    def __init__(self, view: GrantCache, *, limit: int) -> None:
        super().__init__(
            name="open-requests", interval=SWEEP_INTERVAL, undone="open requests cannot be judged, so all end"
        )
        self._view = view
        self._limit = limit
        self._open: set[OpenRequest] = set()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._open)

    def work(self) -> None:
        """Ends what is over."""
        self.sweep()

    def failed(self, fault: Exception) -> None:
        """Ends all of them: nobody knows which may go on."""
        super().failed(fault)
        self._end_all(StoreUnavailable("open requests cannot be judged"))

    def add(self, stream: Stream, end: Callable[[JitError], None]) -> OpenRequest:
        """Has `end` called, once, when the stream's grant is over, unless the request is forgotten before.

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

    def forget(self, request: OpenRequest) -> None:
        """Removes a request that has ended by itself."""
        with self._lock:
            self._open.discard(request)

    def sweep(self) -> None:
        """Ends what is over."""
        with self._lock:
            requests = tuple(self._open)
        if not requests:
            return
        known = self._view.held({request.stream.asked.subject for request in requests})
        if known.staleness is None or known.staleness > BLIND:
            self._end_all(StoreUnavailable("it is not known who may go on: the store has not answered for too long"))
            return
        for request in requests:
            if (fault := _fault_or_doubt(request, known)) is not None:
                self._end(request, fault)

    def stop(self) -> None:
        """Ends the thread, and everything that is open."""
        super().stop()
        self._end_all(ServiceStopping("the service stops"))

    def _end(self, request: OpenRequest, fault: JitError) -> None:
        with self._lock:
            if request not in self._open:
                return
            self._open.discard(request)
        _log.info("a request that passed by %s is ended: %s", request.stream.grant, fault)
        try:
            request.end(fault)
        except Exception:
            # It must not keep the others running.
            _log.exception("a request that passed by %s is not ended", request.stream.grant)

    def _end_all(self, fault: JitError) -> None:
        with self._lock:
            requests = tuple(self._open)
        for request in requests:
            self._end(request, fault)


def _fault_or_doubt(request: OpenRequest, known: View) -> JitError | None:
    try:
        return _fault(request, known)
    except Exception:
        _log.exception("it cannot be judged whether a request may go on")
        return StoreUnavailable("it cannot be judged whether the request may go on")


def _fault(request: OpenRequest, known: View) -> JitError | None:
    """Returns why it may not go on; None while it may."""
    stream = request.stream
    if known.revision < stream.revision:
        blind = time.monotonic() - request.since > BLIND.total_seconds()
        return StoreUnavailable(f"revision {stream.revision} does not arrive") if blind else None
    held = known.held[stream.asked.subject]
    basis = (held, known.book, known.locks)
    if known.now < stream.ends_at and _same(request.basis, basis) and _is_plain(stream.grant, held.grants):
        return None
    why = why_over(stream, grants=held.grants, evidence=known.evidence)
    request.basis = basis
    return PassageOver(why, grant=stream.grant) if why else None


def _same(before: tuple[object, ...], now: tuple[object, ...]) -> bool:
    """Returns whether nothing has been replaced; the index never changes what it gave out."""
    return len(before) == len(now) and all(one is other for one, other in zip(before, now, strict=True))


def _is_plain(name: str, grants: tuple[LiveGrant, ...]) -> bool:
    """Returns whether neither time nor another grant can change what the grant allows before the stream's end."""
    return any(grant.name == name and not grant.check_condition and not grant.chain for grant in grants)
