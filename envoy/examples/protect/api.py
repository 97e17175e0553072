"""A small API that knows nothing of access control: it echoes what reaches it, once or (as events) for ever.

`python api.py [PORT]`; 0 takes a free one. Its first line says which.
"""

from __future__ import annotations

import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOLD = ("x-jit-subject", "x-jit-grant", "x-jit-expires")


class Api(BaseHTTPRequestHandler):
    """Answers every request with what it was, and who made it by whose grant."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        seen = {"method": self.command, "path": self.path} | {name: self.headers.get(name) for name in TOLD}
        body = json.dumps(seen).encode()
        if self.headers.get("accept") == "text/event-stream":
            return self.repeat(b"data: " + body + b"\n\n")
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        return None

    def repeat(self, event: bytes) -> None:
        """Sends the event again and again, until nobody listens."""
        self.close_connection = True
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        try:
            while True:
                self.wfile.write(event)
                time.sleep(0.1)
        except OSError:
            return

    do_POST = do_PUT = do_DELETE = do_PATCH = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing: Envoy logs."""


def main() -> None:
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 9000
    server = ThreadingHTTPServer(("127.0.0.1", port), Api)
    print(server.server_address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
