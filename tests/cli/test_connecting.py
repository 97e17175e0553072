"""How `jit` reaches the service: TLS by flag, variable and file, several addresses, and what is wrong, in words."""

from __future__ import annotations

import datetime
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from jitaccess.cli import hush
from jitaccess.v1 import audit_pb2
from tests.certificates import Authority, certificate
from tests.cli.conftest import Jit
from tests.cli.samples import grant, listed
from tests.client.service import Refusal, Service, serving


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[tuple[Service, Path]]:
    """A service that speaks TLS as localhost, and the file of its authority."""
    authority, both = certificate("localhost", tmp_path)
    with serving(Service(), credentials_of(both, authority)) as running:
        running.address = running.address.replace("127.0.0.1", "localhost")
        yield running, authority


def credentials_of(key: Path, chain: Path) -> grpc.ServerCredentials:
    return grpc.ssl_server_credentials([(key.read_bytes(), chain.read_bytes())])


def test_tls_is_spoken_by_flags(jit: Jit, secure: tuple[Service, Path]) -> None:
    service, authority = secure

    assert jit("ls", "--address", service.address, "--tls", "--ca-file", str(authority)).code == 0
    assert jit("ls", "--address", service.address, "--ca-file", str(authority)).code == 0
    assert jit("ls", "--address", f"https://{service.address}", "--ca-file", str(authority)).code == 0


