"""IP addresses: their canonical spelling, and the ranges that decide where a notification may be sent.

`ipaddress.is_global` alone says yes to IPv6 forms that lead to an inner IPv4 address, and to multicast, so those are
judged here (RFC 6890, RFC 4291, RFC 6052, RFC 3056).
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

_UNICAST: Final = IPv6Network("2000::/3")
_NAT64: Final = IPv6Network("64:ff9b::/96")
_COMPATIBLE: Final = IPv6Network("::/96")
_NOT_GLOBAL_6: Final = tuple(
    IPv6Network(network) for network in ("2001::/23", "2001:db8::/32", "2620:4f:8000::/48", "3fff::/20")
)
_NOT_GLOBAL_4: Final = tuple(IPv4Network(network) for network in ("192.0.0.0/24", "192.31.196.0/24", "192.88.99.0/24"))
# Instance metadata services of clouds, which hand out credentials, outside the link-local range: Azure, Alibaba,
# Oracle; then AWS (a block of services), Google, Oracle, Alibaba, Scaleway, Akamai.
_METADATA_4: Final = tuple(
    IPv4Network(network) for network in ("168.63.129.16/32", "100.100.100.200/32", "192.0.0.192/32")
)
_METADATA_6: Final = tuple(
    IPv6Network(network)
    for network in (
        "fd00:ec2::/32",
        "fd20:ce::254/128",
        "fd00:c1::a9fe:a9fe/128",
        "fd00:100::100:200/128",
        "fd00:42::42/128",
        "fd00:a9fe:a9fe::1/128",
    )
)


def canonical(text: str) -> str:
    """Returns the canonical spelling, or empty for text that is no address. IPv4-mapped IPv6 becomes IPv4."""
    try:
        address = ip_address(text)
    except ValueError:
        return ""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)


def is_global(text: str) -> bool:
    """Returns whether the address is of the public Internet. Raises ValueError for text that is no address."""
    address = innermost(text)
    if address.is_multicast or not address.is_global or _is_metadata(address):
        return False
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _NOT_GLOBAL_4)
    return address in _UNICAST and not any(address in network for network in _NOT_GLOBAL_6)


def is_private(text: str) -> bool:
    """Returns whether the address belongs to a private network or to this machine.

    Cloud metadata, link-local, multicast, unspecified and reserved addresses never count as private.
    """
    address = innermost(text)
    if address.is_link_local or address.is_multicast or address.is_unspecified or _is_metadata(address):
        return False
    return address.is_loopback or any(address in network for network in _private(address))


def is_loopback(text: str) -> bool:
    """Returns whether the address is a loopback address."""
    return innermost(text).is_loopback


def innermost(text: str) -> IPv4Address | IPv6Address:
    """Returns the IPv4 address that an IPv6 address embeds, or else the address itself. Raises ValueError."""
    address = ip_address(text)
    if isinstance(address, IPv4Address):
        return address
    inner = address.ipv4_mapped or address.sixtofour
    if inner is not None:
        return inner
    # :: and ::1 lie in ::/96, but embed no IPv4 address.
    if address in _NAT64 or (address in _COMPATIBLE and int(address) > 1):
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    # ISATAP: the lower half begins with 0:5efe, or 200:5efe.
    if (int(address) >> 32) & 0xFDFF_FFFF == 0x0000_5EFE:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address


def _is_metadata(address: IPv4Address | IPv6Address) -> bool:
    networks: tuple[IPv4Network, ...] | tuple[IPv6Network, ...]
    networks = _METADATA_6 if isinstance(address, IPv6Address) else _METADATA_4
    return any(address in network for network in networks)


def _private(address: IPv4Address | IPv6Address) -> tuple[IPv4Network, ...] | tuple[IPv6Network, ...]:
    if isinstance(address, IPv6Address):
        return (IPv6Network("fc00::/7"),)
    networks = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")
    return tuple(IPv4Network(network) for network in networks)
