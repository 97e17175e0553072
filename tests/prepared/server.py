"""The server of one prepared program: `python -m tests.prepared.server PROGRAM SOCKET`, until the end of its stdin."""

from __future__ import annotations

import fcntl
import gc
import importlib
import os
import pkgutil
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from types import ModuleType

from tests.prepared import wire

_PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


@dataclass(frozen=True)
class Program:
    """What is imported before the first start, whole packages with all that is in them, and the function to call.

    `make` does before the first start what the program otherwise does at each. What only a start with an argument needs
    is imported at the first such start.
    """

    packages: tuple[str, ...]
    modules: tuple[str, ...]
    main: str
    make: Callable[[], object] = lambda: None
    needed_for: Mapping[str, str] = field(default_factory=dict)
    """The module of an argument."""


def _make_commands() -> None:
    from pydantic import TypeAdapter

    from jitaccess.cli.app import _command

    _command(completes=False)
    # typer makes one for each value of a command, and the first of a process looks for plugins.
    TypeAdapter(str)


PROGRAMS = {
    "jit": Program(
        ("jitaccess.cli", "jitaccess.contract", "jitaccess.v1"),
        # typer loads the first of these at the first command that has a value.
        ("typer._adapters", "grpc", "rich.console", "rich.table", "rich.markup", "uuid", "email.parser"),
        "jitaccess.cli",
        _make_commands,
        {"--offline": "jit_service.rpc.offline"},
    ),
    "jit-service": Program(
        ("jit_service",),
        (
            "alembic.command",
            "alembic.config",
            "psycopg",
            "sqlalchemy.dialects.sqlite",
            "sqlalchemy.dialects.postgresql",
        ),
        "jit_service.__main__",
    ),
}


def load(program: Program) -> ModuleType:
    """Imports the program, and returns the module that has its `main`."""
    for package in program.packages:
        path = importlib.import_module(package).__path__
        for found in pkgutil.walk_packages(path, f"{package}."):
            # A migration is run where it is imported.
            if ".versions" not in found.name and not found.name.endswith(("__main__", "migrations.env")):
                importlib.import_module(found.name)
    for module in program.modules:
        importlib.import_module(module)
    program.make()
    return importlib.import_module(program.main)


class Server:
    """Forks at each start. Only the child returns from `serve`."""

    def __init__(self, program: Program, listener: socket.socket) -> None:
        self._needed_for = program.needed_for
        self._listener = listener
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener, selectors.EVENT_READ, self._accept)
        self._selector.register(sys.stdin, selectors.EVENT_READ, self._stop)
        self._running: dict[int, tuple[socket.socket, int]] = {}

    def serve(self) -> list[str]:
        """Serves until the end of stdin. In the child of a fork, returns the arguments of the program that it is."""
        while True:
            for key, _ in self._selector.select():
                arguments = key.data()
                if arguments is not None:
                    return arguments

    def _accept(self) -> list[str] | None:
        connection, _ = self._listener.accept()
        try:
            (arguments, environment, directory, mask, ignored), streams = wire.receive(connection)
        except (EOFError, ConnectionError):
            connection.close()
            return None
        for argument in self._needed_for.keys() & set(arguments):
            importlib.import_module(self._needed_for[argument])
        assert len(os.listdir("/proc/self/task")) == 1, "a process with threads must not fork"
        alive, kept = os.pipe()
        program = os.fork()
        if program == 0:
            self._close()
            for descriptor in (connection.detach(), alive):
                os.close(descriptor)
            _become(environment, directory, mask, ignored, streams)
            # `kept` stays open for as long as it lives.
            return arguments
        for descriptor in (*streams, kept):
            os.close(descriptor)
        self._running[program] = connection, alive
        self._selector.register(connection, selectors.EVENT_READ, partial(self._kill, program))
        self._selector.register(alive, selectors.EVENT_READ, partial(self._ended, program))
        # It may have been killed since it asked.
        with suppress(ConnectionError):
            wire.send_number(connection, program)
        return None

    def _kill(self, program: int) -> None:
        """Kills a program whose starter is gone."""
        self._selector.unregister(self._running[program][0])
        with suppress(ProcessLookupError):
            os.killpg(program, signal.SIGKILL)

    def _ended(self, program: int) -> None:
        connection, alive = self._running.pop(program)
        self._selector.unregister(alive)
        os.close(alive)
        code = os.waitstatus_to_exitcode(os.waitpid(program, 0)[1])
        with suppress(KeyError):
            self._selector.unregister(connection)
        with suppress(ConnectionError):
            wire.send_number(connection, code)
        connection.close()

    def _stop(self) -> None:
        # Who comes now waits for its turn, and then finds no server.
        directory = os.open(os.path.dirname(self._listener.getsockname()), os.O_RDONLY)
        fcntl.flock(directory, fcntl.LOCK_EX)
        with suppress(BlockingIOError):
            if os.read(0, 1) == b"":
                self._end()
        # Somebody came before.
        os.close(directory)

    def _end(self) -> None:
        for program in self._running:
            with suppress(ProcessLookupError):
                os.killpg(program, signal.SIGKILL)
        os._exit(0)

    def _close(self) -> None:
        """Closes all that is the server's, in a child."""
        self._selector.close()
        self._listener.close()
        for connection, alive in self._running.values():
            connection.close()
            os.close(alive)


def _become(
    environment: dict[bytes, bytes], directory: bytes, mask: int, ignored: list[int], streams: list[int]
) -> None:
    """Takes over what a process has from whoever starts it."""
    os.setsid()
    for descriptor, stream in enumerate(streams):
        os.dup2(stream, descriptor)
        os.close(stream)
    for number in _PASSED_ON:
        usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        signal.signal(number, signal.SIG_IGN if number in ignored else usual)
    os.environb.clear()
    os.environb.update(environment)
    time.tzset()
    os.umask(mask)
    os.chdir(directory)
    # As at the start of an interpreter whose locale is C.UTF-8.
    sys.stdin = sys.__stdin__ = os.fdopen(0, encoding="utf-8", errors="surrogateescape", closefd=False)
    sys.stdout = sys.__stdout__ = os.fdopen(1, "w", encoding="utf-8", errors="surrogateescape", closefd=False)
    sys.stderr = sys.__stderr__ = os.fdopen(
        2, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False
    )


def main() -> None:
    """Serves, and in each child runs the program."""
    name, address = sys.argv[1:]
    program = PROGRAMS[name]
    run: Callable[[], None] = load(program).main
    gc.collect()
    # A look for garbage in a child would copy the memory that it shares.
    gc.freeze()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen(64)
    os.write(1, b"ready\n")
    arguments = Server(program, listener).serve()
    sys.argv = [name, *arguments]
    run()


if __name__ == "__main__":
    main()
