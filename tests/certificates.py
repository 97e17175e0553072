"""Certificates for servers on loopback and for their clients."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

HOUR = datetime.timedelta(hours=1)


@dataclass(frozen=True)
class Pair:
    """The files of a certificate and of its key."""

    chain: Path
    key: Path


class Authority:
    """Signs certificates; its own is in `file`. One that is signed by another is sent along with what it signs."""

    def __init__(self, directory: Path, name: str = "ca", *, above: Authority | None = None) -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._above = above
        signs = above or self
        self._subject = _named(name)
        self.certificate = (
            _builder(self._subject, signs._subject, self._key, HOUR)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(signs._key, hashes.SHA256())
        )
        self.file = directory / f"{name}.pem"
        self.file.write_bytes(_pem(self.certificate))

    def sign(
        self,
        name: str,
        *,
        dns: Sequence[str] = (),
        uris: Sequence[str] = (),
        addresses: Sequence[str] = (),
        lasts: datetime.timedelta = HOUR,
    ) -> Pair:
        """Returns a new certificate, in the same files for the same name; each file is replaced at once."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = [
            *map(x509.DNSName, dns),
            *map(x509.UniformResourceIdentifier, uris),
            *(x509.IPAddress(ipaddress.ip_address(address)) for address in addresses),
        ]
        builder = _builder(_named(name), self._subject, key, lasts)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        made = builder.sign(self._key, hashes.SHA256())
        sent_along = b"" if self._above is None else _pem(self.certificate)
        pair = Pair(self._directory / f"{name}.crt", self._directory / f"{name}.key")
        _replace(pair.chain, _pem(made) + sent_along)
        _replace(pair.key, _private(key))
        return pair


def certificate(name: str, directory: Path) -> tuple[Path, Path]:
    """Makes a certificate that is its own authority. Returns its file, and that of it and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    made = (
        _builder(_named(name), _named(name), key, HOUR)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    authority, both = directory / "ca.pem", directory / "both.pem"
    authority.write_bytes(_pem(made))
    both.write_bytes(_private(key) + _pem(made))
    return authority, both


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, lasts: datetime.timedelta
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + lasts)
    )


def _pem(made: x509.Certificate) -> bytes:
    return made.public_bytes(serialization.Encoding.PEM)


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _replace(path: Path, content: bytes) -> None:
    """Replaces a file at once, as those do that renew certificates."""
    new = path.with_name(f"{path.name}.new")
    new.touch(0o600)
    new.write_bytes(content)
    new.chmod(0o600)
    new.replace(path)
