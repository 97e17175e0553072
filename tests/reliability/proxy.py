"""A proxy between the service and PostgreSQL that loses, holds up and cuts what passes, on command."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PORT_FILE = ".s.PGSQL.5432"
_CHUNK = 1 << 16


class Proxy:
    """Listens in a directory as PostgreSQL does, and passes everything on to the real one."""

    def __init__(self, directory: Path, upstream: Path) -> None:
        self.directory = directory
        directory.mkdir()
        self._upstream = str(upstream / _PORT_FILE)
        self._flows = threading.Event()
        self._flows.set()
        self._delay = 0.0
        self._refuses = False
        self._cuts_at_commit = 0
        self._open: set[tuple[socket.socket, socket.socket]] = set()
        self._listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listening.bind(str(directory / _PORT_FILE))
        self._listening.listen(200)
        threading.Thread(target=self._accept, daemon=True).start()

    @contextmanager
    def holding(self) -> Iterator[None]:
        """Lets nothing through, and closes nothing, as where packets are lost."""
        self._flows.clear()
        try:
            yield
        finally:
            self._flows.set()

    @contextmanager
    def slow(self, seconds: float) -> Iterator[None]:
        """Lets everything through later."""
        self._delay = seconds
        try:
            yield
        finally:
            self._delay = 0.0

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """Closes every connection, and takes no new one."""
        self._refuses = True
        self.cut()
        try:
            yield
        finally:
            self._refuses = False

    def cut_at_commits(self, count: int) -> None:
        """Passes on the next COMMITs, and cuts their connections before the answer: did they happen?"""
        self._cuts_at_commit = count

    def cut(self) -> None:
        """Cuts every connection."""
        for pair in list(self._open):
            _close(pair)

    def close(self) -> None:
        self._refuses = True
        self._listening.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                if self._refuses:
                    raise ConnectionRefusedError
                server.connect(self._upstream)
            except OSError:
                _close((client, server))
                continue
            pair = (client, server)
            self._open.add(pair)
            threading.Thread(target=self._pump, args=(client, server, pair), daemon=True).start()
            threading.Thread(target=self._pump, args=(server, client, pair), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, pair: tuple[socket.socket, socket.socket]) -> None:
        with suppress(OSError):
            while data := source.recv(_CHUNK):
                self._flows.wait()
                if self._delay:
                    time.sleep(self._delay)
                sink.sendall(data)
                if self._cuts_at_commit and source is pair[0] and b"COMMIT" in data:
                    self._cuts_at_commit -= 1
                    # It is on its way to the disk by then.
                    time.sleep(0.05)
                    break
        self._open.discard(pair)
        _close(pair)


def _close(pair: tuple[socket.socket, socket.socket]) -> None:
    for each in pair:
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
        each.close()
