"""Sends messages to webhooks, signed as Standard Webhooks specifies, and only to allowed addresses.

Each attempt resolves the receiver's name once. Every address of it must be allowed, and the attempt connects to those
addresses only. It follows no redirects and uses no proxy. It reads only the status of the answer, not the body.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Final

from jit_service.domain.audit.event import RecordedEvent
from jit_service.domain.language import ip_address
from jit_service.domain.notification import Failure, Message
from jit_service.notifications.receivers import Receiver, may_reach

Resolve = Callable[[str, int], Sequence[str]]
Encode = Callable[[RecordedEvent], bytes]
CONTENT_TYPE: Final = "application/cloudevents+json; charset=utf-8"
_GONE: Final = 410
_PORTS: Final = {"https": 443, "http": 80}


class _NotSent(Exception):
    """The message was not sent; the text says why, and has no part of the receiver's answer."""


def signature(keys: Iterable[bytes], body: bytes, *, id_: str, at: datetime) -> str:
    """Returns the value of webhook-signature: one signature for each key (Standard Webhooks 1.0)."""
    content = f"{id_}.{_seconds(at)}.".encode() + body
    digests = (hmac.new(key, content, hashlib.sha256).digest() for key in keys)
    return " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests)


def resolved(host: str, port: int) -> list[str]:
    """Returns the addresses of the name, in the order in which to try them. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


class Webhook:
    """Sends to one receiver. One thread may call `send`; any thread may call `interrupt`."""

    def __init__(self, receiver: Receiver, encode: Encode, *, resolve: Resolve = resolved) -> None:
        """`encode` makes the body. Raises OSError if the ca_file cannot be loaded."""
        self._receiver = receiver
        self._encode = encode
        self._resolve = resolve
        parts = receiver.parts
        self._host = parts.hostname or ""
        self._port = parts.port or _PORTS[parts.scheme]
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._tls = ssl.create_default_context(cafile=receiver.ca_file) if parts.scheme == "https" else None
        self._lock = threading.Lock()
        self._connection: _Pinned | None = None
        self._interrupted = False

    def send(self, message: Message) -> Failure | None:
        """Posts the message. Returns None for an answer of 2xx; anything else is a failure."""
        try:
            status = self._post(self._addresses(), message, self._encode(message.recorded))
        except _NotSent as fault:
            return Failure(str(fault))
        if 200 <= status < 300:
            return None
        if 300 <= status < 400:
            return Failure(f"it answered {status}, and redirects are not followed")
        return Failure(f"it answered {status}", final=status == _GONE)

    def look_up(self) -> str:
        """Returns what is wrong with where the receiver's name leads now, or nothing. It sends nothing."""
        try:
            self._addresses()
        except _NotSent as fault:
            return str(fault)
        return ""

    def interrupt(self) -> None:
        """Makes the attempt that is under way, and every later one, a failure."""
        with self._lock:
            self._interrupted = True
            if self._connection is not None:
                self._connection.cut()

    def _addresses(self) -> Sequence[str]:
        try:
            found = self._resolve(self._host, self._port)
        except (OSError, UnicodeError):
            raise _NotSent("its name does not resolve") from None
        if not found:
            raise _NotSent("its name does not resolve")
        for literal in found:
            if not may_reach(literal, allow_private=self._receiver.allow_private):
                raise _NotSent(f"its name leads to {literal}, where it may not be sent")
            if self._tls is None and not ip_address.is_loopback(literal):
                raise _NotSent(f"its name leads to {literal}, which is not loopback, without TLS")
        return found

    def _post(self, addresses: Sequence[str], message: Message, body: bytes) -> int:
        """Returns the status of the answer. The receiver's timeout is for all addresses together."""
        seconds = self._receiver.timeout.total_seconds()
        ends_at = time.monotonic() + seconds
        fault = _NotSent("its name does not resolve")
        for literal in addresses:
            left = ends_at - time.monotonic()
            if left <= 0:
                break
            connection = _Pinned(self._host, self._port, literal=literal, tls=self._tls, timeout=left)
            try:
                return self._exchange(connection, message, body, seconds=left)
            except (OSError, http.client.HTTPException) as raised:
                fault = self._translated(raised, connection, seconds)
            if connection.reached:
                # The receiver may have the message, so the other addresses wait for the next attempt.
                break
        raise fault

    def _exchange(self, connection: _Pinned, message: Message, body: bytes, *, seconds: float) -> int:
        with self._lock:
            if self._interrupted:
                raise _NotSent("the service stopped")
            self._connection = connection
        # The socket's timeout starts again with every byte; this timer does not.
        end = threading.Timer(seconds, connection.cut)
        end.daemon = True
        end.start()
        try:
            connection.request("POST", self._target, body=body, headers=self._headers(message, body))
            return connection.getresponse().status
        finally:
            end.cancel()
            with self._lock:
                self._connection = None
            connection.close()

    def _headers(self, message: Message, body: bytes) -> dict[str, str]:
        return {
            "content-type": CONTENT_TYPE,
            "user-agent": "jit-service",
            "connection": "close",
            "webhook-id": message.id,
            "webhook-timestamp": str(_seconds(message.at)),
            "webhook-signature": signature(self._receiver.keys, body, id_=message.id, at=message.at),
        }

    def _translated(self, fault: Exception, connection: _Pinned, seconds: float) -> _NotSent:
        if self._interrupted:
            return _NotSent("the service stopped")
        if connection.was_cut or isinstance(fault, TimeoutError):
            return _NotSent(f"no answer within {seconds:g} s")
        if isinstance(fault, ssl.SSLCertVerificationError):
            return _NotSent(f"its certificate is not valid: {fault.verify_message}")
        if isinstance(fault, ssl.SSLError):
            return _NotSent("TLS failed")
        if isinstance(fault, ConnectionRefusedError):
            return _NotSent("it refused the connection")
        if isinstance(fault, http.client.HTTPException) and not isinstance(fault, OSError):
            return _NotSent("its answer is not HTTP")
        return _NotSent("the connection failed")


class _Pinned(http.client.HTTPConnection):
    """A connection to one address, under the host's name. `reached`: the address may have received bytes."""

    def __init__(self, host: str, port: int, *, literal: str, tls: ssl.SSLContext | None, timeout: float) -> None:
        self.default_port = _PORTS["http" if tls is None else "https"]
        super().__init__(host, port, timeout=timeout)
        self._literal = literal
        self._tls = tls
        self.reached = False
        self.was_cut = False

    def connect(self) -> None:
        """Connects to this address only. Raises OSError."""
        plain = socket.create_connection((self._literal, self.port), self.timeout)
        self.reached = True
        if self._tls is None:
            self.sock = plain
            self._demand_uncut()
            return
        secured = self._tls.wrap_socket(plain, server_hostname=self.host, do_handshake_on_connect=False)
        self.sock = secured
        self._demand_uncut()
        secured.do_handshake()

    def cut(self) -> None:
        """Closes the connection, so that a thread which waits on it fails."""
        self.was_cut = True
        if self.sock is not None:
            # Not SSLSocket.shutdown: it drops the TLS state that a handshake in another thread uses. The socket may be
            # closed by now.
            with suppress(OSError):
                socket.socket.shutdown(self.sock, socket.SHUT_RDWR)

    def _demand_uncut(self) -> None:
        if self.was_cut:
            raise TimeoutError


def _seconds(at: datetime) -> int:
    return int(at.timestamp())
