"""An API behind an Envoy of its own, as envoy/examples/protect has it, and a client that sends any bytes."""

from __future__ import annotations

import http.client
import json
import socket
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import grpc

from jit_service.runtime.envoy import Envoy
from jit_service.settings import Address

sys.path.insert(0, str(Path(__file__).parent.parent / "tools"))

from protect_demo import configured

from tests.world import Grpc, Person, Story, World

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
    """The API: it takes everything, and remembers what reached it, and which paths' streams are over."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, list[tuple[str, str]]]] = []
        self.over: defaultdict[str, Event] = defaultdict(Event)
        self._stopping = Event()
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one(self) -> None:
                api.seen.append((self.command, self.path, list(self.headers.items())))
                self.rfile.read(int(self.headers.get("content-length", 0)))
                if self.headers.get("transfer-encoding") == "chunked" and not self.took_all():
                    return None
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
                    while not api._stopping.wait(0.02):
                        self.wfile.write(b"data: x\n\n")
                except OSError:
                    api.over[self.path].set()

            def took_all(self) -> bool:
                """Reads the body to its end, and says whether that was the real one."""
                self.close_connection = True
                try:
                    while size := int(self.rfile.readline(), 16):
                        self.rfile.read(size + 2)
                except (OSError, ValueError):
                    size = -1
                api.over[self.path].set()
                return size == 0

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
        self._stopping.set()
        self._server.shutdown()
        self._server.server_close()


class Gate:
    """The protected API. `log` is what its Envoy logs, with a line of JSON for each request."""

    def __init__(self, api: Api, address: Address, log: Path) -> None:
        self.api = api
        self.address = address
        self.log = log

    def access(self, path: str, count: int = 1) -> list[dict[str, Any]]:
        """Returns the lines of the access log about the path, once there are so many; Envoy flushes at intervals."""
        deadline = time.monotonic() + 20
        while True:
            lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
            if len(found := [line for line in lines if line["path"] == path]) >= count:
                return found
            assert time.monotonic() < deadline, f"{path} is not in the log"
            time.sleep(0.05)

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


DOWNLOAD = (("accept", "text/event-stream"),)
WEBSOCKET = (("connection", "upgrade"), ("upgrade", "websocket"), ("sec-websocket-key", "x"))
UPLOAD = (("transfer-encoding", "chunked"),)
Kind = tuple[tuple[str, str], ...]


class Exchange(Thread):
    """A request that lasts: both sides go on until one of them is cut off. `got` is what the client has read."""

    def __init__(self, gate: Gate, path: str, token: str, kind: Kind) -> None:
        super().__init__(daemon=True)
        self.path = path
        self.got = b""
        self.last_at = 0.0
        self.ended_at = 0.0
        self._api = gate.api
        self._sends = kind is not DOWNLOAD
        self._chunked = kind is UPLOAD
        self._left = Event()
        self._connection = socket.create_connection((gate.address.host, gate.address.port), timeout=20)
        method = "POST" if kind is UPLOAD else "GET"
        lines = [f"{method} {path} HTTP/1.1", f"host: {HOST}", f"authorization: Bearer {token}"]
        lines += [f"{key}: {value}" for key, value in kind]
        if kind is not WEBSOCKET:
            lines.append("connection: close")
        self._connection.sendall("\r\n".join([*lines, "", ""]).encode())
        self._connection.settimeout(0.02)
        self.start()

    def run(self) -> None:
        try:
            while not self._left.is_set() and self._goes_on():
                pass
        except OSError:
            pass
        self.ended_at = time.monotonic()

    def _goes_on(self) -> bool:
        if self._sends:
            self._connection.sendall(b"4\r\nabcd\r\n")
        try:
            read = self._connection.recv(65536)
        except TimeoutError:
            return True
        self.got += read
        self.last_at = time.monotonic()
        return bool(read)

    def wait_until_it_runs(self) -> None:
        deadline = time.monotonic() + 10
        while self.path not in self._api.paths() or (not self._chunked and b"data: x" not in self.got):
            assert time.monotonic() < deadline, (self.got, "it does not begin")
            time.sleep(0.01)

    def wait_until_cut(self, seconds: float) -> None:
        """Fails unless the API is cut off within so many seconds, and the client then too."""
        assert self._api.over[self.path].wait(seconds), "the API still talks to the client"
        # Envoy leaves a client that speaks HTTP/1 a second to read what there is (delayed_close_timeout).
        self.join(2)
        assert self.ended_at, "the client is not cut off"

    @property
    def runs(self) -> bool:
        """Whether neither side has noticed an end."""
        return self.is_alive() and not self._api.over[self.path].is_set()

    def leave(self) -> None:
        """Ends it from the client's side."""
        self._left.set()
        self.join()
        self._connection.close()


