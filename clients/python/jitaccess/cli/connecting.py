"""Why no connection came about: what gRPC calls unavailable is often a certificate, or TLS on one side only.

The address is looked at once more by the TLS of Python's own, which says what is wrong with a certificate.
"""

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from typing import TYPE_CHECKING

from jitaccess.errors import JitError, Unavailable

if TYPE_CHECKING:
    from jitaccess.cli.session import Session

_SECONDS = 3.0
# X509_V_ERR_* of OpenSSL, x509_vfy.h.
_EXPIRED = {9, 10}
_WRONG_NAME = {62, 63, 64}


def explained(error: JitError, session: Session) -> JitError:
    """Returns the error, or one that names the cause where an address shows it; nothing is sent but a handshake."""
    if error.code != "UNAVAILABLE" or error.status is not None or error.reason != "UNAVAILABLE":
        return error
    from jitaccess import _transport

    try:
        settings = session.settings()
        targets = _transport.targets(settings.address, tls=settings.tls, insecure=False, ca_file=settings.ca_file)
    except JitError:
        return error
    for target in targets:
        if target.address.startswith("unix:"):
            continue
        found = fault_of(target.address, tls=target.credentials is not None, ca_file=settings.ca_file)
        if found is not None:
            return found
    return error


def fault_of(address: str, *, tls: bool, ca_file: Path | None) -> JitError | None:
    """Returns what is wrong between this client and the address HOST:PORT; None where it cannot be told."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    try:
        context = ssl.create_default_context(cafile=ca_file)
        context.set_alpn_protocols(["h2"])
        plain = socket.create_connection((host, int(port)), timeout=_SECONDS)
    except OSError:
        return None
    with plain:
        try:
            with context.wrap_socket(plain, server_hostname=host) as secure:
                return _unless(tls, address, speaks_http2=secure.selected_alpn_protocol() == "h2")
        except ssl.SSLCertVerificationError as fault:
            return _of_certificate(address, fault) if tls else _unless(tls, address, speaks_http2=True)
        except OSError:
            if not tls:
                return None
            return Unavailable(f"{address} does not speak TLS, and this client did", reason="TLS_NOT_SPOKEN")


def _unless(tls: bool, address: str, *, speaks_http2: bool) -> JitError | None:
    if not tls:
        return Unavailable(f"{address} speaks TLS, and this client did not", reason="TLS_NEEDED")
    if not speaks_http2:
        return Unavailable(f"{address} speaks TLS, but not HTTP/2, which gRPC needs", reason="HTTP2_NOT_SPOKEN")
    return None


def _of_certificate(address: str, fault: ssl.SSLCertVerificationError) -> JitError:
    if fault.verify_code in _EXPIRED:
        when = "has expired" if fault.verify_code == 10 else "is not valid yet"
        return Unavailable(f"the certificate of {address} {when}", reason="CERTIFICATE_EXPIRED")
    if fault.verify_code in _WRONG_NAME:
        host = address.rpartition(":")[0]
        return Unavailable(f"the certificate of {address} is not for {host}", reason="CERTIFICATE_WRONG_NAME")
    return Unavailable(
        f"the certificate of {address} is signed by no authority that is known here: {fault.verify_message}",
        reason="CERTIFICATE_UNKNOWN_AUTHORITY",
    )
