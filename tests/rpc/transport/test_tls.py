"""TLS at the service: certificates are taken anew, and clients' certificates prove service principals and no others."""

from __future__ import annotations

import logging
import socket
import ssl
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest

from jit_service.domain.caller import Role
from jit_service.runtime.service import Service, ServiceError
from jit_service.settings import Address, Settings, SettingsError
from jitaccess.v1 import access_pb2, audit_pb2
from jitaccess.v1.access_pb2_grpc import AccessServiceStub
from jitaccess.v1.audit_pb2_grpc import AuditServiceStub
from jitaccess.v1.grant_pb2 import WatchGrantsRequest
from jitaccess.v1.grant_pb2_grpc import GrantServiceStub
from tests.certificates import Authority, Pair
from tests.conftest import Clock
from tests.secured import Secure, started

GATEWAY = "spiffe://example.org/gateway"
PRINCIPALS = [
    {"uri": GATEWAY, "principal": "service:gateway", "roles": ["checker"], "groups": ["gateways"]},
    {"uri": "spiffe://example.org/ns/*", "principal": "service:k8s/*"},
    {"dns": "auditor.internal", "principal": "service:auditor", "roles": ["auditor"]},
    {"dns": "*.jobs.internal", "principal": "service:jobs/*"},
]


@pytest.fixture
def secure(sqlite_url: str, tmp_path: Path, clock: Clock) -> Iterator[Callable[..., Secure]]:
    """Starts the service with the given settings."""
    with ExitStack() as stack:
        yield partial(started, stack, tmp_path, sqlite_url, clock, principals=PRINCIPALS)


def served_certificate(address: Address) -> bytes:
    return ssl.get_server_certificate(("127.0.0.1", address.port)).encode()


class TestServing:
    def test_calls_go_by_tls_and_nothing_is_answered_in_clear(self, secure: Callable[..., Secure]) -> None:
        running = secure(mutual=False)

        who = running.who(running.channel(), running.token("user:alice"))
        with grpc.insecure_channel(str(running.address)) as clear:
            refused = running.refused(clear, running.token("user:alice"))

        assert who.principal == "user:alice"
        assert refused.startswith("UNAVAILABLE")

    def test_the_port_for_other_hosts_envoys_has_it_too(self, secure: Callable[..., Secure]) -> None:
        running = secure(mutual=False)

        assert served_certificate(running.passing) == running.server.chain.read_bytes()

    @pytest.mark.parametrize(
        ("newest", "served"), [(ssl.TLSVersion.TLSv1_1, False), (ssl.TLSVersion.TLSv1_2, True)], ids=["1.1", "1.2"]
    )
    def test_no_version_below_1_2_is_spoken(
        self, secure: Callable[..., Secure], newest: ssl.TLSVersion, served: bool
    ) -> None:
        running = secure(mutual=False)

        assert speaks(running.address, newest) is served

    def test_a_new_certificate_is_taken_and_open_connections_go_on(self, secure: Callable[..., Secure]) -> None:
        running = secure(mutual=False)
        before = running.channel()
        running.who(before, running.token("user:alice"))

        renewed = running.renew()

        assert served_certificate(running.address) == renewed.chain.read_bytes()
        assert served_certificate(running.passing) == renewed.chain.read_bytes()
        assert running.who(before, running.token("user:alice")).principal == "user:alice"
        assert running.who(running.channel(), running.token("user:alice")).principal == "user:alice"

    def test_a_certificate_without_its_key_is_not_taken_until_the_key_is_there(
        self, secure: Callable[..., Secure], caplog: pytest.LogCaptureFixture
    ) -> None:
        running = secure(mutual=False)
        first, old_key = running.server.chain.read_bytes(), running.server.key.read_bytes()
        renewed = running.renew()
        new_key = renewed.key.read_bytes()
        renewed.key.write_bytes(old_key)

        with caplog.at_level(logging.WARNING):
            meanwhile = served_certificate(running.address)
        renewed.key.write_bytes(new_key)

        assert meanwhile == first
        assert served_certificate(running.address) == renewed.chain.read_bytes()
        assert "is not taken, what it said before holds: JIT_TLS_KEY:" in caplog.text


