"""Where a caller is: the peer of the connection, or behind trusted proxies X-Forwarded-For. No other header counts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

from jitaccess.errors import Misconfigured
from jitaccess.guards.incoming import Incoming

_FORWARDED = "x-forwarded-for"
# Some proxies add the port.
_HOP = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::[0-9]{1,5})?|([0-9.]+)(?::[0-9]{1,5})?|([0-9A-Fa-f:.]+)")


class TrustedProxies:
    """Networks of proxies whose X-Forwarded-For counts. Raises Misconfigured for what is no network."""

    def __init__(self, networks: Iterable[str] = ()) -> None:
        if isinstance(networks, str):
            raise Misconfigured("trusted_proxies: must be a list of networks", reason="TRUSTED_PROXIES_INVALID")
        self._networks = tuple(map(_network, networks))

    def source_ip(self, incoming: Incoming) -> str:
        """Returns the caller's address, empty where it is not known.

        It is the peer's, and of a trusted proxy the right-most one in X-Forwarded-For that is no trusted proxy's: each
        adds at the right whom it was called by, and what stands left of the first stranger anybody may have written.
        """
        peer = _canonical(incoming.peer)
        if not peer or not self._trust(peer):
            return peer
        given = ",".join(incoming.headers.get_all(_FORWARDED))
        for text in reversed(given.split(",")):
            hop = _hop(text)
            if not hop or not self._trust(hop):
                return hop
        return ""

    def _trust(self, address: str) -> bool:
        return any(ip_address(address) in network for network in self._networks)


def peer_of_scope(scope: Mapping[str, Any]) -> str:
    """Returns the address of an ASGI scope's client, empty where the server has none."""
    client = scope.get("client")
    return str(client[0]) if client else ""


def peer_of_context(context: Any) -> str:
    """Returns the address of a gRPC call's peer, `ipv4:HOST:PORT` or `ipv6:[HOST]:PORT`; empty for any other."""
    kind, _, address = str(context.peer()).partition(":")
    if kind not in ("ipv4", "ipv6"):
        return ""
    return address.rpartition(":")[0].replace("%5B", "").replace("%5D", "").strip("[]")


def _network(text: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(text)
    except (ValueError, TypeError):
        raise Misconfigured(
            f"trusted_proxies: {text!r} is no network, such as 10.0.0.0/8", reason="TRUSTED_PROXIES_INVALID"
        ) from None


def _hop(text: str) -> str:
    found = _HOP.fullmatch(text.strip(" \t"))
    return _canonical(found[1] or found[2] or found[3]) if found else ""


def _canonical(text: str) -> str:
    """Returns the one spelling of an address, empty for a text that is none. An IPv4-mapped address is IPv4."""
    try:
        # The zone of a link-local address (RFC 4007) means nothing to anybody else.
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return ""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)
