"""Posts checkpoints of the audit log to a URL, with the guards of the receivers of notifications."""

from __future__ import annotations

from datetime import datetime

from jit_service.notifications.http_post import Poster
from jit_service.notifications.reach import NotSent
from jit_service.notifications.receiver import Receiver, demand_url


def demand_checkpoint_url(url: str, *, allow_private: bool) -> None:
    """Raises ValueError for a URL that no checkpoint may ever be posted to."""
    parts = demand_url(url)
    encrypted = parts.scheme == "https"
    _receiver(allow_private=allow_private).demand_reachable(parts.hostname or "", field="url", encrypted=encrypted)


class CheckpointPost:
    """Posts to one URL."""

    def __init__(self, url: str, *, allow_private: bool) -> None:
        self._url = url
        self._poster = Poster(_receiver(allow_private=allow_private))
        self.interrupt = self._poster.interrupt

    def send(self, body: bytes, *, at: datetime) -> str:
        """Posts the JSON. Returns what went wrong; nothing for an answer of 2xx."""
        try:
            failure = self._poster.post(self._url, body, {"content-type": "application/json"}).failure(at)
        except NotSent as fault:
            return str(fault)
        return failure.fault if failure is not None else ""


def _receiver(*, allow_private: bool) -> Receiver:
    return Receiver(name="checkpoints", allow_private=allow_private)
