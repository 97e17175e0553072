"""TLS for grpcio's servers. A changed certificate is for new connections; those that are open go on."""

from __future__ import annotations

import grpc

from jit_service.configuration.certificate import Certificate, FreshCertificate


def server_credentials(certificate: FreshCertificate) -> grpc.ServerCredentials:
    """Returns the credentials of one port: TLS 1.2 or newer, and a client's certificate where authorities are named.

    gRPC asks at each handshake whether there is a new certificate, and remembers the answer, so no other port may have
    these credentials.
    """
    given = certificate.content()

    def changed() -> grpc.ServerCertificateConfiguration | None:
        nonlocal given
        # None means that nothing has changed. Two handshakes at once may both be told of the change, which is harmless.
        if (now := certificate.content()) is given:
            return None
        given = now
        return _configuration(now)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(given),
        changed,  # type: ignore[arg-type]  # grpc itself takes None.
        require_client_authentication=bool(given.client_ca),
    )


def _configuration(certificate: Certificate) -> grpc.ServerCertificateConfiguration:
    pair = certificate.key, certificate.chain
    return grpc.ssl_server_certificate_configuration([pair], root_certificates=certificate.client_ca or None)
