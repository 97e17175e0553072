"""Identifies callers by the client certificates of their connections (docs/adr/0061-tls-at-the-service.md).

gRPC has verified a certificate when its connection was made. What it proves is read for each call, and so is whether
its time is over, and whether an authority that is trusted now has signed it: a connection may be older than a change.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

import grpc
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding

from jit_service.client_certificates import AlternativeName, CertificatePrincipal, of_names
from jit_service.configuration.certificate import Certificate, FreshCertificate
from jit_service.domain.errors import CertificateInvalid
from jit_service.domain.generational_cache import GenerationalCache
from jit_service.rpc.identity import Identity

_MAX_KNOWN: Final = 4096
_MAX_CHAIN: Final = 8
# gRPC's names of these properties of a connection, grpc/core/tsi/transport_security_interface.h.
_LEAF, _CHAIN = "x509_pem_cert", "x509_pem_cert_chain"


class Shown(NamedTuple):
    """The certificate that a client showed, and the chain that it sent along, in PEM; empty where it showed none."""

    leaf: bytes = b""
    chain: bytes = b""


NOTHING_SHOWN: Final = Shown()


def shown_by(context: grpc.ServicerContext) -> Shown:
    """Returns what the client of the call's connection showed."""
    # Each property is a list of values, other than the stub says.
    properties: Mapping[str, Any] = context.auth_context()
    return Shown(b"".join(properties.get(_LEAF, ())), b"".join(properties.get(_CHAIN, ())))


class _Known(NamedTuple):
    """What is known of a certificate while these are the authorities."""

    files: Certificate
    identity: Identity | None
    expires_at: datetime
    fault: str


class ClientCertificates:
    """What clients' certificates prove, by the rules. Any thread may ask."""

    def __init__(
        self, files: FreshCertificate, rules: Sequence[CertificatePrincipal], *, clock: Callable[[], datetime]
    ) -> None:
        self._files = files
        self._rules = tuple(rules)
        self._clock = clock
        self._known: GenerationalCache[Shown, _Known] = GenerationalCache(_MAX_KNOWN)

    def identity(self, shown: Shown) -> Identity | None:
        """Returns whom the certificate proves, None if it names nobody. Raises CertificateInvalid."""
        if not shown.leaf:
            return None
        files = self._files.content()
        known = self._known.get(shown)
        if known is None or known.files is not files:
            known = self._read(shown, files)
            self._known.put(shown, known)
        if known.fault:
            raise CertificateInvalid(known.fault)
        if self._clock() >= known.expires_at:
            raise CertificateInvalid("the client certificate has expired; connect with a new one")
        return known.identity

    def _read(self, shown: Shown, files: Certificate) -> _Known:
        leaf = x509.load_pem_x509_certificate(shown.leaf)
        expires_at = leaf.not_valid_after_utc
        if not _is_signed(leaf, _chain(shown), files.client_authorities):
            fault = "none of the authorities in JIT_TLS_CLIENT_CA has signed the client certificate"
            return _Known(files, None, expires_at, fault)
        found = of_names(self._rules, _alternative_names(leaf))
        if len(found) > 1:
            names = " and ".join(sorted(match.principal for match in found))
            return _Known(files, None, expires_at, f"the client certificate names {names}, and a caller is one of them")
        if not found:
            return _Known(files, None, expires_at, "")
        (match,) = found
        groups = match.rule.groups
        identity = Identity(
            principal=match.principal,
            groups=None if groups is None else frozenset(groups),
            roles=frozenset(match.rule.roles),
            expires_at=expires_at,
            certificate=str(match.alternative_name),
            certificate_sha256=hashlib.sha256(leaf.public_bytes(Encoding.DER)).hexdigest(),
        )
        return _Known(files, identity, expires_at, "")


def _chain(shown: Shown) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(shown.chain) if shown.chain else []


def _alternative_names(leaf: x509.Certificate) -> list[AlternativeName]:
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return []
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    hosts = names.get_values_for_type(x509.DNSName)
    return [AlternativeName("uri", uri) for uri in uris] + [AlternativeName("dns", host.lower()) for host in hosts]


def _is_signed(
    leaf: x509.Certificate, sent: Sequence[x509.Certificate], authorities: Sequence[x509.Certificate]
) -> bool:
    """Returns whether an authority has signed the certificate, or one that was sent along which leads to it.

    gRPC has judged all else of the chain; this is only about which authorities are trusted now.
    """
    current = leaf
    for _ in range(_MAX_CHAIN):
        if current in authorities or any(_has_signed(authority, current) for authority in authorities):
            return True
        above = next((other for other in sent if other != current and _has_signed(other, current)), None)
        if above is None:
            return False
        current = above
    return False


def _has_signed(authority: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
