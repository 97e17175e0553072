"""What a parent tells its worker, by a line each on the worker's stdin. The end of it tells the worker to stop."""

from __future__ import annotations

import threading
from typing import IO, Final

ASK: Final = "metrics"
"""To which a worker answers with its values, in a line on its stdout."""
DRAIN: Final = "drain"
"""From which on a worker's health says no."""


class Orders:
    """The stdin of one worker. Any thread may use it."""

    def __init__(self, pipe: IO[str]) -> None:
        self._pipe = pipe
        self._lock = threading.Lock()

    def give(self, order: str) -> bool:
        """Writes a line; False where the worker has ended."""
        with self._lock:
            try:
                self._pipe.write(f"{order}\n")
                self._pipe.flush()
            except (OSError, ValueError):
                return False
            return True

    def end(self) -> None:
        """Has the worker stop."""
        with self._lock:
            try:
                self._pipe.close()
            except OSError:
                # What was not written is nobody's any more.
                return
