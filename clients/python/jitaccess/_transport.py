"""How a call travels: which channel is safe for a token, how long to wait, when to try again."""

from __future__ import annotations

import asyncio
import random
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from ipaddress import ip_address
from pathlib import Path
from typing import Generic, TypeVar

import grpc

from jitaccess._faults import from_call
from jitaccess.config import ClientCertificate, TokenSource, no_token
from jitaccess.errors import JitError, Misconfigured, Unauthenticated

DEFAULT_TIMEOUT = 10.0
_MAX_RECEIVED = 64 * 1024 * 1024  # A full page of 1,000 grants can pass gRPC's default of 4 MiB.
_FIRST_RECONNECT_MS = 100  # gRPC's own second would make every retry meet the same cached failure.
_MAX_RECONNECT_MS = 2000
# How long a host may take to be connected to where another could be asked; gRPC's own 20 s are longer than a call.
_GIVE_UP_CONNECTING_MS = 2000
_HTTPS = "https://"

C = TypeVar("C")
Options = tuple[tuple[str, str | int], ...]


@dataclass(frozen=True, kw_only=True)
class Retry:
    """How often an unavailable service is asked again, with full jitter; delays in seconds.

    Only UNAVAILABLE is tried again: reads and checks change nothing, and writes carry the same request_id each time.
    """

    attempts: int = 5
    first_delay: float = 0.1
    max_delay: float = 2.0

    def delays(self) -> Iterator[float]:
        """Yields the pause before each further attempt."""
        for attempt in range(self.attempts - 1):
            yield random.uniform(0, min(self.max_delay, self.first_delay * 2**attempt))  # noqa: S311  # Not a secret.


class Attempts:
    """The attempts of one call, under one deadline that runs from now.

    `others` is how many further addresses there are: each is tried at once before anything is tried again.
    """

    def __init__(self, *, retry: Retry, timeout: float, address: str, others: int = 0) -> None:
        self._others = others
        self._deadline = time.monotonic() + timeout
        self._delays = retry.delays()
        self._address = address

    def remaining(self) -> float:
        """Returns the seconds left, never below 0."""
        return max(0.0, self._deadline - time.monotonic())

    def pause_after(self, error: grpc.RpcError) -> float:
        """Returns the seconds to wait before the next attempt, or raises the error as a JitError."""
        fault = from_call(error, address=self._address)
        fault.__cause__ = error
        return self.pause(fault)

    def pause(self, fault: JitError) -> float:
        """Returns the seconds to wait before the next attempt, or raises the fault."""
        if fault.code == "UNAVAILABLE" and self._others > 0 and self.remaining() > 0:
            self._others -= 1
            return 0.0
        pause = next(self._delays, None) if fault.code == "UNAVAILABLE" else None
        if pause is None or pause >= self.remaining():
            raise fault
        return pause


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where to connect. `credentials` None is plaintext."""

    address: str
    credentials: grpc.ChannelCredentials | None
    options: Options


class Channels(Generic[C]):
    """The channels to the addresses of one service, of which one is in use. Each is opened when it is first used."""

    def __init__(self, targets: Sequence[Target], open_: Callable[[Target], C]) -> None:
        self._targets = targets
        self._open = open_
        self._opened: dict[int, C] = {}
        self._place = 0
        self._closed = False
        self._lock = threading.Lock()

    @property
    def address(self) -> str:
        """All the addresses."""
        return ", ".join(each.address for each in self._targets)

    @property
    def others(self) -> int:
        """How many there are beside the one in use."""
        return len(self._targets) - 1

    def current(self) -> C:
        """Returns the channel in use. Raises ValueError once they are closed, as gRPC's own does."""
        with self._lock:
            if self._closed:
                raise ValueError("the client is closed")
            if self._place not in self._opened:
                self._opened[self._place] = self._open(self._targets[self._place])
            return self._opened[self._place]

    def leave(self, channel: C) -> None:
        """Goes on with the next address, unless somebody else has left this channel already."""
        with self._lock:
            if self._opened.get(self._place) is channel:
                self._place = (self._place + 1) % len(self._targets)

    def turn(self) -> None:
        """Goes on with the next address."""
        with self._lock:
            self._place = (self._place + 1) % len(self._targets)

    def closing(self) -> list[C]:
        """Returns all channels that were opened, for the caller to close; none is opened from now on."""
        with self._lock:
            self._closed = True
            return list(self._opened.values())


def targets(
    addresses: str,
    *,
    tls: bool | grpc.ChannelCredentials | None,
    insecure: bool,
    ca_file: Path | None = None,
    client_certificate: ClientCertificate | None = None,
) -> tuple[Target, ...]:
    """Returns where and how to connect to each of the addresses, which commas separate.

    An address is HOST:PORT, unix:PATH, or https://HOST:PORT (443 without a port), which means TLS for all of them. So
    do `ca_file` and `client_certificate`, unless `tls` says otherwise. Where one is another host, all are spoken to as
    it is. Raises Misconfigured.
    """
    parts = [part.strip() for part in addresses.split(",")]
    if any(part.startswith(_HTTPS) for part in parts):
        if tls is False:
            raise Misconfigured(f"{addresses} means TLS, which is switched off", reason="ADDRESS_INVALID")
        tls = tls or True
    hosts = [_host_of(part) for part in parts]
    files = ca_file is not None or client_certificate is not None
    if tls is None and (files or (not insecure and not all(map(_is_local, hosts)))):
        tls = True
    if tls is True and files:
        authorities = _authorities(ca_file) if ca_file is not None else None
        key, chain = _pair(client_certificate) if client_certificate is not None else (None, None)
        tls = grpc.ssl_channel_credentials(root_certificates=authorities, private_key=key, certificate_chain=chain)
    several = () if len(hosts) == 1 else (("grpc.min_reconnect_backoff_ms", _GIVE_UP_CONNECTING_MS),)
    found = (target(host, tls=tls, insecure=insecure) for host in hosts)
    return tuple(replace(each, options=(*each.options, *several)) for each in found)


