"""A token never travels in clear to another host."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from jitaccess import JitClient, Misconfigured, Retry, Unavailable
from jitaccess._transport import target
from tests.client.service import Service, serving

LOCAL = ["127.0.0.1:1", "127.8.9.1:1", "localhost:1", "[::1]:1", "unix:/run/jit.sock", "unix:relative.sock"]
ELSEWHERE = ["jit.example.com:443", "10.0.0.1:443", "[2001:db8::1]:443", "localhost.evil.example:1", "0.0.0.0:1"]


@pytest.mark.parametrize("address", LOCAL)
def test_plaintext_is_for_this_machine(address: str) -> None:
    assert target(address, tls=None, insecure=False).credentials is None
    assert target(address, tls=False, insecure=False).credentials is None
    assert target(address, tls=True, insecure=False).credentials is not None


@pytest.mark.parametrize("address", ELSEWHERE)
def test_another_host_is_spoken_to_over_tls(address: str) -> None:
    assert target(address, tls=None, insecure=False).credentials is not None


@pytest.mark.parametrize("address", ELSEWHERE)
def test_plaintext_to_another_host_is_refused_unless_it_is_asked_for_twice(address: str) -> None:
    with pytest.raises(Misconfigured, match="in clear") as caught:
        target(address, tls=False, insecure=False)

    assert caught.value.reason == "PLAINTEXT_REFUSED"
    assert target(address, tls=False, insecure=True).credentials is None


@pytest.mark.parametrize(
    "address",
    [
        "", ":1", "host", "host:", "host:0", "host:65536", "host:x", "http://host:1", "host:1/path", "::1:1",
        "[]:1", "dns:///host:1", "ipv4:10.0.0.1:1", "host:１",
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        target(address, tls=None, insecure=False)

    assert caught.value.reason == "ADDRESS_INVALID"


def test_plaintext_never_goes_through_a_proxy() -> None:
    assert ("grpc.enable_http_proxy", 0) in target("127.0.0.1:1", tls=None, insecure=False).options
    assert ("grpc.enable_http_proxy", 0) not in target("a.example:1", tls=None, insecure=False).options


def test_a_unix_socket_is_an_address(tmp_path: Path) -> None:
    server = grpc.server(None, options=[("grpc.so_reuseport", 0)])
    server.add_insecure_port(f"unix:{tmp_path}/s")
    server.start()

    with (
        JitClient(f"unix:{tmp_path}/s", token="t", retry=Retry(attempts=1)) as client,
        pytest.raises(Exception, match="Method not found"),
    ):
        client.verify_audit_log()

    server.stop(None).wait()


def test_the_services_certificate_is_proved() -> None:
    certificate, key = _self_signed()
    with serving(Service(), grpc.ssl_server_credentials([(key, certificate)])) as service:
        trusting = grpc.ssl_channel_credentials(root_certificates=certificate)
        once = Retry(attempts=1)

        with JitClient(service.address, token="t", tls=trusting) as client:
            client.verify_audit_log()
        with JitClient(service.address, token="t", tls=True, retry=once) as client, pytest.raises(Unavailable):
            client.verify_audit_log()

    assert len(service.received) == 1


def _self_signed() -> tuple[bytes, bytes]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "jit")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    plain = serialization.NoEncryption()
    return certificate.public_bytes(pem), key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)
