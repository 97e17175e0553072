"""How a call travels: which channel is safe for a token, how long to wait, when to try again."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from ipaddress import ip_address

import grpc

from jitaccess._faults import from_call
from jitaccess.config import TokenSource
from jitaccess.errors import JitError, Misconfigured, Unauthenticated

DEFAULT_TIMEOUT = 10.0
_MAX_RECEIVED = 64 * 1024 * 1024  # A full page of 1,000 grants can pass gRPC's default of 4 MiB.
_FIRST_RECONNECT_MS = 100  # gRPC's own second would make every retry meet the same cached failure.
_MAX_RECONNECT_MS = 2000

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
    """The attempts of one call, under one deadline that runs from now."""

    def __init__(self, *, retry: Retry, timeout: float, address: str) -> None:
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
    """Returns the metadata that proves the caller, RFC 6750. Raises Unauthenticated for a token that is none."""
    text = token().strip()
    if not text:
        raise Unauthenticated("the token is empty", reason="TOKEN_MISSING")
    if not text.isascii() or not text.isprintable() or " " in text:
        raise Unauthenticated("the token holds a character that no token has", reason="TOKEN_INVALID")
    return (("authorization", f"Bearer {text}"),)


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
