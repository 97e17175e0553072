"""The way between the service and its database, on which a test says what arrives."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PIECE = 1 << 16


class Wire:
    """A TCP port that leads to a database's socket, until `hang` or `cut`; `go_on` mends it.

    What is sent while it hangs is kept, and arrives once it goes on, as with a server that was stopped.
    """

    def __init__(self, leads_to: Path) -> None:
        self._leads_to = leads_to
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._passes = threading.Event()
        self._passes.set()
        self._is_cut = False
        self._lose_answer_to: bytes | None = None
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def hang(self) -> None:
        """Nothing arrives any more on either side, and new connections are taken without an answer."""
        self._passes.clear()

    def cut(self) -> None:
        """Ends every connection, and refuses new ones."""
        self._is_cut = True
        self._end_all()

    def go_on(self) -> None:
        self._is_cut = False
        self._passes.set()

    def lose_answer_to(self, statement: bytes) -> None:
        """Lets the statement arrive, once, and ends its connection before the answer."""
        self._lose_answer_to = statement

    def close(self) -> None:
        self._passes.set()
        self._listening.close()
        self._end_all()

    def _end_all(self) -> None:
        with self._lock:
            ended, self._open = self._open, set()
        for each in ended:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError), socket.socket(socket.AF_UNIX) as server:
            with self._lock:
                self._open |= {client, server}
            if self._is_cut:
                return
            self._passes.wait()
            server.connect(str(self._leads_to))
            loses = threading.Event()
            back = threading.Thread(target=self._pump, args=(server, client, lambda _: loses.is_set()), daemon=True)
            back.start()
            self._pump(client, server, lambda data: self._loses(data, loses))
            back.join()

    def _loses(self, data: bytes, loses: threading.Event) -> bool:
        if self._lose_answer_to is not None and self._lose_answer_to in data:
            self._lose_answer_to = None
            loses.set()
        return False

    def _pump(self, source: socket.socket, sink: socket.socket, ends: Callable[[bytes], bool]) -> None:
        with suppress(OSError):
            while data := source.recv(_PIECE):
                self._passes.wait()
                if ends(data):
                    break
                sink.sendall(data)
        for each in (source, sink):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


@contextmanager
def wire(leads_to: Path) -> Iterator[Wire]:
    """Yields a way to the database, and ends it."""
    there = Wire(leads_to)
    try:
        yield there
    finally:
        there.close()