class TestFilesAtTheStart:
    @pytest.mark.parametrize(
        ("broken", "told"),
        [
            (lambda pair: pair.chain.write_text("x"), "JIT_TLS_CERT: {chain} holds no certificate in PEM"),
            (lambda pair: pair.key.unlink(), "JIT_TLS_KEY: {key} cannot be read: No such file or directory"),
            (lambda pair: pair.key.chmod(0o644), "JIT_TLS_KEY: {key} is open to everybody (mode 0644)"),
            (lambda pair: pair.key.write_text("x"), "JIT_TLS_KEY: {key} is not the key of the certificate in {chain}"),
        ],
    )
    def test_what_is_wrong_is_told_in_a_line(
        self, tmp_path: Path, sqlite_url: str, broken: Callable[[Pair], None], told: str
    ) -> None:
        pair = Authority(tmp_path).sign("server", dns=["localhost"])
        broken(pair)

        with pytest.raises(ServiceError) as refused:
            Service(Settings.load(data_dir=tmp_path, database_url=sqlite_url, tls_cert=pair.chain, tls_key=pair.key))

        assert told.format(chain=pair.chain, key=pair.key) in str(refused.value)
        assert "\n" not in str(refused.value)

    @pytest.mark.parametrize(
        ("settings", "told"),
        [
            ({"tls_cert": "a"}, "JIT_TLS_KEY: is missing; JIT_TLS_CERT needs it"),
            ({"tls_key": "a"}, "JIT_TLS_CERT: is missing; JIT_TLS_KEY needs it"),
            ({"tls_client_ca": "a"}, "JIT_TLS_CLIENT_CA: needs TLS"),
            (
                {"tls_cert": "a", "tls_key": "b", "tls_principals": PRINCIPALS},
                "JIT_TLS_PRINCIPALS: needs JIT_TLS_CLIENT_CA",
            ),
            (
                {"tls_cert": "a", "tls_key": "b", "transport": "native"},
                "the native transport (pygrpc-native) has no TLS",
            ),
        ],
    )
    def test_settings_that_do_not_go_together_are_refused(self, settings: dict[str, Any], told: str) -> None:
        with pytest.raises(SettingsError) as refused:
            Settings.load(**settings)

        assert told in str(refused.value)


