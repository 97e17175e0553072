"""What Kubernetes runs before it ends Envoy: it has Envoy close its clients' connections."""

from __future__ import annotations

import socketserver
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path

DRAIN = Path(__file__).parents[2] / "deploy" / "drain.py"


class Admin(BaseHTTPRequestHandler):
    """Envoy's admin interface, which notes what it is asked for."""

    asked: list[str]

    def do_POST(self) -> None:
        self.asked.append(self.path)
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def address_string(self) -> str:
        """Nothing: a Unix socket has no address to log."""
        return ""


def drained(path: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(DRAIN), str(path), "0"]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_envoy_is_told_that_its_health_check_fails(tmp_path: Path) -> None:
    asked: list[str] = []
    admin = type("AdminOfOne", (Admin,), {"asked": asked})
    with socketserver.UnixStreamServer(str(tmp_path / "s"), admin) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        done = drained(tmp_path / "s")
        server.shutdown()

    assert (done.returncode, done.stderr, asked) == (0, "", ["/healthcheck/fail"])


def test_an_envoy_that_is_gone_is_said(tmp_path: Path) -> None:
    done = drained(tmp_path / "none")

    assert done.returncode == 1
    assert "none: " in done.stderr
