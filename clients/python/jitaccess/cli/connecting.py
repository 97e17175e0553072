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
    from jitaccess.config import ClientCertificate

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
        targets = _transport.targets(
            settings.address,
            tls=settings.tls,
            insecure=False,
            ca_file=settings.ca_file,
            client_certificate=settings.client_certificate,
        )
    except JitError:
        return error
    for target in targets:
        if target.address.startswith("unix:"):
            continue
        found = fault_of(
            target.address,
            tls=target.credentials is not None,
            ca_file=settings.ca_file,
            client_certificate=settings.client_certificate,
        )
        if found is not None:
            return found
    return error


def fault_of(
    address: str, *, tls: bool, ca_file: Path | None, client_certificate: ClientCertificate | None = None
) -> JitError | None:
    """Returns what is wrong between this client and the address HOST:PORT; None where it cannot be told."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    try:
        context = ssl.create_default_context(cafile=ca_file)
        context.set_alpn_protocols(["h2"])
        if client_certificate is not None:
            context.load_cert_chain(client_certificate.chain, client_certificate.key, password="")
        plain = socket.create_connection((host, int(port)), timeout=_SECONDS)
    except OSError:
        return None
    with plain:
        try:
            with context.wrap_socket(plain, server_hostname=host) as secure:
                fault = _unless(tls, address, speaks_http2=secure.selected_alpn_protocol() == "h2")
                return fault or _of_client_certificate(secure, address, shown=client_certificate is not None)
        except ssl.SSLCertVerificationError as fault:
            return _of_certificate(address, fault) if tls else _unless(tls, address, speaks_http2=True)
        except OSError:
            if not tls:
                return None
            return Unavailable(f"{address} does not speak TLS, and this client did", reason="TLS_NOT_SPOKEN")


def _of_client_certificate(secure: ssl.SSLSocket, address: str, *, shown: bool) -> JitError | None:
    """Returns the fault of a server that ends the connection instead of beginning to speak HTTP/2.

    In TLS 1.3 a server looks at the client's certificate only after the client takes the handshake for done.
    """
    secure.settimeout(_SECONDS)
    try:
        if secure.recv(1):
            return None
    except TimeoutError:
        return None
    except OSError:
        pass
    if shown:
        return Unavailable(
            f"{address} does not take the client certificate that was shown", reason="CLIENT_CERTIFICATE_REFUSED"
        )
    return Unavailable(f"{address} demands a client certificate (mTLS)", reason="CLIENT_CERTIFICATE_NEEDED")


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
