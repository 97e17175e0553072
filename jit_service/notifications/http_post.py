"""Posts to receivers over HTTP. It follows no redirects, and reads of an answer no more than it is asked for."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import SplitResult, urlsplit

from jit_service.domain.notification import Failure
from jit_service.notifications.reach import Attempt, NotSent, Place, Reach, Resolve, resolved
from jit_service.notifications.receiver import Receiver

_GONE: Final = 410
_PORTS: Final = {"https": 443, "http": 80}
_SECONDS: Final = 9
"""Digits of the longest Retry-After that is read."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a receiver answered. `retry_after` is its Retry-After as sent, `body` what was to be read of it."""

    status: int
    retry_after: str = ""
    body: bytes = b""

    def failure(self, now: datetime) -> Failure | None:
        """Returns None for an answer of 2xx; anything else is a failure."""
        if 200 <= self.status < 300:
            return None
        if 300 <= self.status < 400:
            return Failure(f"it answered {self.status}, and redirects are not followed")
        wait = wait_of(self.retry_after, now)
        return Failure(f"it answered {self.status}", final=self.status == _GONE, retry_after=wait)


class Poster:
    """Posts to one receiver. One thread may call `post`; any thread may call `interrupt`."""

    def __init__(self, receiver: Receiver, *, resolve: Resolve = resolved) -> None:
        """Raises OSError if the ca_file cannot be loaded."""
        self._reach = Reach(receiver, resolve=resolve)
        self.interrupt = self._reach.interrupt

    def post(self, url: str, body: bytes, headers: Mapping[str, str], *, read: int = 0) -> Answer:
        """Posts the body, and reads so many bytes of the answer. Raises NotSent."""
        parts = urlsplit(url)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        with self._reach.attempt() as attempt:
            connection = _Connection(place_of(parts), self._reach, attempt)
            try:
                connection.request("POST", target, body=body, headers=_COMMON | dict(headers))
                return _answer_of(connection.getresponse(), read)
            except http.client.HTTPException as fault:
                if isinstance(fault, OSError):
                    raise
                attempt.left  # noqa: B018 (what was cut in the middle is late, not wrong)
                raise NotSent("its answer is not HTTP") from None
            finally:
                connection.close()

    def look_up(self, url: str) -> str:
        """Returns what is wrong with where the URL leads now, or nothing. It sends nothing."""
        try:
            self._reach.addresses(place_of(urlsplit(url)))
        except NotSent as fault:
            return str(fault)
        return ""


_COMMON: Final = {"user-agent": "jit-service", "connection": "close"}


def place_of(parts: SplitResult) -> Place:
    """Returns where the URL leads."""
    port = parts.port or _PORTS[parts.scheme]
    return Place(host=parts.hostname or "", port=port, encrypted=parts.scheme == "https")


def wait_of(retry_after: str, now: datetime) -> timedelta:
    """Returns how long a Retry-After asks for (RFC 9110, 10.2.3): seconds or a date; nothing for any other text."""
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        return timedelta(seconds=int(text[:_SECONDS]))
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return timedelta()
    return max(at.replace(tzinfo=at.tzinfo or UTC) - now, timedelta())


def _answer_of(response: http.client.HTTPResponse, read: int) -> Answer:
    body = response.read(read) if read else b""
    return Answer(status=response.status, retry_after=response.headers.get("retry-after", ""), body=body)


class _Connection(http.client.HTTPConnection):
    """A connection to the addresses that are allowed, under the host's name."""

    def __init__(self, place: Place, reach: Reach, attempt: Attempt) -> None:
        self.default_port = _PORTS["https" if place.encrypted else "http"]
        super().__init__(place.host, place.port)
        self._place = place
        self._reach = reach
        self._attempt = attempt

    def connect(self) -> None:
        """Connects. Raises NotSent and OSError."""
        plain = self._reach.connect(self._place, self._attempt)
        self.sock: socket.socket = plain
        if self._place.encrypted:
            self.sock = self._reach.secure(plain, self._place, self._attempt)
