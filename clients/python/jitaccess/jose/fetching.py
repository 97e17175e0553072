"""Fetches the small documents of an issuer: without redirects, of bounded size, and with one deadline in all."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Final, NamedTuple
from urllib.parse import urlencode, urlsplit

MAX_BYTES: Final = 256 * 1024
_MAX_SECRET: Final = 64 * 1024
_LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")
_DISCOVERY: Final = "/.well-known/openid-configuration"


class Answer(NamedTuple):
    """What an HTTP server answered: its status, and the body as JSON; None where the body is none."""

    status: int
    body: Any


class Documents:
    """The documents that one issuer publishes. Both files are read at each fetch, since they are replaced in rotation.

    `bearer_token_file` holds the token that the issuer demands. It is sent to `origin` alone: a URL of another origin
    that a discovery document names is fetched without it.
    """

    def __init__(
        self, origin: str, *, seconds: float, ca_file: Path | None = None, bearer_token_file: Path | None = None
    ) -> None:
        self._origin = _origin_of(origin)
        self._seconds = seconds
        self._ca_file = ca_file
        self._bearer_token_file = bearer_token_file

    @contextmanager
    def reading(self) -> Iterator[Callable[[str], Any]]:
        """Gives a function that returns what stands at a URL as JSON; all that it fetches has one deadline.

        Raises OSError and ValueError, whose words name no secret.
        """
        with self._deadline() as reading:
            yield lambda url: self._read(url, reading)

    @contextmanager
    def _deadline(self) -> Iterator[_Reading]:
        reading = _Reading(self._seconds)
        # The timeout of a socket starts anew with every byte; this timer does not.
        end = threading.Timer(self._seconds, reading.cut)
        end.daemon = True
        end.start()
        try:
            yield reading
        except Exception as fault:
            if reading.was_cut:
                raise reading.over() from fault
            raise
        finally:
            end.cancel()

    def ask(
        self, url: str, form: Mapping[str, str] | None = None, *, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Returns what the server answers at a URL, an error too: by POST with a form, else by GET.

        Raises OSError where no answer comes in time, ValueError for one that is too long or a URL that is not safe.
        """
        request = _request(url, form=form, headers=headers)
        with self._deadline() as reading:
            try:
                status, content = self._sent(request, reading)
            except urllib.error.HTTPError as refusal:
                with refusal:
                    status, content = refusal.code, _bounded(refusal)
        try:
            return Answer(status, json.loads(content))
        except (ValueError, RecursionError):
            return Answer(status, None)

    def _read(self, url: str, reading: _Reading) -> Any:
        request = _request(url)
        if self._bearer_token_file is not None and _origin_of(url) == self._origin:
            request.add_unredirected_header("authorization", f"Bearer {secret_in(self._bearer_token_file)}")
        _, content = self._sent(request, reading)
        return json.loads(content)

    def _sent(self, request: urllib.request.Request, reading: _Reading) -> tuple[int, bytes]:
        with self._opener(reading).open(request, timeout=reading.left()) as answer:
            content = _bounded(answer)
        reading.left()
        return answer.status, content

    def _opener(self, reading: _Reading) -> urllib.request.OpenerDirector:
        # A proxy of plain http could change what this machine says to itself.
        proxies = {scheme: proxy for scheme, proxy in urllib.request.getproxies().items() if scheme == "https"}
        return urllib.request.build_opener(
            urllib.request.ProxyHandler(proxies), _NoRedirects, _Http(reading), _Https(reading, self._ca_file)
        )


def _request(
    url: str, *, form: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None
) -> urllib.request.Request:
    if not is_safe_url(url):
        raise ValueError("its URL is neither https nor http on loopback")
    body = urlencode(form).encode() if form is not None else None
    return urllib.request.Request(  # noqa: S310 (looked at above)
        url, data=body, headers={"accept": "application/json", **(headers or {})}
    )


def _bounded(answer: IO[bytes]) -> bytes:
    content = answer.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f"more than {MAX_BYTES} bytes")
    return content


class _Reading:
    """The connections of one deadline."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._ends_at = time.monotonic() + seconds
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self.was_cut = False

    def left(self) -> float:
        """Returns how many seconds there are left. Raises TimeoutError where there are none."""
        left = self._ends_at - time.monotonic()
        if self.was_cut or left <= 0:
            raise self.over()
        return left

    def over(self) -> TimeoutError:
        return TimeoutError(f"not all there within {self._seconds:g} s")

    def connected(self, opened: socket.socket) -> None:
        """Takes a socket that is cut off at the deadline. Raises TimeoutError where that is over."""
        with self._lock:
            self._sockets.append(opened)
        self.left()

    def cut(self) -> None:
        """Ends whatever another thread waits for."""
        with self._lock:
            self.was_cut = True
            for opened in self._sockets:
                # Not SSLSocket.shutdown, which breaks a read in another thread. The socket may be closed by now.
                with suppress(OSError):
                    socket.socket.shutdown(opened, socket.SHUT_RDWR)


class _Http(urllib.request.HTTPHandler):
    def __init__(self, reading: _Reading) -> None:
        super().__init__()
        self._reading = reading

    def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_watched(http.client.HTTPConnection, self._reading), request)


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, reading: _Reading, ca_file: Path | None) -> None:
        super().__init__()
        self._reading = reading
        self._ca_file = ca_file

    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        context = ssl.create_default_context(cafile=self._ca_file)
        return self.do_open(_watched(http.client.HTTPSConnection, self._reading), request, context=context)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """Another host's keys are not this issuer's."""


def _watched(kind: type[http.client.HTTPConnection], reading: _Reading) -> Any:
    """Returns the kind of connection whose sockets `reading` can cut off."""

    class Watched(kind):  # type: ignore[misc, valid-type]
        def connect(self) -> None:
            super().connect()
            reading.connected(self.sock)

    return Watched


def discovered(issuer: str, read: Callable[[str], Any]) -> str:
    """Returns the URL of the issuer's keys, by OpenID Connect Discovery 1.0, 4. Raises OSError, ValueError."""
    document = read(issuer.removesuffix("/") + _DISCOVERY)
    if not isinstance(document, dict) or document.get("issuer") != issuer:
        raise ValueError("its discovery document is of another issuer")
    url = document.get("jwks_uri")
    if not isinstance(url, str):
        raise ValueError("its discovery document has no jwks_uri")
    return url


def is_safe_url(url: str) -> bool:
    """Returns whether nobody on the way can change what is fetched: the URL is https, or http on loopback."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return False
    if parts.username is not None or not host:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and host in _LOOPBACK)


def secret_in(path: Path) -> str:
    """Returns the one line that the file holds. Raises OSError, ValueError; neither shows what is there."""
    with path.open("rb") as file:
        content = file.read(_MAX_SECRET + 1).strip()
    if not content or len(content) > _MAX_SECRET or any(not 0x21 <= byte <= 0x7E for byte in content):
        raise ValueError("it does not hold one token")
    return content.decode("ascii")


def _origin_of(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"https": 443, "http": 80}.get(parts.scheme)
