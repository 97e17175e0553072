"""An HTTP proxy on loopback that only knows CONNECT, and leads to one port of this machine."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field


@dataclass
class Proxy:
    """What was asked of it; `answer` is its status line, `leads_to` the port that it connects to."""

    port: int = 0
    answer: bytes = b"HTTP/1.1 200 Connection established"
    leads_to: int = 0
    asked: list[str] = field(default_factory=list)

    def serve(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            request = b""
            while not request.endswith(b"\r\n\r\n"):
                request += client.recv(1)
            self.asked.append(request.decode())
            client.sendall(self.answer + b"\r\n\r\n")
            if b" 200 " not in self.answer:
                return
            with socket.create_connection(("127.0.0.1", self.leads_to)) as there:
                back = threading.Thread(target=_pump, args=(there, client), daemon=True)
                back.start()
                _pump(client, there)
                back.join(10)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


@contextmanager
def proxy() -> Iterator[Proxy]:
    """Runs a proxy."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        here = Proxy(port=listening.getsockname()[1])

        def accept() -> None:
            with suppress(OSError):
                while True:
                    client, _ = listening.accept()
                    threading.Thread(target=here.serve, args=(client,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield here
        with suppress(OSError):
            listening.shutdown(socket.SHUT_RDWR)
