"""What goes between the server of a prepared program and whoever starts the program.

A start is the three standard streams as descriptors, and an order. The answer is the program's process id, and at its
end its exit code, negative for a signal. If the connection ends before that, the program is killed.

`stand_in.py` imports this, so it imports only what Python has built in.
"""

from __future__ import annotations

import _socket
import marshal
import sys

Order = tuple[list[str], dict[bytes, bytes], bytes, int, list[int]]
"""Arguments, environment, directory, umask, and the numbers of ignored signals."""

_SIZE = 4
_DESCRIPTORS = 3


def send(connection: _socket.socket, order: Order, streams: tuple[int, int, int]) -> None:
    """Sends an order, and the descriptors of stdin, stdout and stderr."""
    body = marshal.dumps(order)
    descriptors = b"".join(stream.to_bytes(_SIZE, sys.byteorder) for stream in streams)
    rights = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, descriptors)
    connection.sendmsg([len(body).to_bytes(_SIZE, sys.byteorder)], [rights])
    connection.sendall(body)


def receive(connection: _socket.socket) -> tuple[Order, list[int]]:
    """Returns what was sent, the streams as descriptors of this process. Raises EOFError."""
    head, rights, *_ = connection.recvmsg(_SIZE, _socket.CMSG_SPACE(_SIZE * _DESCRIPTORS))
    if len(head) < _SIZE:
        raise EOFError
    [(_, _, descriptors)] = rights
    streams = [
        int.from_bytes(descriptors[start : start + _SIZE], sys.byteorder) for start in range(0, len(descriptors), _SIZE)
    ]
    body = _exactly(connection, int.from_bytes(head, sys.byteorder))
    return marshal.loads(body), streams  # noqa: S302  # The directory of the socket is this user's alone.


def send_number(connection: _socket.socket, number: int) -> None:
    """Sends a process id or an exit code."""
    connection.sendall(number.to_bytes(_SIZE, sys.byteorder, signed=True))


def receive_number(connection: _socket.socket) -> int:
    """Returns a process id or an exit code. Raises EOFError."""
    return int.from_bytes(_exactly(connection, _SIZE), sys.byteorder, signed=True)


def _exactly(connection: _socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        if not (more := connection.recv(size - len(data))):
            raise EOFError
        data += more
    return data
