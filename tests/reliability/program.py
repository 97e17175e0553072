"""A program that runs on a host until it is killed, and is started again with the same words."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from tests.reliability.network import Host

_END_SECONDS = 20.0
_POLL_SECONDS = 0.05


class NotThere(Exception):
    """What was waited for has not come."""


def wait_until(fact: Callable[[], object], what: str, *, seconds: float = 60.0) -> None:
    """Waits for a fact. Raises NotThere."""
    until = time.monotonic() + seconds
    while not fact():
        if time.monotonic() > until:
            raise NotThere(f"{what}: not within {seconds:g} s")
        time.sleep(_POLL_SECONDS)


def tree(pid: int) -> list[psutil.Process]:
    """Returns a process and all below it; nothing if it is gone."""
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def send(processes: Sequence[psutil.Process], number: signal.Signals) -> None:
    """Sends a signal to all that are still there."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)


class Program:
    """One program with its log."""

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        host: Host,
        log: Path,
        user: str = "",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._command = [*host.enter, *_as(user), *map(str, command)]
        self._log = log
        self._environment = dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it; what it writes goes to its log."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self._environment},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process, 0 while there is none."""
        running = self._process is not None and self._process.poll() is None
        return self._process.pid if running and self._process is not None else 0

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to it and all below it."""
        send(tree(self.pid) if self.pid else [], number)

    def kill(self) -> None:
        """Kills it and all below it, at once."""
        self.signal(signal.SIGKILL)
        self.reap()

    def reap(self) -> None:
        """Waits for its end."""
        if self._process is not None:
            self._process.wait(_END_SECONDS)

    def stop(self) -> None:
        """Ends it in order."""
        if self.pid:
            os.kill(self.pid, signal.SIGTERM)
        self.reap()


def _as(user: str) -> tuple[str, ...]:
    if not user or os.geteuid() != 0:
        return ()
    account = pwd.getpwnam(user)
    return ("setpriv", f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups", "--")


def owned_by(user: str, directory: Path) -> Path:
    """Makes a directory that belongs to the user, who alone can read it."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if os.geteuid() == 0:
        account = pwd.getpwnam(user)
        os.chown(directory, account.pw_uid, account.pw_gid)
    return directory
