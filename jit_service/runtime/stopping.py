"""How a process of the service is asked to stop, and what it does before it does: it drains.

First health says no, then the service goes on answering for a while, so that whoever spreads calls over hosts sends
them elsewhere. Only then its parts are stopped: streams are told to go on elsewhere, connections to close, and calls
under way get their answers (docs/adr/0068-drain-before-stopping.md).
"""

from __future__ import annotations

import logging
import queue
import signal
from collections.abc import Callable
from datetime import timedelta
from typing import Final

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
_log = logging.getLogger(__name__)


class Stops:
    """What asks this process to stop: TERM and INT, and whoever calls `ask`. Only the main thread may make it."""

    def __init__(self) -> None:
        # Its `put` may be called from a handler of signals, also while `get` waits in the same thread.
        self._asked: queue.SimpleQueue[None] = queue.SimpleQueue()
        for number in _SIGNALS:
            signal.signal(number, lambda *_: self.ask())

    def ask(self) -> None:
        """Asks once more."""
        self._asked.put(None)

    def ask_at_once(self) -> None:
        """Asks to stop, and not to wait for anybody."""
        self.ask()
        self.ask()

    def come(self, *, within: float | None = None) -> bool:
        """Waits until it is asked, for so many seconds at most. Each asking is told once."""
        try:
            self._asked.get(timeout=within)
        except queue.Empty:
            return False
        return True


def drain(stops: Stops, delay: timedelta, *begin: Callable[[], None]) -> None:
    """Calls each `begin`, and lets the service answer for so long. Whoever asks again ends that at once."""
    if not delay:
        return
    for each in begin:
        each()
    _log.info("draining: health says no, and calls are answered for %g s more", delay.total_seconds())
    if stops.come(within=delay.total_seconds()):
        _log.info("asked again, so nobody is waited for")
