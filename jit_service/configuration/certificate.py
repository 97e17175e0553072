"""The certificate that the service proves itself by, and the authorities of its clients', as PEM files say now."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography import x509

from jit_service.configuration.fresh_file import FreshFile
from jit_service.configuration.secret_file import demand_private, shown_path

_BEGINS: Final = b"-----BEGIN CERTIFICATE-----"


@dataclass(frozen=True, kw_only=True)
class TlsFiles:
    """Where the certificate chain, its key, and the authorities that sign clients' certificates are, if any do."""

    chain: Path
    key: Path
    client_ca: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """What the files say. `client_authorities` are empty where clients need no certificate."""

    chain: bytes
    key: bytes = field(repr=False)
    leaf: x509.Certificate
    client_authorities: tuple[x509.Certificate, ...] = ()
    client_ca: bytes = b""

    @property
    def expires_at(self) -> datetime:
        """From this instant on nobody accepts the certificate."""
        return self.leaf.not_valid_after_utc


FreshCertificate = FreshFile[Certificate]


def fresh(files: TlsFiles) -> FreshCertificate:
    """Returns the certificate, which is read anew when a file changes. Raises ValueError, OSError."""
    others = [path for path in (files.key, files.client_ca) if path is not None]
    return FreshFile(files.chain, lambda _: read(files), beside=others)


def read(files: TlsFiles) -> Certificate:
    """Returns what the files say. Raises ValueError, also where one cannot be read; no part of the key is in it."""
    chain, key = _pem_of("JIT_TLS_CERT", files.chain), _bytes_of("JIT_TLS_KEY", files.key)
    leaf = _certificates("JIT_TLS_CERT", files.chain, chain)[0]
    try:
        demand_private(files.key)
        # OpenSSL says whether the key can be read, and whether it is the certificate's. An empty password keeps it from
        # asking for one at the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(files.chain, files.key, password="")
    except ssl.SSLError as fault:
        raise ValueError(
            f"JIT_TLS_KEY: {files.key} is not the key of the certificate in {files.chain}, in PEM and without a "
            f"passphrase ({fault.reason or 'it cannot be read'})"
        ) from None
    except ValueError as fault:
        raise ValueError(f"JIT_TLS_KEY: {fault}") from None
    if files.client_ca is None:
        return Certificate(chain=chain, key=key, leaf=leaf)
    client_ca = _pem_of("JIT_TLS_CLIENT_CA", files.client_ca)
    authorities = _certificates("JIT_TLS_CLIENT_CA", files.client_ca, client_ca)
    return Certificate(chain=chain, key=key, leaf=leaf, client_authorities=tuple(authorities), client_ca=client_ca)


def _bytes_of(setting: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as fault:
        raise ValueError(f"{setting}: {shown_path(path)} cannot be read: {fault.strerror}") from None


def _pem_of(setting: str, path: Path) -> bytes:
    pem = _bytes_of(setting, path)
    if _BEGINS not in pem:
        raise ValueError(f"{setting}: {path} holds no certificate in PEM")
    return pem


def _certificates(setting: str, path: Path, pem: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError:
        raise ValueError(f"{setting}: {path} holds a certificate that cannot be read") from None