def _host_of(text: str) -> str:
    if not text.startswith(_HTTPS):
        return text
    host = text.removeprefix(_HTTPS).removesuffix("/")
    return host if ":" in host.rpartition("]")[2] else f"{host}:443"


def _authorities(path: Path) -> bytes:
    try:
        pem = path.read_bytes()
    except OSError as error:
        raise Misconfigured(f"the CA file {path} cannot be read: {error.strerror}", reason="CA_FILE_INVALID") from None
    if b"-----BEGIN CERTIFICATE-----" not in pem:
        raise Misconfigured(f"the CA file {path} holds no certificate in PEM form", reason="CA_FILE_INVALID")
    return pem


def _pair(certificate: ClientCertificate) -> tuple[bytes, bytes]:
    """Returns the key and the chain. Raises Misconfigured, also where they do not belong together."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(certificate.chain, certificate.key, password="")
        return certificate.key.read_bytes(), certificate.chain.read_bytes()
    except ssl.SSLError as error:
        raise Misconfigured(
            f"{certificate.chain} and {certificate.key} are no certificate and its key, in PEM and without a "
            f"passphrase: {error.reason or 'they cannot be read'}",
            reason="CLIENT_CERTIFICATE_INVALID",
        ) from None
    except OSError as error:
        raise Misconfigured(
            f"the client certificate {certificate.chain} or its key {certificate.key} cannot be read: {error.strerror}",
            reason="CLIENT_CERTIFICATE_INVALID",
        ) from None


def target(address: str, *, tls: bool | grpc.ChannelCredentials | None, insecure: bool) -> Target:
    """Returns where and how to connect to HOST:PORT or unix:PATH.

    Plaintext is for this machine only, unless `insecure`: a bearer token in clear is anybody's. `tls` None means TLS
    for every other host. Raises Misconfigured.
    """
    local = _is_local(address)
    if tls is None:
        tls = not local and not insecure
    if tls is False and not local and not insecure:
        raise Misconfigured(
            f"{address} is another host, and without TLS the token would travel in clear; "
            "use TLS, or insecure=True where the network itself is trusted",
            reason="PLAINTEXT_REFUSED",
        )
    credentials = grpc.ssl_channel_credentials() if tls is True else tls
    return Target(address=address, credentials=credentials or None, options=_options(address, plain=not credentials))


def authorization(token: TokenSource) -> tuple[tuple[str, str], ...]:
    """Returns the metadata that proves the caller, RFC 6750; none where its certificate does.

    Raises Unauthenticated for a token that is none.
    """
    if token is no_token:
        return ()
    text = token().strip()
    if not text:
        raise Unauthenticated("the token is empty", reason="TOKEN_MISSING")
    if not text.isascii() or not text.isprintable() or " " in text:
        raise Unauthenticated("the token holds a character that no token has", reason="TOKEN_INVALID")
    return (("authorization", f"Bearer {text}"),)


async def make_ready(token: TokenSource) -> None:
    """Has a login renewed whose token is over, without holding up the event loop. Raises what the source raises."""
    at_hand = getattr(token, "at_hand", None)
    if at_hand is not None and at_hand() is None:
        await asyncio.to_thread(token)


def _options(address: str, *, plain: bool) -> Options:
    options: list[tuple[str, str | int]] = [
        ("grpc.primary_user_agent", f"jitaccess-python/{_version()}"),
        ("grpc.max_receive_message_length", _MAX_RECEIVED),
        ("grpc.initial_reconnect_backoff_ms", _FIRST_RECONNECT_MS),
        ("grpc.max_reconnect_backoff_ms", _MAX_RECONNECT_MS),
        # A TXT record must not decide about retries.
        ("grpc.service_config_disable_resolution", 1),
    ]
    if plain:
        # Through a proxy of the environment, even a call to loopback would leave the machine in clear.
        options.append(("grpc.enable_http_proxy", 0))
    if address.startswith("unix:"):
        options.append(("grpc.default_authority", "localhost"))
    return tuple(options)


def _version() -> str:
    try:
        return version("jitaccess")
    except PackageNotFoundError:
        return "0"


def _is_local(address: str) -> bool:
    if address.startswith("unix:"):
        return True
    host = _host(address)
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _host(address: str) -> str:
    host, separator, port = address.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    bare = host[1:-1] if bracketed else host
    sound = bare and separator and port.isascii() and port.isdigit() and 0 < int(port) < 65536
    if not sound or "/" in address or (":" in bare and not bracketed):
        raise Misconfigured(f"{address!r} is not HOST:PORT or unix:PATH of the gRPC endpoint", reason="ADDRESS_INVALID")
    return bare
