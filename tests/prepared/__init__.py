"""Programs whose modules are loaded already. To start one takes a fork, and not half a second of imports.

A server for each program (`server.py`) imports it once for all workers of a run. For each start it forks, and the
child becomes the program: with the arguments, environment, directory, umask, ignored signals and standard streams of
whoever starts it, in a session of its own. `start` and `run` start a program from Python, as subprocess does. `command`
is for those who start by a path, such as a shell: a process of a few milliseconds that passes signals on, and ends as
the program does (`stand_in.py`).

tests/test_prepared.py shows that a prepared program does what the real one does.
"""

from __future__ import annotations

import atexit
import errno
import fcntl
import os
import select
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import IO

from tests.prepared import wire

ROOT = Path(__file__).parents[2]
_DIRECTORY = "PREPARED_PROGRAMS"


class Started:
    """A program that was started, with a pipe for each of its outputs. It is used as a subprocess.Popen of text."""

    def __init__(self, address: str, arguments: Sequence[str], env: Mapping[str, str]) -> None:
        self.args = arguments
        self.returncode: int | None = None
        self._connection = socket.socket(socket.AF_UNIX)
        self._connection.connect(address)
        (out, theirs_out), (err, theirs_err) = os.pipe(), os.pipe()
        with open(os.devnull, "rb") as nothing:
            environment = {os.fsencode(name): os.fsencode(value) for name, value in env.items()}
            order = (list(arguments), environment, os.getcwdb(), _umask(), [])
            wire.send(self._connection, order, (nothing.fileno(), theirs_out, theirs_err))
        os.close(theirs_out)
        os.close(theirs_err)
        self.stdout: IO[str] = os.fdopen(out, encoding="utf-8")
        self.stderr: IO[str] = os.fdopen(err, encoding="utf-8")
        self.pid = wire.receive_number(self._connection)

    def poll(self) -> int | None:
        """Returns the exit code, negative for a signal, or None while it runs."""
        return self._ended(0.0)

    def wait(self, timeout: float | None = None) -> int:
        """Returns the exit code. Raises TimeoutExpired after `timeout` seconds."""
        code = self._ended(timeout)
        if code is None:
            assert timeout is not None
            raise subprocess.TimeoutExpired(list(self.args), timeout)
        return code

    def send_signal(self, number: int) -> None:
        """Sends it a signal, if it still runs."""
        if self.poll() is None:
            # It may have ended since.
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """Sends TERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Sends KILL."""
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Waits for the end, and returns what is left of both outputs. Raises TimeoutExpired."""
        with ThreadPoolExecutor(2) as pool:
            read = [pool.submit(_rest_of, stream) for stream in (self.stdout, self.stderr)]
            try:
                self.wait(timeout)
            except BaseException:
                self.kill()
                raise
        out, err = (each.result() for each in read)
        self._connection.close()
        return out, err

    def _ended(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self._connection], [], [], timeout)[0]:
            self.returncode = wire.receive_number(self._connection)
        return self.returncode


def start(program: str, *arguments: str, env: Mapping[str, str]) -> Started:
    """Starts the program, with nothing to read on stdin."""
    return Started(_server(program), arguments, env)


def run(program: str, *arguments: str, env: Mapping[str, str], timeout: float) -> subprocess.CompletedProcess[str]:
    """Runs the program to its end. Raises TimeoutExpired after `timeout` seconds."""
    started = start(program, *arguments, env=env)
    out, err = started.communicate(timeout)
    assert started.returncode is not None
    return subprocess.CompletedProcess([program, *arguments], started.returncode, out, err)


@cache
def command(program: str) -> Path:
    """Returns the path of a command that starts the program; its directory has no other."""
    address = _server(program)
    path = _directory() / f"{program}-alone" / program
    with _by_turns():
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            stand_in = [sys.executable, "-IS", str(Path(__file__).with_name("stand_in.py")), address]
            path.write_text(f'#!/bin/sh\nexec {shlex.join(stand_in)} "$@"\n')
            path.chmod(0o700)
    return path


def share() -> None:
    """Has this process and all that it starts use the same servers."""
    os.environ[_DIRECTORY] = str(_directory())


@cache
def _directory() -> Path:
    if shared := os.environ.get(_DIRECTORY):
        return Path(shared)
    # Not in pytest's directory: the path of a Unix socket is short.
    directory = tempfile.TemporaryDirectory(prefix="jit-prepared-")
    atexit.register(directory.cleanup)
    return Path(directory.name)


@contextmanager
def _by_turns() -> Iterator[None]:
    directory = os.open(_directory(), os.O_RDONLY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        yield
    finally:
        os.close(directory)


@cache
def _server(program: str) -> str:
    """Returns the address of the program's server, which ends with the last process that has called this.

    Each of them holds a FIFO open for as long as it lives, whose end is the server's stdin.
    """
    address = _directory() / program
    users = address.with_suffix(".users")
    with _by_turns():
        try:
            os.open(users, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as fault:
            # There was no server, or it has ended.
            if fault.errno not in (errno.ENOENT, errno.ENXIO):
                raise
            _start_server(program, address, users)
    return str(address)


def _start_server(program: str, address: Path, users: Path) -> None:
    for left in (address, users):
        left.unlink(missing_ok=True)
    os.mkfifo(users)
    stdin = os.open(users, os.O_RDONLY | os.O_NONBLOCK)
    used = os.open(users, os.O_WRONLY)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JIT_")}
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.prepared.server", program, str(address)],
        cwd=ROOT,
        env=environment | {"LC_ALL": "C.UTF-8"},
        stdin=stdin,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    os.close(stdin)
    assert server.stdout is not None
    assert server.stdout.readline() == b"ready\n"

    def stop() -> None:
        os.close(used)
        server.wait()

    atexit.register(stop)


def _rest_of(stream: IO[str]) -> str:
    if stream.closed:
        return ""
    with stream:
        return stream.read()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
