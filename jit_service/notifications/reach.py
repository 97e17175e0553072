"""Connects to receivers: only to addresses that are allowed, through a proxy where one is named, in one timeout.

Each attempt resolves the receiver's name once. Every address of it must be allowed, and the attempt connects to those
addresses only: a name that answers otherwise a moment later leads nowhere else.
"""

from __future__ import annotations

import base64
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

from jit_service.domain.language import ip_address
from jit_service.notifications.receiver import Proxy, Receiver, may_reach

Resolve = Callable[[str, int], Sequence[str]]
_LONGEST_ANSWER: Final = 8192
"""Bytes of a proxy's answer to CONNECT."""


class NotSent(Exception):
    """The message was not sent; the text says why, and has no part of the receiver's answer."""


def resolved(host: str, port: int) -> list[str]:
    """Returns the addresses of the name, in the order in which to try them. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a receiver is: a name or address, a port, and whether TLS protects the way."""

    host: str
    port: int
    encrypted: bool


class Attempt:
    """One attempt: its socket is cut when its time is over or the service stops."""

    def __init__(self, seconds: float) -> None:
        self._ends_at = time.monotonic() + seconds
        self._socket: socket.socket | None = None
        self.was_cut = False

    @property
    def left(self) -> float:
        """The seconds that are left. Raises TimeoutError where there are none."""
        left = self._ends_at - time.monotonic()
        if self.was_cut or left <= 0:
            raise TimeoutError
        return left

    def hold(self, connected: socket.socket) -> None:
        """Takes the socket that is to be cut from now on. Raises TimeoutError if it is too late for that."""
        self._socket = connected
        connected.settimeout(self.left)

    def cut(self) -> None:
        """Closes the connection, so that a thread which waits on it fails."""
        self.was_cut = True
        if self._socket is not None:
            # Not SSLSocket.shutdown: it drops the TLS state that a handshake in another thread uses. The socket may be
            # closed by now.
            with suppress(OSError):
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


class Reach:
    """The way to one receiver. One thread may make attempts; any thread may call `interrupt`."""

    def __init__(self, receiver: Receiver, *, resolve: Resolve = resolved) -> None:
        """Raises OSError if the ca_file cannot be loaded."""
        self._receiver = receiver
        self._resolve = resolve
        self.tls: Final = ssl.create_default_context(cafile=receiver.ca_file)
        self._lock = threading.Lock()
        self._attempt: Attempt | None = None
        self._interrupted = False

    def interrupt(self) -> None:
        """Makes the attempt that is under way, and every later one, a failure."""
        with self._lock:
            self._interrupted = True
            if self._attempt is not None:
                self._attempt.cut()

    @contextmanager
    def attempt(self) -> Iterator[Attempt]:
        """Begins an attempt. Raises NotSent for what goes wrong with the connection within it."""
        seconds = self._receiver.timeout.total_seconds()
        attempt = Attempt(seconds)
        with self._lock:
            if self._interrupted:
                raise NotSent("the service stopped")
            self._attempt = attempt
        # A socket's timeout starts again with every byte; this timer does not.
        end = threading.Timer(seconds, attempt.cut)
        end.daemon = True
        end.start()
        try:
            yield attempt
        except (OSError, UnicodeError) as fault:
            raise self._translated(fault, attempt, seconds) from None
        finally:
            end.cancel()
            with self._lock:
                self._attempt = None

    def addresses(self, place: Place) -> Sequence[str]:
        """Returns the addresses that a message for the place may go to. Raises NotSent if there are none."""
        if self._receiver.proxy is not None and self._receiver.proxy_resolves:
            return [place.host]
        found = self._look_up(place.host, place.port)
        for literal in found:
            if not may_reach(literal, allow_private=self._receiver.allow_private):
                raise NotSent(f"its name leads to {literal}, where it may not be sent")
            if not place.encrypted and not ip_address.is_loopback(literal):
                raise NotSent(f"its name leads to {literal}, which is not loopback, without TLS")
        return found

    def connect(self, place: Place, attempt: Attempt) -> socket.socket:
        """Connects to the first address of the place that takes a connection. Raises NotSent and OSError.

        Once one has, the message may be there, so the other addresses wait for the next attempt.
        """
        addresses = self.addresses(place)
        proxy = self._receiver.proxy
        if proxy is None:
            return _connect(addresses, place.port, attempt)
        connected = _connect(self._proxy_addresses(proxy), proxy.port, attempt)
        try:
            _tunnel(connected, addresses[0], place.port, self._receiver.proxy_credentials)
        except BaseException:
            connected.close()
            raise
        return connected

    def secure(self, plain: socket.socket, place: Place, attempt: Attempt) -> ssl.SSLSocket:
        """Returns the connection with TLS, for the certificate of the place's name. Raises OSError."""
        secured = self.tls.wrap_socket(plain, server_hostname=place.host, do_handshake_on_connect=False)
        attempt.hold(secured)
        secured.do_handshake()
        return secured

    def _proxy_addresses(self, proxy: Proxy) -> Sequence[str]:
        """Returns where the proxy is: the operator names it, so it may be in a private network."""
        found = self._look_up(proxy.host, proxy.port)
        for literal in found:
            if not may_reach(literal, allow_private=True):
                raise NotSent(f"its proxy's name leads to {literal}, where it may not be sent")
        return found

    def _look_up(self, host: str, port: int) -> Sequence[str]:
        try:
            found = self._resolve(host, port)
        except (OSError, UnicodeError):
            found = []
        if not found:
            raise NotSent("its name does not resolve")
        return found

    def _translated(self, fault: Exception, attempt: Attempt, seconds: float) -> NotSent:
        if self._interrupted:
            return NotSent("the service stopped")
        if attempt.was_cut or isinstance(fault, TimeoutError):
            return NotSent(f"no answer within {seconds:g} s")
        if isinstance(fault, ssl.SSLCertVerificationError):
            return NotSent(f"its certificate is not valid: {fault.verify_message}")
        if isinstance(fault, ssl.SSLError):
            return NotSent("TLS failed")
        if isinstance(fault, ConnectionRefusedError):
            return NotSent("it refused the connection")
        return NotSent("the connection failed")


def _connect(addresses: Sequence[str], port: int, attempt: Attempt) -> socket.socket:
    for literal in addresses[:-1]:
        with suppress(OSError):
            return _connect_to(literal, port, attempt)
    return _connect_to(addresses[-1], port, attempt)


def _connect_to(literal: str, port: int, attempt: Attempt) -> socket.socket:
    connected = socket.create_connection((literal, port), attempt.left)
    try:
        attempt.hold(connected)
    except TimeoutError:
        connected.close()
        raise
    return connected


def _tunnel(connected: socket.socket, host: str, port: int, credentials: bytes) -> None:
    """Asks the proxy for a way to the host (RFC 9110, 9.3.6). Raises NotSent and OSError.

    The answer is read byte by byte: what follows it is the receiver's, which may speak first.
    """
    authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}"]
    if credentials:
        lines.append(f"Proxy-Authorization: Basic {base64.b64encode(credentials).decode()}")
    connected.sendall("\r\n".join([*lines, "", ""]).encode("ascii"))
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        byte = connected.recv(1)
        if not byte or len(answer) >= _LONGEST_ANSWER:
            raise NotSent("its proxy's answer is not HTTP")
        answer += byte
    version, _, rest = answer.partition(b" ")
    if not version.startswith(b"HTTP/1.") or not rest[:3].isdigit():
        raise NotSent("its proxy's answer is not HTTP")
    if rest[:1] != b"2":
        raise NotSent(f"its proxy answered {rest[:3].decode()}")
