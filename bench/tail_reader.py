"""Follows the audit log in a process of its own, for part `sustained`: `python -m bench.tail_reader ADDRESS`.

It reads the token as a line of JSON from stdin, says a line when the tail has begun, and from then on answers each
further line with the number of the last record that it was told.
"""

from __future__ import annotations

import json
import sys
import threading

import grpc

from jitaccess.v1 import audit_pb2, audit_pb2_grpc


def main() -> None:
    """Runs until stdin ends."""
    token, told, begun = json.loads(sys.stdin.readline()), [0], threading.Event()
    service = audit_pb2_grpc.AuditServiceStub(grpc.insecure_channel(sys.argv[1]))
    # As the Python client asks.
    request = audit_pb2.TailAuditEventsRequest(batch_size=1000)
    stream = service.TailAuditEvents(request, metadata=(("authorization", token),))

    def follow() -> None:
        for message in stream:
            told[0] = message.seq
            begun.set()

    threading.Thread(target=follow, daemon=True).start()
    begun.wait()
    _say(told[0])
    for _ in sys.stdin:
        _say(told[0])


def _say(seq: int) -> None:
    print(json.dumps({"seq": seq}), flush=True)


if __name__ == "__main__":
    main()
