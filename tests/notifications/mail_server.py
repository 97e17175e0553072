"""A real SMTP server on loopback, which answers as a test tells it to."""

from __future__ import annotations

import queue
import ssl
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword

USER, PASSWORD = "jit", "hunter2-password"


@dataclass
class MailServer:
    """What came, and what it answers: `refuses` has the answer to RCPT by address, `answer` is that to the mail."""

    port: int = 0
    answer: str = "250 OK"
    refuses: dict[str, str] = field(default_factory=dict)
    encrypted: list[bool] = field(default_factory=list)
    logins: list[str] = field(default_factory=list)
    recipients: list[str] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)
    arrivals: queue.SimpleQueue[str] = field(default_factory=queue.SimpleQueue)

    @property
    def mails(self) -> list[EmailMessage]:
        return [message_from_bytes(each, policy=default) for each in self.raw]  # type: ignore[misc]

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:  # noqa: ARG002
        if address in self.refuses:
            return self.refuses[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        if not self.answer.startswith("2"):
            return self.answer
        self.encrypted.append(session.ssl is not None or server.transport.get_extra_info("ssl_object") is not None)
        self.recipients += envelope.rcpt_tos
        self.raw.append(envelope.content)
        self.arrivals.put(envelope.rcpt_tos[0])
        return self.answer


class _OnAFreePort(Controller):
    def _trigger_server(self) -> None:
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()


@contextmanager
def mail_server(
    certificate: Path | None = None, *, implicit: bool = False, login: bool = False
) -> Iterator[MailServer]:
    """Runs a server: without TLS, or with a certificate and STARTTLS, or TLS from the start."""
    here = MailServer()
    context = None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)

    def authenticate(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        assert isinstance(data, LoginPassword)
        here.logins.append(mechanism)
        return AuthResult(success=(data.login, data.password) == (USER.encode(), PASSWORD.encode()), handled=False)

    options: dict[str, Any] = {"ssl_context": context} if implicit else {"tls_context": context}
    if login:
        options |= {
            "authenticator": authenticate,
            "auth_required": True,
            "auth_require_tls": context is not None and not implicit,
        }
    # Its TLS from the start is none that the server knows of.
    warnings.filterwarnings("ignore", message="Requiring AUTH while not requiring TLS")
    controller = _OnAFreePort(here, hostname="127.0.0.1", port=0, ready_timeout=30, **options)
    controller.start()
    here.port = controller.port
    try:
        yield here
    finally:
        controller.stop()
