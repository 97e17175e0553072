"""Where a call comes from, as its peer and its metadata show: the source address, the user agent and the trace."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from jit_service.domain.caller import Origin
from jit_service.domain.frozen import replace
from jit_service.domain.language import name
from jit_service.domain.language.ip_address import canonical
from jit_service.tracing.traceparent import parse

Metadata = Sequence[tuple[str, str | bytes]]
_MAX_USER_AGENT: Final = 256
_OF_PROXIES: Final = frozenset({"forwarded", "via", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"})
_MAX_ORIGINS: Final = 4096


class Origins:
    """The origins of calls at one address. `trusted_proxies` are the peers that may name their client's address."""

    def __init__(self, trusted_proxies: Sequence[str]) -> None:
        self._trusts_unix = "unix" in trusted_proxies
        self._trusted = [ipaddress.ip_network(proxy) for proxy in trusted_proxies if proxy != "unix"]
        # Most calls come by few ways, and to find out costs more than a decision.
        self._cached = lru_cache(maxsize=_MAX_ORIGINS)(self._origin)

    def of(self, method: str, metadata: Metadata, peer: str) -> Origin:
        """Returns the origin of a call, without its token. `peer` is gRPC's name of the peer."""
        external_address = agent = traceparent = ""
        for key, value in metadata:
            if key == "user-agent":
                agent = text(value)
            elif key == "x-envoy-external-address":
                external_address = text(value)
            elif key == "traceparent":
                traceparent = text(value)
        origin = self._cached(method, without_port(peer), external_address, agent)
        trace = trace_id(traceparent) if traceparent else ""
        return replace(origin, trace_id=trace) if trace else origin

    def trusts(self, peer: str) -> bool:
        """Returns whether the peer is a trusted proxy."""
        if peer.startswith("unix:"):
            return self._trusts_unix
        address = _peer_address(peer)
        return bool(address) and any(ipaddress.ip_address(address) in network for network in self._trusted)

    def _origin(self, method: str, peer: str, external_address: str, agent: str) -> Origin:
        own = _peer_address(peer)
        # Only a trusted proxy names its client, and only by a real address.
        source = (canonical(external_address) or own) if self.trusts(peer) else own
        return Origin(method=method, source_address=source, user_agent=user_agent(agent))


def with_trace(origin: Origin, trace_id: str) -> Origin:
    """Returns the origin with the trace that the service began, where the call came without one."""
    return origin if origin.trace_id else replace(origin, trace_id=trace_id)


@lru_cache(maxsize=_MAX_ORIGINS)
def with_proof(origin: Origin, **proof: str) -> Origin:
    """Returns the origin with what proved the caller: the token that the call brought, and the certificate."""
    return replace(origin, **proof)


def is_passed_on(metadata: Metadata) -> bool:
    """Returns whether a proxy passed the call on, as the headers tell that Envoy and other HTTP proxies add."""
    return any(key in _OF_PROXIES or key.startswith("x-envoy-") for key, _ in metadata)


def user_agent(given: str) -> str:
    """Returns the user agent as it is recorded."""
    return name.harmless(given, _MAX_USER_AGENT)


def trace_id(traceparent: str) -> str:
    """Returns the trace id of a `traceparent` header (W3C Trace Context); an empty one for any other text."""
    trace = parse(traceparent)
    return trace.trace_id if trace is not None else ""


def without_port(peer: str) -> str:
    """Returns gRPC's name of a peer with port 0, since a call's origin does not depend on the port."""
    return peer if peer.startswith("unix") else f"{peer.rpartition(':')[0]}:0"


def text(value: str | bytes) -> str:
    """Returns the value of one metadata entry as text."""
    return value.decode("latin-1") if isinstance(value, bytes) else value


def last_value(metadata: Metadata, wanted: str) -> str | None:
    """Returns the last value of the key; None where there is none."""
    found = None
    for key, value in metadata:
        if key == wanted:
            found = text(value)
    return found


def _peer_address(peer: str) -> str:
    """Returns the IP address of gRPC's name of a peer; none for a Unix socket."""
    kind, _, address = peer.partition(":")
    return "" if kind == "unix" else canonical(_host(address))


def _host(address: str) -> str:
    """Returns the host of gRPC's `HOST:PORT`, where an IPv6 host is in (percent-encoded) brackets."""
    host = address.rpartition(":")[0]
    return host.replace("%5B", "").replace("%5D", "").strip("[]")
