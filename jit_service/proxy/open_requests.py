"""The requests that run at a proxy by a grant: looked at again and again, and ended when that grant is over.

One thread looks after all of them, so that one that runs for an hour costs no thread. Who cannot be judged is ended.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from jit_service.check import LiveView, Sight
from jit_service.domain.checks.cached_grant import LiveGrant
from jit_service.domain.checks.http_request import Stream, over
from jit_service.domain.errors import JitError, PassageOver, ServiceStopping, StoreUnavailable, TooManyWatchers

LOOK_SECONDS: Final = 0.1
"""How often all of them are looked at."""
BLIND: Final = timedelta(seconds=2)
"""How old the view of the grants may become until nobody can say that a stream may go on."""
_log = logging.getLogger(__name__)


@dataclass(eq=False)
class Run:
    """One that runs. `end` ends it, once; `basis` is what it was last judged by."""

    stream: Stream
    end: Callable[[JitError], None]
    since: float = field(default_factory=time.monotonic)
    basis: tuple[object, ...] = ()


class Running(threading.Thread):
    """See the module. Up to `limit` may run at once."""

    def __init__(self, view: LiveView, *, limit: int) -> None:
        super().__init__(name="running", daemon=True)
        self._view = view
        self._limit = limit
        self._runs: set[Run] = set()
        self._lock = threading.Lock()
        self._stopping = threading.Event()

    def run(self) -> None:
        """Looks after them until stopped."""
        while not self._stopping.wait(LOOK_SECONDS):
            try:
                self.look()
            except Exception:
                _log.exception("what runs cannot be judged, so all of it ends")
                self._end_all(StoreUnavailable("what runs cannot be judged"))

    def add(self, stream: Stream, end: Callable[[JitError], None]) -> Run:
        """Has the stream ended by a call of `end` when it is over, unless it is forgotten before.

        Raises TooManyWatchers, ServiceStopping.
        """
        run = Run(stream, end)
        with self._lock:
            if self._stopping.is_set():
                raise ServiceStopping("the service stops")
            if len(self._runs) >= self._limit:
                raise TooManyWatchers(f"{self._limit} requests run, as many as the service watches; try again later")
            self._runs.add(run)
        return run

    def forget(self, run: Run) -> None:
        """Takes note that it has ended by itself."""
        with self._lock:
            self._runs.discard(run)

    def look(self) -> None:
        """Ends what is over."""
        with self._lock:
            runs = tuple(self._runs)
        if not runs:
            return
        sight = self._view.held({run.stream.asked.subject for run in runs})
        if sight.staleness is None or sight.staleness > BLIND:
            self._end_all(StoreUnavailable("it is not known who may go on: the store has not answered for too long"))
            return
        for run in runs:
            if (fault := _fault_or_doubt(run, sight)) is not None:
                self._end(run, fault)

    def stop(self) -> None:
        """Ends the thread, and everything that runs."""
        self._stopping.set()
        if self.is_alive():
            self.join()
        self._end_all(ServiceStopping("the service stops"))

    def _end(self, run: Run, fault: JitError) -> None:
        with self._lock:
            if run not in self._runs:
                return
            self._runs.discard(run)
        _log.info("a request that passed by %s is ended: %s", run.stream.grant, fault)
        try:
            run.end(fault)
        except Exception:
            # It must not keep the others running.
            _log.exception("a request that passed by %s is not ended", run.stream.grant)

    def _end_all(self, fault: JitError) -> None:
        with self._lock:
            runs = tuple(self._runs)
        for run in runs:
            self._end(run, fault)


def _fault_or_doubt(run: Run, sight: Sight) -> JitError | None:
    try:
        return _fault(run, sight)
    except Exception:
        _log.exception("it cannot be judged whether a request may go on")
        return StoreUnavailable("it cannot be judged whether the request may go on")


def _fault(run: Run, sight: Sight) -> JitError | None:
    """Returns why it may not go on; None while it may."""
    stream = run.stream
    if sight.revision < stream.revision:
        blind = time.monotonic() - run.since > BLIND.total_seconds()
        return StoreUnavailable(f"revision {stream.revision} does not arrive") if blind else None
    held = sight.held[stream.asked.subject]
    basis = (held, sight.book, sight.locks)
    if sight.now < stream.ends_at and _same(run.basis, basis) and _is_plain(stream.grant, held.grants):
        return None
    why = over(
        stream,
        grants=held.grants,
        policies=sight.book.denying,
        now=sight.now,
        signals=sight.signals,
        above=sight.above,
        locks=sight.locks,
    )
    run.basis = basis
    return PassageOver(why, grant=stream.grant) if why else None


def _same(before: tuple[object, ...], now: tuple[object, ...]) -> bool:
    """Says whether nothing has taken the place of what there was before; the index never changes what it gave out."""
    return len(before) == len(now) and all(one is other for one, other in zip(before, now, strict=True))


def _is_plain(name: str, grants: tuple[LiveGrant, ...]) -> bool:
    """Says whether time alone cannot change what the grant allows before the stream's end, nor another grant."""
    return any(grant.name == name and not grant.check_condition and not grant.chain for grant in grants)
