"""A real webhook receiver on loopback, which answers as a test tells it to, and a client of its kind that verifies."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from jit_service.notifications.receivers import WebhookReceiver

KEY = bytes(range(32))
SECRET = "whsec_" + base64.b64encode(KEY).decode()


@dataclass(frozen=True)
class Received:
    """What came."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def event(self) -> Any:
        return json.loads(self.body)

    def is_signed_by(self, key: bytes) -> bool:
        """Verifies as Standard Webhooks says; written apart from what signs."""
        content = b".".join((self.id.encode(), self.headers["webhook-timestamp"].encode(), self.body))
        expected = base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode()
        given = [part.partition(",") for part in self.headers["webhook-signature"].split(" ")]
        return any(version == "v1" and hmac.compare_digest(value, expected) for version, _, value in given)


class Hook:
    """The receiver. `status` is what it answers, `location` where it redirects to; a hanging one never answers."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.status = 204
        self.location = ""
        self.trickles = False
        self.received: list[Received] = []
        self.arrivals: queue.SimpleQueue[Received] = queue.SimpleQueue()
        self.released = threading.Event()
        self.released.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook?token=hunter2"

    def hang(self) -> None:
        self.released.clear()


@contextmanager
def hook() -> Iterator[Hook]:
    """Runs a receiver."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {key.lower(): value for key, value in self.headers.items()}
            came = Received(self.path, headers, body)
            here.received.append(came)
            here.arrivals.put(came)
            if here.trickles:
                self._trickle()
                return
            here.released.wait(30)
            self.send_response(here.status)
            if here.location:
                self.send_header("location", here.location)
            self.end_headers()

        def do_GET(self) -> None:
            self.do_POST()

        def _trickle(self) -> None:
            """A byte every little while, for 10 s, so that no single read ever waits for long."""
            with suppress(OSError):
                for _ in range(200):
                    if here.released.wait(0.05):
                        return
                    self.wfile.write(b"x")

        def log_message(self, format: str, *args: Any) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    here = Hook(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield here
    finally:
        here.released.set()
        server.shutdown()
        server.server_close()


def receiver(directory: Path, url: str, *, name: str = "oncall", **changes: Any) -> WebhookReceiver:
    """Returns a receiver of the settings, signed by KEY, on loopback."""
    return WebhookReceiver.model_validate(facts(directory, url, name=name, **changes))


def facts(directory: Path, url: str, **changes: Any) -> dict[str, Any]:
    """Returns a receiver as the settings' file has it."""
    secret = directory / "secret"
    if not secret.exists():
        secret.touch(mode=0o600)
        secret.write_text(SECRET + "\n")
    return {"name": "oncall", "url": url, "secret_file": str(secret), "allow_private": True} | changes
