"""Which ports may be served without TLS, and which settings of TLS go together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from jit_service.configuration.forms import Address

_WITH_TLS: Final = ("grpc", "passing", "http")
"""The ports that have TLS where the settings name a certificate."""


def port_faults(ports: Mapping[str, Address | None], *, tls: bool) -> Iterator[str]:
    """Yields a line for each port that other machines can reach and that has no TLS. `tls`: there is a certificate."""
    for port, address in ports.items():
        may_have = port in _WITH_TLS
        if address is None or address.is_loopback or (tls and may_have):
            continue
        give = "give --tls-cert FILE and --tls-key FILE (JIT_TLS_CERT, JIT_TLS_KEY), or " if may_have else ""
        behind = " behind an Envoy with TLS" if may_have else ""
        yield (
            f"JIT_{port.upper()}: {address} is not loopback, and this port has no TLS, so tokens would cross the "
            f"network in clear; {give}bind 127.0.0.1{behind}, or say --insecure-listen (JIT_INSECURE_LISTEN=true) if "
            "something else encrypts the way"
        )


def tls_faults(*, certificate: bool, key: bool, client_ca: bool, principals: bool, native: bool) -> Iterator[str]:
    """Yields a line for each setting of TLS that lacks another one, or that the transport cannot serve."""
    if certificate is not key:
        missing, there = ("KEY", "CERT") if certificate else ("CERT", "KEY")
        yield f"JIT_TLS_{missing}: is missing; JIT_TLS_{there} needs it for TLS"
    if client_ca and not (certificate and key):
        yield "JIT_TLS_CLIENT_CA: needs TLS; set JIT_TLS_CERT and JIT_TLS_KEY too"
    if principals and not client_ca:
        yield "JIT_TLS_PRINCIPALS: needs JIT_TLS_CLIENT_CA, whose authorities sign these certificates"
    if certificate and native:
        yield (
            "JIT_TLS_CERT: the native transport (pygrpc-native) has no TLS; use --transport grpcio, or serve native on "
            "127.0.0.1 without a certificate, behind an Envoy with TLS (jit-service envoy-config)"
        )