class TestPrincipals:
    def test_whoever_shows_no_certificate_or_anothers_is_not_heard(
        self, secure: Callable[..., Secure], tmp_path: Path
    ) -> None:
        running = secure()
        stranger = Authority(tmp_path, "strangers").sign("stranger", uris=[GATEWAY])

        assert running.refused(running.channel(), running.token("user:alice")).startswith("UNAVAILABLE")
        assert running.refused(running.channel(stranger), running.token("user:alice")).startswith("UNAVAILABLE")

    @pytest.mark.parametrize(
        ("names", "principal"),
        [
            ({"uris": [GATEWAY]}, "service:gateway"),
            ({"uris": ["spiffe://example.org/ns/shop/sa/cart"]}, "service:k8s/shop/sa/cart"),
            ({"dns": ["Auditor.internal"]}, "service:auditor"),
            ({"dns": ["nightly.jobs.internal", "other.internal"]}, "service:jobs/nightly"),
        ],
    )
    def test_a_certificate_that_is_listed_proves_its_principal(
        self, secure: Callable[..., Secure], names: Any, principal: str
    ) -> None:
        running = secure()

        who = running.who(running.channel(running.clients.sign("client", **names)))

        assert who.principal == principal
        assert who.client_certificate
        assert not who.issuer

    @pytest.mark.parametrize(
        "names",
        [
            {"uris": [GATEWAY + "/other"]},
            {"uris": ["spiffe://example.org/ns/"]},
            {"uris": ["spiffe://example.org/ns/../gateway"]},
            {"uris": ["spiffe://example.org/ns/a//b"]},
            {"uris": ["spiffe://example.org/ns/a:b"]},
            {"dns": ["a.b.jobs.internal"]},
            {"dns": ["jobs.internal"]},
            {"dns": ["example.org"]},
            {},
        ],
    )
    def test_one_that_is_not_listed_proves_nobody(self, secure: Callable[..., Secure], names: Any) -> None:
        running = secure()
        channel = running.channel(running.clients.sign("client", **names))

        refused = running.refused(channel)

        assert refused.startswith("UNAUTHENTICATED: no token")
        assert "JIT_TLS_PRINCIPALS" in refused
        assert running.who(channel, running.token("user:alice")).principal == "user:alice"

    def test_roles_and_groups_are_those_of_the_settings(self, secure: Callable[..., Secure]) -> None:
        running = secure()

        gateway = running.who(running.channel(running.clients.sign("client", uris=[GATEWAY])))
        job = running.who(running.channel(running.clients.sign("client", dns=["a.jobs.internal"])))

        assert (list(gateway.roles), list(gateway.groups), gateway.groups_left_out) == (
            ["checker"],
            ["gateways"],
            False,
        )
        assert (list(job.roles), list(job.groups), job.groups_left_out) == ([], [], True)

    def test_one_that_names_two_principals_proves_neither(self, secure: Callable[..., Secure]) -> None:
        running = secure()
        two = running.clients.sign("client", uris=[GATEWAY], dns=["auditor.internal"])

        assert "UNAUTHENTICATED: the client certificate names service:auditor and service:gateway" in running.refused(
            running.channel(two)
        )

    def test_an_authority_in_between_is_as_good(self, secure: Callable[..., Secure], tmp_path: Path) -> None:
        running = secure()
        between = Authority(tmp_path, "between", above=running.clients)

        who = running.who(running.channel(between.sign("client", uris=[GATEWAY])))

        assert who.principal == "service:gateway"


class TestTokenAndCertificate:
    def test_together_they_must_prove_the_same(self, secure: Callable[..., Secure]) -> None:
        running = secure()
        channel = running.channel(running.clients.sign("client", uris=[GATEWAY]))

        same = running.who(channel, running.token("service:gateway", Role.AUDITOR))
        other = running.refused(channel, running.token("user:alice"))

        assert list(same.roles) == ["auditor"]
        assert (same.client_certificate, same.issuer) == (f"uri:{GATEWAY}", running.issuer.issuer().issuer)
        assert other.startswith("UNAUTHENTICATED: the token proves user:alice, but the client certificate uri:")

    def test_a_token_that_does_not_count_is_not_made_good(self, secure: Callable[..., Secure]) -> None:
        running = secure()
        channel = running.channel(running.clients.sign("client", uris=[GATEWAY]))

        assert running.refused(channel, ("authorization", "Bearer x")).startswith("UNAUTHENTICATED")
        assert running.refused(channel, ("authorization", "")).startswith("UNAUTHENTICATED")

    @pytest.mark.parametrize(
        "header", ["x-forwarded-for", "x-envoy-external-address", "forwarded", "x-forwarded-proto"]
    )
    def test_the_certificate_of_a_proxy_proves_none_of_its_callers(
        self, secure: Callable[..., Secure], header: str
    ) -> None:
        running = secure()
        channel = running.channel(running.clients.sign("proxy", uris=[GATEWAY]))

        assert running.refused(channel, (header, "192.0.2.1")).startswith("UNAUTHENTICATED: no token")
        assert running.who(channel, (header, "192.0.2.1"), running.token("user:alice")).principal == "user:alice"

    def test_nor_does_that_of_a_trusted_proxy_whatever_it_sends(self, secure: Callable[..., Secure]) -> None:
        running = secure(trusted_proxies="127.0.0.1")
        channel = running.channel(running.clients.sign("proxy", uris=[GATEWAY]))

        assert running.refused(channel).startswith("UNAUTHENTICATED: no token")
        assert running.who(channel, running.token("user:alice")).principal == "user:alice"


