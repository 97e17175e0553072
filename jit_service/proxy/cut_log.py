"""The log of cut requests: one line each, with who had it, by which grant, and why it may not go on."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from jit_service.check import GrantCache
from jit_service.domain.checks.http_request import Stream

_log = logging.getLogger(__name__)


class CutLog:
    """Writes on a thread of its own: who ended a grant is read from the store, and no cut waits for the store."""

    def __init__(self, view: GrantCache) -> None:
        self._view = view
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="cut-log")

    def add(self, stream: Stream, why: str) -> None:
        """Logs that the stream was cut, and why. After `close`, nothing is logged."""
        with suppress(RuntimeError):
            self._writer.submit(self._write, stream, why)

    def close(self) -> None:
        """Returns when all is written."""
        self._writer.shutdown()

    def _write(self, stream: Stream, why: str) -> None:
        asked = stream.asked
        _log.info(
            "cut %s on %s of %s, which passed by %s: %s%s",
            asked.action,
            asked.resource,
            asked.subject,
            stream.grant,
            why,
            self._how_it_ended(stream),
        )

    def _how_it_ended(self, stream: Stream) -> str:
        """Returns how somebody ended the grant; empty where nobody did, or where the store does not tell."""
        subject = stream.asked.subject
        if any(grant.name == stream.grant for grant in self._view.held([subject]).held[subject].grants):
            return ""
        try:
            past = self._view.past(subject)
        except Exception:
            # Without the store, the line says less.
            return ""
        end = next((grant.end for grant in past if grant.name == stream.grant), None)
        return f" ({end.state} by {end.by})" if end is not None else ""
