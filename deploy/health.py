"""Asks the service of this container whether it is healthy: exit code 0 if it is, else 1 and a line that says why.

With `--alive` it asks only whether the service answers at all, whatever its store does: for who would restart it.

It asks grpc.health.v1 at `JIT_GRPC`, over loopback where the service listens on every address. Where the service has
TLS, whoever answers there is trusted: no secret is sent, and it is this container. A service that demands clients'
certificates (`JIT_TLS_CLIENT_CA`) is asked only whether it takes connections, since the container holds none.
"""

from __future__ import annotations

import os
import socket
import ssl
import sys

import grpc
from cryptography import x509
from grpc_health.v1 import health_pb2, health_pb2_grpc

_SECONDS = 3.0
_NO_ANSWER = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
_LOOPBACK = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104 - nothing is bound to it


def asked(address: str) -> str:
    """Returns where to connect to: an address that stands for all of them is asked at loopback."""
    host, _, port = address.rpartition(":")
    return f"{_LOOPBACK.get(host, host)}:{port}"


def fault(address: str, *, service: str = "") -> str | None:
    """Returns what is wrong with the service at the address, or None. Raises RpcError and OSError."""
    host, _, port = address.rpartition(":")
    if os.environ.get("JIT_TLS_CLIENT_CA"):
        with socket.create_connection((host.strip("[]"), int(port)), _SECONDS):
            return None
    with _channel(address, has_tls=bool(os.environ.get("JIT_TLS_CERT"))) as channel:
        question = health_pb2.HealthCheckRequest(service=service)
        answer = health_pb2_grpc.HealthStub(channel).Check(question, timeout=_SECONDS)
    status = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    return None if status == "SERVING" else status


def hang(address: str) -> str | None:
    """Returns why the service does not answer, or None. Raises OSError.

    It asks about a service that nobody has, which is answered without the store. Any answer is one: a process that
    stands still, or has no thread left, gives none, though the kernel still takes connections for it.
    """
    try:
        return fault(address, service="alive")
    except grpc.RpcError as error:
        return str(error.code()) if error.code() in _NO_ANSWER else None


def _channel(address: str, *, has_tls: bool) -> grpc.Channel:
    if not has_tls:
        return grpc.insecure_channel(address)
    host, _, port = address.rpartition(":")
    shown = ssl.get_server_certificate((host.strip("[]"), int(port)), timeout=_SECONDS).encode()
    names = x509.load_pem_x509_certificate(shown).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    name = next(iter(names.get_values_for_type(x509.DNSName)), host)
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(shown), [("grpc.ssl_target_name_override", name)])


def main() -> int:
    address = asked(os.environ.get("JIT_GRPC") or "127.0.0.1:8081")
    try:
        wrong = hang(address) if sys.argv[1:] == ["--alive"] else fault(address)
    except (grpc.RpcError, OSError) as error:
        wrong = str(error.code() if isinstance(error, grpc.Call) else error)
    if wrong:
        print(f"{address}: {wrong}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
