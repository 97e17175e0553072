"""An identity provider on loopback: what it publishes, over TLS or not, and all the ways in which it answers badly."""

from __future__ import annotations

import json
import queue
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.certificates import certificate

DISCOVERY = "/.well-known/openid-configuration"


class Provider:
    """What it answers with is for the test to set; `asked` are the paths, and `shown` the bearer tokens, that came."""

    def __init__(self, scheme: str, port: int) -> None:
        self.url = f"{scheme}://localhost:{port}"
        self.port = port
        self.documents: dict[str, bytes] = {}
        self.status = 200
        self.location = ""
        self.demands = ""
        self.drips = False
        self.asked: list[str] = []
        self.shown: list[str] = []
        self.arrivals: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.answering = threading.Event()
        self.answering.set()
        self.stopped = threading.Event()

    @property
    def jwks_url(self) -> str:
        return f"{self.url}/jwks.json"

    def publish(self, jwks: Path | bytes, **discovery: Any) -> None:
        """Publishes keys, and a discovery document that leads to them."""
        self.documents["/jwks.json"] = jwks.read_bytes() if isinstance(jwks, Path) else jwks
        document = {"issuer": self.url, "jwks_uri": self.jwks_url} | discovery
        self.documents[DISCOVERY] = json.dumps(document).encode()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        shown = handler.headers.get("authorization", "")
        self.asked.append(handler.path)
        self.shown.append(shown)
        self.arrivals.put(handler.path)
        self.answering.wait(30)
        content = self.documents.get(handler.path)
        status = 404 if content is None else 401 if self.demands and shown != f"Bearer {self.demands}" else self.status
        handler.send_response(status)
        if self.location:
            handler.send_header("location", self.location)
        handler.send_header("content-length", str(len(content or b"")))
        handler.end_headers()
        if self.drips:
            self._drip(handler)
        elif content is not None:
            handler.wfile.write(content)

    def _drip(self, handler: BaseHTTPRequestHandler) -> None:
        """Sends a byte at a time, sooner than any timeout of a read, until it is cut off."""
        while not self.stopped.wait(0.05):
            handler.wfile.write(b" ")
            handler.wfile.flush()


@contextmanager
def provider(directory: Path | None = None) -> Iterator[Provider]:
    """Runs one; over TLS with an authority of its own, `ca.pem` in the directory, if there is one."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with suppress(OSError):
                running.answer(self)

        def log_message(self, format: str, *args: Any) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    if directory is not None:
        _, both = certificate("localhost", directory)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(both)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    running = Provider("http" if directory is None else "https", server.server_port)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield running
    finally:
        running.answering.set()
        running.stopped.set()
        server.shutdown()
        server.server_close()
