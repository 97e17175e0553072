"""The page on this machine to which the browser comes back from the provider: RFC 8252, 7.3."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from jitaccess.errors import Misconfigured, Unauthenticated

PATH: Final = "/callback"
_HOST: Final = "127.0.0.1"
_MAX_QUERY: Final = 16 << 10
_SOCKET_SECONDS: Final = 10.0
_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>jit</title></head>
<body><main><h1>{heading}</h1><p>{words}</p></main></body></html>
"""


class Loopback:
    """A server on 127.0.0.1 that waits for one answer of the provider."""

    def __init__(self, server: ThreadingHTTPServer, answers: queue.SimpleQueue[Mapping[str, str]]) -> None:
        self._answers = answers
        self.redirect_uri = f"http://{_HOST}:{server.server_port}{PATH}"

    def wait(self, seconds: float) -> Mapping[str, str]:
        """Returns the parameters with which the browser came back. Raises Unauthenticated where it does not in time."""
        try:
            return self._answers.get(timeout=seconds)
        except queue.Empty:
            raise Unauthenticated(
                f"nobody logged in within {seconds:g} s; log in again, without a browser by: jit login --device",
                reason="LOGIN_TIMED_OUT",
            ) from None


@contextmanager
def listening(port: int = 0) -> Iterator[Loopback]:
    """Listens on a port of 127.0.0.1, one that the system chooses where it is 0. Raises Misconfigured."""
    answers: queue.SimpleQueue[Mapping[str, str]] = queue.SimpleQueue()

    class Handler(_Handler):
        def take(self, answer: Mapping[str, str]) -> None:
            answers.put(answer)

    try:
        server = ThreadingHTTPServer((_HOST, port), Handler)
    except OSError as fault:
        raise Misconfigured(f"port {port} of {_HOST}: {fault.strerror}", reason="PORT_IN_USE") from None
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.05}, name="jit-login", daemon=True
    )
    thread.start()
    try:
        yield Loopback(server, answers)
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    timeout = _SOCKET_SECONDS

    def take(self, answer: Mapping[str, str]) -> None:
        """Hands over what the provider answered."""
        raise NotImplementedError

    def do_GET(self) -> None:
        """Takes the provider's answer; whatever else a browser asks for is not here."""
        parts = urlsplit(self.path)
        # A page of another site, whose name leads here, names itself in Host.
        ours = self.headers.get("host") == f"{_HOST}:{self.connection.getsockname()[1]}"
        pairs = parse_qsl(parts.query) if len(parts.query) <= _MAX_QUERY else []
        answer = dict(pairs)
        # RFC 6749, 3.1: a parameter stands once. Without a state it answers nothing that was asked.
        if not ours or parts.path != PATH or len(answer) < len(pairs) or "state" not in answer:
            self._answer(404, "Not here", "This address only takes the answer to a login.")
            return
        if "error" in answer:
            self._answer(200, "Not logged in", "The terminal says why. You can close this window.")
        else:
            self._answer(200, "Go back to the terminal", "It has the answer. You can close this window.")
        self.take(answer)

    def log_message(self, format: str, *args: object) -> None:
        """Logs nothing: the code stands in the request's line."""

    def _answer(self, status: int, heading: str, words: str) -> None:
        body = _PAGE.format(heading=heading, words=words).encode()
        self.send_response(status)
        self.send_header("content-type", "text/html; charset=utf-8")
        self.send_header("content-length", str(len(body)))
        self.send_header("cache-control", "no-store")
        self.send_header("referrer-policy", "no-referrer")
        self.send_header("content-security-policy", "default-src 'none'; frame-ancestors 'none'")
        self.send_header("connection", "close")
        self.end_headers()
        self.wfile.write(body)
