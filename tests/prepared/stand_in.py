"""Stands in for a prepared program where a process is started by its path: `python -IS stand_in.py SOCKET ARGUMENT...`.

Signals go on to the program, and its end is this process's end. It starts in a few milliseconds, for it imports only
what Python has built in.
"""

from __future__ import annotations

import _signal
import _socket
import posix
import sys

sys.path.insert(0, __file__.rpartition("/")[0])
import wire

_PASSED_ON = (
    _signal.SIGINT, _signal.SIGTERM, _signal.SIGHUP, _signal.SIGQUIT, _signal.SIGUSR1, _signal.SIGUSR2, _signal.SIGCONT,
)  # fmt: skip


def main() -> None:
    """Runs the program, and ends as it does."""
    # One that comes before there is a program waits for it.
    _signal.pthread_sigmask(_signal.SIG_BLOCK, _PASSED_ON)
    ignored = [number for number in _PASSED_ON if _signal.getsignal(number) == _signal.SIG_IGN]
    mask = posix.umask(0)
    connection = _socket.socket(_socket.AF_UNIX)
    connection.connect(sys.argv[1])
    wire.send(connection, (sys.argv[2:], dict(posix.environ), posix.getcwdb(), mask, ignored), (0, 1, 2))
    program = wire.receive_number(connection)
    for number in _PASSED_ON:
        if number not in ignored:
            _signal.signal(number, lambda number, _: posix.kill(program, number))
    _signal.pthread_sigmask(_signal.SIG_UNBLOCK, _PASSED_ON)
    code = wire.receive_number(connection)
    if code < 0:
        _end_by_signal(-code)
    posix._exit(code)


def _end_by_signal(number: int) -> None:
    if number not in (_signal.SIGKILL, _signal.SIGSTOP):
        _signal.signal(number, _signal.SIG_DFL)
    posix.kill(posix.getpid(), number)


main()
