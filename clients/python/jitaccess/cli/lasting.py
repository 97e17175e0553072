"""Streams that last: what a person watches goes on when the service is back, however long it was away."""

from __future__ import annotations

import sys
from typing import Any

from jitaccess._watch import Resumption
from jitaccess.client import JitClient
from jitaccess.errors import JitError

AGAIN = 2.0  # Seconds between two looks whether the service is back.


class LastingClient(JitClient):
    """A client that takes up again a stream that has told something, until it is interrupted. It says so on stderr."""

    _said = ""

    def pause_before_resuming(self, resumption: Resumption[Any, Any], fault: JitError) -> float:
        """Returns the seconds to wait; raises the fault where it will not pass, or where nothing was told yet."""
        try:
            return super().pause_before_resuming(resumption, fault)
        except JitError:
            if fault.code not in ("UNAVAILABLE", "DEADLINE_EXCEEDED") or not resumption.has_told:
                raise
        if fault.message != self._said:
            from jitaccess.cli.screen import screen_on

            screen_on(sys.stderr).say(f"warning: {fault.message}; this goes on once it is back")
        self._said = fault.message
        return AGAIN