def test_tls_is_spoken_by_variables(jit: Jit, secure: tuple[Service, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    service, authority = secure
    for name, value in {"ADDRESS": service.address, "TLS": "true", "CA_FILE": str(authority)}.items():
        monkeypatch.setenv(f"JIT_{name}", value)

    assert jit("ls").code == 0
    assert jit("ls", "--no-tls").code == 7


def test_tls_is_spoken_by_the_file(
    jit: Jit, secure: tuple[Service, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    service, authority = secure
    config = tmp_path / "config.toml"
    config.write_text(f'address = "{service.address}"\ntls = true\nca_file = "{authority.name}"\n')
    monkeypatch.delenv("JIT_ADDRESS")
    monkeypatch.setenv("JIT_CONFIG", str(config))

    assert jit("ls").code == 0


@pytest.mark.parametrize("value", ["maybe", "2"])
def test_a_truth_value_that_is_none_is_named(jit: Jit, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("JIT_TLS", value)

    ran = jit("ls")

    assert (ran.code, f"JIT_TLS is '{value}', and must be true or false" in ran.err) == (2, True)


@pytest.mark.parametrize("text", [None, "no certificate"])
def test_a_file_of_authorities_that_is_none_is_named(jit: Jit, tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "authorities.pem"
    if text is not None:
        file.write_text(text)

    ran = jit("ls", "--ca-file", str(file))

    assert (ran.code, f"the CA file {file}" in ran.err) == (2, True)


def test_plaintext_to_a_port_that_speaks_tls_is_told(jit: Jit, secure: tuple[Service, Path]) -> None:
    service, _ = secure

    ran = jit("ls", "--address", service.address)

    assert ran.code == 7
    assert f"{service.address} speaks TLS, and this client did not (TLS_NEEDED)" in ran.err
    assert "hint: pass --tls" in ran.err


def test_tls_to_a_port_that_speaks_plaintext_is_told(jit: Jit, service: Service) -> None:
    ran = jit("ls", "--tls")

    assert ran.code == 7
    assert f"{service.address} does not speak TLS, and this client did (TLS_NOT_SPOKEN)" in ran.err


def test_grpc_adds_nothing_of_its_own_to_what_is_told(service: Service) -> None:
    command = [sys.executable, "-c", "from jitaccess.cli import main; main()", "ls", "--tls"]
    environment = {"JIT_ADDRESS": service.address, "JIT_TOKEN": "x.y.z", "PATH": ""}

    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)

    assert ran.returncode == 7
    assert [line.split(":")[0] for line in ran.stderr.splitlines()] == ["error", "hint"]


@pytest.mark.parametrize("before", [None, "DEBUG"])
def test_the_environment_is_as_it_was_once_grpc_is_loaded(monkeypatch: pytest.MonkeyPatch, before: str | None) -> None:
    monkeypatch.delenv(hush.VARIABLE, raising=False)
    if before is not None:
        monkeypatch.setenv(hush.VARIABLE, before)

    hush.before_grpc_loads()
    during = os.environ.get(hush.VARIABLE)
    hush.once_grpc_is_loaded()

    assert (during, os.environ.get(hush.VARIABLE)) == (before or "NONE", before)


def test_a_certificate_of_an_unknown_authority_is_told(jit: Jit, secure: tuple[Service, Path]) -> None:
    service, _ = secure

    ran = jit("ls", "--address", service.address, "--tls")

    assert ran.code == 7
    assert f"the certificate of {service.address} is signed by no authority that is known here" in ran.err
    assert "hint: pass --ca-file FILE" in ran.err


def test_a_certificate_for_another_name_is_told(jit: Jit, tmp_path: Path) -> None:
    authority, both = certificate("jit.example.com", tmp_path)
    with serving(Service(), credentials_of(both, authority)) as service:
        ran = jit("ls", "--address", service.address, "--ca-file", str(authority))

    assert f"the certificate of {service.address} is not for 127.0.0.1 (CERTIFICATE_WRONG_NAME)" in ran.err


def test_a_certificate_that_has_expired_is_told(jit: Jit, tmp_path: Path) -> None:
    key, authority = expired(tmp_path)
    with serving(Service(), credentials_of(key, authority)) as service:
        address = service.address.replace("127.0.0.1", "localhost")
        ran = jit("ls", "--address", address, "--ca-file", str(authority))

    assert f"the certificate of {address} has expired (CERTIFICATE_EXPIRED)" in ran.err


def expired(directory: Path) -> tuple[Path, Path]:
    """Makes a certificate of localhost that ended an hour ago. Returns the files of its key and of itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=2))
        .not_valid_after(now - datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = directory / "key.pem", directory / "expired.pem"
    files[0].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    files[1].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return files


def dead() -> str:
    """Returns an address of this machine at which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{taken.getsockname()[1]}"


def test_where_one_address_is_away_the_next_is_asked(jit: Jit, service: Service) -> None:
    service.will_answer("ListGrants", listed(grant()))

    ran = jit("ls", "--address", f"{dead()},{service.address}")

    assert (ran.code, "PENDING" in ran.out) == (0, True)


def test_where_every_address_is_away_all_are_named(jit: Jit) -> None:
    first, second = dead(), dead()

    ran = jit("ls", "--address", f"{first}, {second}", "--timeout", "1")

    assert (ran.code, f"{first}, {second}" in ran.err) == (7, True)


def tailed(seq: int) -> audit_pb2.TailAuditEventsResponse:
    return audit_pb2.TailAuditEventsResponse(seq=seq, audit_event=audit_pb2.AuditEvent(seq=seq))


def test_a_tail_goes_on_at_the_next_address_where_it_was(jit: Jit, service: Service) -> None:
    away = Refusal(code=grpc.StatusCode.UNAVAILABLE)
    over = Refusal(code=grpc.StatusCode.UNAUTHENTICATED, reason="TOKEN_INVALID")
    service.will_stream("TailAuditEvents", [tailed(4), away])
    with serving(Service()) as other:
        other.will_stream("TailAuditEvents", [tailed(5), over])

        ran = jit("audit", "tail", "--start-seq", "3", "--address", f"{service.address},{other.address}")

        assert [sent.start_seq for sent in other.sent("TailAuditEvents")] == [4]
    assert (ran.code, len(ran.out.splitlines())) == (3, 3)


def test_a_tail_that_has_begun_outlasts_its_host(jit: Jit, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jitaccess.cli.lasting.AGAIN", 0.0)
    monkeypatch.setattr("jitaccess._transport.Retry.delays", lambda _: iter(()))
    away = Refusal(code=grpc.StatusCode.UNAVAILABLE)
    over = Refusal(code=grpc.StatusCode.UNAUTHENTICATED, reason="TOKEN_INVALID")
    service.will_stream("TailAuditEvents", [tailed(4), away], *[[away]] * 20, [tailed(5), over])

    ran = jit("audit", "tail", "--start-seq", "3")

    assert (ran.code, len(ran.out.splitlines())) == (3, 3)
    assert ran.err.count("this goes on once it is back") == 1


@pytest.fixture
def mutual(tmp_path: Path) -> Iterator[tuple[Service, Authority]]:
    """A service that demands certificates of its clients, signed by the authority that signed its own."""
    authority = Authority(tmp_path)
    own = authority.sign("server", dns=["localhost"])
    pair = [(own.key.read_bytes(), own.chain.read_bytes())]
    credentials = grpc.ssl_server_credentials(pair, authority.file.read_bytes(), require_client_auth=True)
    with serving(Service(), credentials) as running:
        running.address = running.address.replace("127.0.0.1", "localhost")
        yield running, authority


def test_a_client_certificate_is_shown_by_flags_variables_and_file(
    jit: Jit, mutual: tuple[Service, Authority], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    service, authority = mutual
    own = authority.sign("client", dns=["client.internal"])
    both = tmp_path / "both.pem"
    both.write_bytes(own.key.read_bytes() + own.chain.read_bytes())
    reach = ("--address", service.address, "--ca-file", str(authority.file))

    by_flags = jit("ls", *reach, "--cert", str(own.chain), "--key", str(own.key)).code
    by_one_file = jit("ls", *reach, "--cert", str(both)).code
    monkeypatch.setenv("JIT_CERT_FILE", str(own.chain))
    monkeypatch.setenv("JIT_CERT_KEY_FILE", str(own.key))
    by_variables = jit("ls", *reach).code
    for name in ("JIT_CERT_FILE", "JIT_CERT_KEY_FILE", "JIT_ADDRESS"):
        monkeypatch.delenv(name)
    config = tmp_path / "config.toml"
    pair = f'cert_file = "{own.chain.name}"\ncert_key_file = "{own.key.name}"\n'
    config.write_text(f'address = "{service.address}"\nca_file = "{authority.file.name}"\n{pair}')
    monkeypatch.setenv("JIT_CONFIG", str(config))

    assert (by_flags, by_one_file, by_variables, jit("ls").code) == (0, 0, 0, 0)


def test_with_a_client_certificate_no_token_is_needed(
    jit: Jit, mutual: tuple[Service, Authority], monkeypatch: pytest.MonkeyPatch
) -> None:
    service, authority = mutual
    own = authority.sign("client", dns=["client.internal"])
    for name in ("JIT_TOKEN", "JIT_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)

    ran = jit(
        "ls",
        *("--address", service.address, "--ca-file", str(authority.file)),
        *("--cert", str(own.chain), "--key", str(own.key)),
    )

    assert ran.code == 0, ran.err
    assert "authorization" not in service.received[-1].metadata


def test_a_port_that_demands_a_client_certificate_says_so(jit: Jit, mutual: tuple[Service, Authority]) -> None:
    service, authority = mutual

    ran = jit("ls", "--address", service.address, "--ca-file", str(authority.file))

    assert ran.code == 7
    assert f"{service.address} demands a client certificate (mTLS) (CLIENT_CERTIFICATE_NEEDED)" in ran.err
    assert "hint: pass --cert FILE and --key FILE" in ran.err


def test_a_client_certificate_of_another_authority_is_told(
    jit: Jit, mutual: tuple[Service, Authority], tmp_path: Path
) -> None:
    service, authority = mutual
    own = Authority(tmp_path, "strangers").sign("client", dns=["client.internal"])

    ran = jit(
        "ls",
        *("--address", service.address, "--ca-file", str(authority.file)),
        *("--cert", str(own.chain), "--key", str(own.key)),
    )

    assert f"{service.address} does not take the client certificate that was shown" in ran.err


def test_a_certificate_and_a_key_that_do_not_belong_together_are_named(jit: Jit, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    one, other = authority.sign("one"), authority.sign("other")

    ran = jit("ls", "--cert", str(one.chain), "--key", str(other.key))

    assert (ran.code, f"{one.chain} and {other.key} are no certificate and its key" in ran.err) == (2, True)
