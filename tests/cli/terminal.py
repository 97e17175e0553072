"""A person at a terminal: `jit` on a pseudo-terminal, read and typed to."""

from __future__ import annotations

import fcntl
import os
import pty
import selectors
import struct
import subprocess
import termios
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass
class Terminal:
    """One end of the pseudo-terminal, with the process at its other end."""

    process: subprocess.Popen[bytes]
    descriptor: int
    seen: str = ""

    def read_until(self, text: str) -> str:
        """Reads until the text was seen, and returns all that was seen so far."""
        while text not in self.seen:
            assert self._read(), f"{text!r} never came, only {self.seen!r}"
        return self.seen

    def read_all(self) -> str:
        """Reads until the process has ended, and returns all that was seen."""
        while self._read():
            pass
        return self.seen

    def type(self, text: str) -> None:
        os.write(self.descriptor, text.encode())

    def code(self) -> int:
        return self.process.wait(timeout=60)

    def _read(self) -> bool:
        with selectors.DefaultSelector() as output:
            output.register(self.descriptor, selectors.EVENT_READ)
            assert output.select(60), f"silence after {self.seen!r}"
        try:
            data = os.read(self.descriptor, 65536)
        except OSError:
            # EIO: so Linux says that the other end is closed.
            return False
        self.seen += data.decode()
        return bool(data)


@contextmanager
def terminal(command: Sequence[str], *, env: Mapping[str, str], columns: int = 120) -> Iterator[Terminal]:
    """Runs the command on a terminal of that width."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    process = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=dict(env), start_new_session=True
    )
    os.close(theirs)
    try:
        yield Terminal(process=process, descriptor=ours)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
