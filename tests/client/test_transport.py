"""A token never travels in clear to another host."""

from __future__ import annotations

import socket
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from jitaccess import JitClient, Misconfigured, PermissionDenied, Retry, Unavailable
from jitaccess._transport import target, targets
from jitaccess.v1.audit_pb2 import AuditEvent, TailAuditEventsResponse
from tests.client.conftest import Ask
from tests.client.service import Held, Refusal, Service, serving

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


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("https://a.example", "a.example:443"), ("https://a.example:8443/", "a.example:8443"),
        ("https://[::1]", "[::1]:443"), ("https://127.0.0.1:1", "127.0.0.1:1"),
    ],
)  # fmt: skip
def test_https_means_tls(address: str, host: str) -> None:
    (found,) = targets(address, tls=None, insecure=False)

    assert (found.address, found.credentials is not None) == (host, True)


def test_https_without_tls_is_refused() -> None:
    with pytest.raises(Misconfigured, match="switched off"):
        targets("https://a.example", tls=False, insecure=True)


@pytest.mark.parametrize("address", ["https://", "https://a/b", "http://a:1", "a:1,", "a:1,,b:1", "a:1;b:1"])
def test_what_is_no_address_of_several_is_refused(address: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        targets(address, tls=None, insecure=False)

    assert caught.value.reason == "ADDRESS_INVALID"


def test_where_one_of_several_is_another_host_all_are_spoken_to_over_tls() -> None:
    local = targets("127.0.0.1:1, unix:/run/s", tls=None, insecure=False)
    mixed = targets("127.0.0.1:1,a.example:1", tls=None, insecure=False)

    assert [each.credentials is None for each in (*local, *mixed)] == [True, True, False, False]
    with pytest.raises(Misconfigured, match="in clear"):
        targets("127.0.0.1:1,a.example:1", tls=False, insecure=False)


def test_where_one_address_is_away_calls_go_on_with_the_next(ask: Ask, service: Service) -> None:
    once = {"address": f"127.0.0.1:1,{service.address}", "retry": Retry(attempts=1)}

    ask("check", "user:s", "read", "a/b", options=once)

    assert len(service.received) == 1


def test_streams_go_on_with_the_next_address(ask: Ask, service: Service) -> None:
    service.will_stream("TailAuditEvents", [TailAuditEventsResponse(seq=4, audit_event=AuditEvent(seq=4)), Held()])

    (told,) = ask("tail_audit_events", options={"address": f"127.0.0.1:1,{service.address}"})

    assert told.seq == 4


def test_a_host_that_takes_connections_and_never_answers_is_left(
    ask: Ask, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jitaccess._transport._GIVE_UP_CONNECTING_MS", 100)
    with socket.socket() as hung:
        hung.bind(("127.0.0.1", 0))
        hung.listen()
        address = f"127.0.0.1:{hung.getsockname()[1]},{service.address}"

        ask("check", "user:s", "read", "a/b", options={"address": address, "retry": Retry(attempts=1)})

    assert len(service.received) == 1


def test_a_refusal_is_no_reason_to_ask_another_host(ask: Ask, service: Service) -> None:
    service.will_answer("CheckAccess", Refusal(code=grpc.StatusCode.PERMISSION_DENIED))
    with serving(Service()) as other, pytest.raises(PermissionDenied):
        ask("check", "user:s", "read", "a/b", options={"address": f"{service.address},{other.address}"})

    assert other.received == []


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
