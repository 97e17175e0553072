"""Has an Envoy close its clients' connections before it ends: `drain.py SOCKET SECONDS`, as Kubernetes' preStop.

SOCKET is Envoy's admin interface. From then on /healthz says no, and each connection is closed with the next answer on
it. The pause is for the service beside it, which answers until it has drained, and for clients to notice.
"""

from __future__ import annotations

import http.client
import socket
import sys
import time


def drain(path: str) -> int:
    """Tells the Envoy at the socket. Returns the status that it answers with."""
    connection = http.client.HTTPConnection("envoy", timeout=3)
    connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.sock.settimeout(3)
    try:
        connection.sock.connect(path)
        connection.request("POST", "/healthcheck/fail")
        return connection.getresponse().status
    finally:
        connection.close()


def main() -> int:
    path, seconds = sys.argv[1], float(sys.argv[2])
    try:
        status = drain(path)
    except (OSError, http.client.HTTPException) as error:
        status = 0
        print(f"{path}: {error}", file=sys.stderr)
    # The service drains in any case.
    time.sleep(seconds)
    return 0 if status == http.client.OK else 1


if __name__ == "__main__":
    sys.exit(main())