class TestConnectionsThatLast:
    def test_an_authority_that_is_trusted_no_more_ends_what_its_certificates_prove(
        self, secure: Callable[..., Secure], tmp_path: Path
    ) -> None:
        running = secure()
        channel = running.channel(running.clients.sign("client", uris=[GATEWAY]))
        running.who(channel)
        others = Authority(tmp_path, "others")

        running.clients.file.write_bytes(others.file.read_bytes())

        assert running.refused(channel).startswith("UNAUTHENTICATED: none of the authorities in JIT_TLS_CLIENT_CA")
        assert running.who(running.channel(others.sign("other", uris=[GATEWAY]))).principal == "service:gateway"

    def test_a_certificate_proves_nothing_from_its_end_on(self, secure: Callable[..., Secure]) -> None:
        running = secure()
        channel = running.channel(running.clients.sign("client", uris=[GATEWAY]))
        ends_at = running.who(channel).expire_time.ToDatetime(running.clock.now.tzinfo)

        running.clock.now = ends_at - timedelta(microseconds=1)
        still = running.who(channel).principal
        running.clock.now = ends_at

        assert still == "service:gateway"
        assert running.refused(channel) == "UNAUTHENTICATED: the client certificate has expired; connect with a new one"

    def test_a_stream_ends_with_the_certificate(self, secure: Callable[..., Secure]) -> None:
        running = secure()
        channel = running.channel(running.clients.sign("client", uris=[GATEWAY]))
        ends_at = running.who(channel).expire_time.ToDatetime(running.clock.now.tzinfo)
        stream = GrantServiceStub(channel).WatchGrants(WatchGrantsRequest(), timeout=30)
        next(stream)

        running.clock.now = ends_at

        with pytest.raises(grpc.RpcError) as ended:
            for _ in stream:
                pass
        assert ended.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_the_record_says_which_certificate_proved_the_caller(secure: Callable[..., Secure]) -> None:
    running = secure()
    client = running.clients.sign("client", uris=[GATEWAY])
    question = access_pb2.CheckAccessRequest(subject="user:alice", action="read", resource="database/x")
    gateway = AccessServiceStub(running.channel(client))
    # The first call with a proof goes another way than those after it, which are answered in batches.
    for _ in range(2):
        gateway.CheckAccess(question, timeout=10)

    auditor = running.channel(running.clients.sign("auditor", dns=["auditor.internal"]))
    listed = AuditServiceStub(auditor).ListAuditEvents(
        audit_pb2.ListAuditEventsRequest(filter="event_type = ACCESS_CHECKED"), timeout=10
    )

    fingerprint = ssl.PEM_cert_to_DER_cert(client.chain.read_text())
    proofs = {(each.principal, each.client_certificate, each.client_certificate_sha256) for each in listed.audit_events}
    assert len(listed.audit_events) == 2
    assert proofs == {("service:gateway", f"uri:{GATEWAY}", sha256(fingerprint))}


def sha256(data: bytes) -> str:
    import hashlib

    return hashlib.sha256(data).hexdigest()


def speaks(address: Address, newest: ssl.TLSVersion) -> bool:
    """Returns whether a handshake comes about with no newer version than this."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    # OpenSSL by itself would not offer the old versions.
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.set_alpn_protocols(["h2"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, newest
    try:
        with (
            socket.create_connection(("127.0.0.1", address.port), timeout=10) as plain,
            context.wrap_socket(plain) as secure,
        ):
            return secure.version() is not None
    except OSError:
        return False
