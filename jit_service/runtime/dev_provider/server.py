"""Serves the provider by HTTP on a Unix socket that only this user can open; Envoy is its only caller."""

from __future__ import annotations

import logging
import socketserver
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from jit_service.runtime.dev_provider.messages import OAuthFault, Request, Response, fault_response, parameters_in
from jit_service.runtime.dev_provider.provider import Provider

_MAX_BODY: Final = 16 << 10
_FORM: Final = "application/x-www-form-urlencoded"
_log = logging.getLogger(__name__)


class ProviderServer:
    """The provider at a socket. It listens once it is made, and answers once it is started."""

    def __init__(self, provider: Provider, path: Path) -> None:
        path.unlink(missing_ok=True)
        self._server = _Server(provider, path)
        path.chmod(0o600)
        self._thread = threading.Thread(target=self._server.serve_forever, name="dev-provider", daemon=True)

    def start(self) -> None:
        """Answers requests from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Takes no more requests."""
        if self._thread.is_alive():
            self._server.shutdown()
        self._server.server_close()


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    # A connection of Envoy's stays open as long as Envoy likes.
    block_on_close = False

    def __init__(self, provider: Provider, path: Path) -> None:
        self.provider = provider
        super().__init__(str(path), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    server_version = "jit"
    sys_version = ""

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_OPTIONS(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: Any) -> None:
        """Logs nothing: Envoy's log has each request without its query, which may hold a code."""

    def _answer(self) -> None:
        try:
            response = self.server.provider.answer(self._request())
        except OAuthFault as fault:
            response = fault_response(fault)
        except Exception:
            _log.exception("%s failed", self.path.partition("?")[0])
            response = fault_response(OAuthFault("server_error", "internal error; see the log", status=500))
        self._send(response)

    def _request(self) -> Request:
        headers = {name.lower(): value for name, value in self.headers.items()}
        parts = urlsplit(self.path)
        text = self._form(headers) if self.command == "POST" else parts.query
        return Request(method=self.command, path=parts.path, headers=headers, parameters=parameters_in(text))

    def _form(self, headers: dict[str, str]) -> str:
        length = headers.get("content-length", "")
        if not (length.isascii() and length.isdigit()) or int(length) > _MAX_BODY:
            self.close_connection = True
            raise OAuthFault("invalid_request", f"the body must be a form of at most {_MAX_BODY} bytes", status=413)
        body = self.rfile.read(int(length))
        if headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
            raise OAuthFault("invalid_request", f"the body must be {_FORM}", status=415)
        try:
            return body.decode("ascii")
        except UnicodeDecodeError:
            raise OAuthFault("invalid_request", "the body is not a form") from None

    def _send(self, response: Response) -> None:
        self.send_response(response.status)
        for name, value in response.headers:
            self.send_header(name, value)
        if response.status != 204:
            self.send_header("content-length", str(len(response.body)))
        self.end_headers()
        self.wfile.write(response.body)
