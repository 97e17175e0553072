"""An API behind an Envoy of its own, as envoy/examples/protect has it, and a client that sends any bytes."""

from __future__ import annotations

import http.client
import json
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

from jit_service.edge import Envoy
from jit_service.settings import Address

sys.path.insert(0, str(Path(__file__).parent.parent / "tools"))

from protect_demo import configured

HOST = "payments.internal"


@dataclass(frozen=True)
class Answer:
    """What the client got."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        assert self.headers["content-type"] == "application/json", self
        return json.loads(self.body)

    @property
    def reason(self) -> str:
        return str(self.json["details"][0]["reason"])


class Api:
    """The API: it takes everything, and remembers what reached it."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, list[tuple[str, str]]]] = []
        self.cut = Event()
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one(self) -> None:
                api.seen.append((self.command, self.path, list(self.headers.items())))
                self.rfile.read(int(self.headers.get("content-length", 0)))
                if self.headers.get("upgrade") == "websocket":
                    return self.forever("101", [("connection", "upgrade"), ("upgrade", "websocket")])
                if self.headers.get("accept") == "text/event-stream":
                    return self.forever("200", [("content-type", "text/event-stream"), ("connection", "close")])
                self.send_response(200)
                self.send_header("content-length", "2")
                self.end_headers()
                self.wfile.write(b"in")
                return None

            def forever(self, status: str, headers: list[tuple[str, str]]) -> None:
                self.close_connection = True
                self.send_response(int(status))
                for key, value in headers:
                    self.send_header(key, value)
                self.end_headers()
                try:
                    while not api.cut.wait(0.02):
                        self.wfile.write(b"data: x\n\n")
                except OSError:
                    api.cut.set()

            def __getattr__(self, attribute: str) -> Any:
                if attribute.startswith("do_"):
                    return self.handle_one
                raise AttributeError(attribute)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = Address("127.0.0.1", self._server.server_address[1])
        Thread(target=self._server.serve_forever, daemon=True).start()

    def paths(self) -> list[str]:
        return [path for _, path, _ in self.seen]

    def stop(self) -> None:
        self.cut.set()
        self._server.shutdown()
        self._server.server_close()


class Gate:
    """The protected API."""

    def __init__(self, api: Api, address: Address) -> None:
        self.api = api
        self.address = address

    def send(
        self,
        path: str | bytes,
        *,
        token: str | None = None,
        method: str = "GET",
        host: str = HOST,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> Answer:
        """Sends the request byte for byte."""
        with self.opened(path, token=token, method=method, host=host, headers=headers) as response:
            return Answer(
                response.status, {key.lower(): value for key, value in response.getheaders()}, response.read()
            )

    @contextmanager
    def opened(
        self,
        path: str | bytes,
        *,
        token: str | None = None,
        method: str = "GET",
        host: str = HOST,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> Iterator[http.client.HTTPResponse]:
        """Sends the request, and yields the answer with its body still to be read."""
        target = path if isinstance(path, bytes) else path.encode()
        lines = [f"host: {host}", *([f"authorization: Bearer {token}"] if token is not None else [])]
        lines += [f"{key}: {value}" for key, value in headers]
        head = method.encode() + b" " + target + b" HTTP/1.1\r\n" + "\r\n".join(lines).encode() + b"\r\n\r\n"
        with socket.create_connection((self.address.host, self.address.port), timeout=20) as connection:
            connection.sendall(head)
            response = http.client.HTTPResponse(connection, method=method)
            response.begin()
            yield response


@contextmanager
def running_gate(
    service: Path | Address, directory: Path, *, timeout: float = 5, edits: Mapping[str, str] | None = None
) -> Iterator[Gate]:
    """Runs the API and the example's Envoy, which asks the service at that socket or address.

    `edits` are texts of its configuration, which stand there once, and what takes their place.
    """
    api = Api()
    config = configured(
        http=Address("127.0.0.1", 0), service=service, api=api.address, directory=directory, timeout=timeout
    )
    for sound, edited in (edits or {}).items():
        text = config.read_text()
        assert text.count(sound) == 1, f"{sound!r} is not once in the example"
        config.write_text(text.replace(sound, edited))
    envoy = Envoy(config, directory=directory)
    try:
        yield Gate(api, envoy.start(timeout=30))
    finally:
        envoy.stop()
        api.stop()