@contextmanager
def running_gate(
    service: Path | Address,
    directory: Path,
    *,
    timeout: float = 5,
    edits: Mapping[str, str] | None = None,
    passing: Path | Address | None = None,
) -> Iterator[Gate]:
    """Runs the API and the example's Envoy, which asks the service at that socket or address, and at `passing`.

    `edits` are texts of its configuration, which stand there once, and what takes their place.
    """
    api = Api()
    config = configured(
        http=Address("127.0.0.1", 0),
        service=service,
        api=api.address,
        directory=directory,
        timeout=timeout,
        passing=passing,
    )
    for sound, edited in (edits or {}).items():
        text = config.read_text()
        assert text.count(sound) == 1, f"{sound!r} is not once in the example"
        config.write_text(text.replace(sound, edited))
    envoy = Envoy(config, directory=directory)
    try:
        yield Gate(api, envoy.start(timeout=30), envoy.log)
    finally:
        envoy.stop()
        api.stop()


class Protected(Story):
    """A story whose resources are paths of the API: /ID/…"""

    def __init__(self, world: World, gate: Gate) -> None:
        super().__init__(world, Grpc(world))
        self.gate = gate
        self.path = f"/{self.id}/refunds"
        self.create_policy("api", resources=[f"http/{HOST}/{self.id}/**"], actions=["http.*"])

    def opens(self, path: str | None = None, *actions: str, **changes: Any) -> Any:
        """Gives alice the path, by GET if nothing else is said."""
        resources = [f"http/{HOST}{path or self.path}"]
        return self.granted(resources=resources, actions=list(actions or ("http.get",)), **changes)

    def sends(self, path: str | bytes | None = None, person: Person | None = None, **more: Any) -> Any:
        return self.gate.send(path or self.path, token=self.world.token(person or self.alice), **more)


class Fake:
    """A server that stands where the access service should be, and answers as it is told."""

    def __init__(self) -> None:
        self.behaviour: Callable[[], bytes] = bytes
        # What is done with a call that watches a request; by default it stays open for ever.
        self.watching: Callable[[grpc.ServicerContext, Callable[[Any], None]], None] = lambda *_: None
        self._server = grpc.server(ThreadPoolExecutor(16))
        check = grpc.unary_unary_rpc_method_handler(lambda *_: self.behaviour())

        def watch(_: Any, context: grpc.ServicerContext, send: Callable[[Any], None]) -> None:
            self.watching(context, send)

        watch.experimental_non_blocking = True  # type: ignore[attr-defined]
        process = grpc.stream_stream_rpc_method_handler(watch)
        for service, methods in (
            ("envoy.service.auth.v3.Authorization", {"Check": check}),
            ("envoy.service.ext_proc.v3.ExternalProcessor", {"Process": process}),
        ):
            self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, methods),))
        self.address = Address("127.0.0.1", self._server.add_insecure_port("127.0.0.1:0"))
        self._server.start()

    def stop(self) -> None:
        self._server.stop(None)
