"""Sending to a webhook: what is sent, where it may go, and that whatever the receiver does is an answer in time."""

from __future__ import annotations

import base64
import datetime
import logging
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from jit_service.domain.audit.event import Event, EventType, RecordedEvent
from jit_service.domain.notification import Failure, Message
from jit_service.notifications.reach import resolved
from jit_service.notifications.receivers import WebhookReceiver
from jit_service.notifications.webhook import Webhook, signature
from tests.certificates import certificate
from tests.conftest import NOON
from tests.notifications.webhooks import KEY, SECRET, Hook, hook, receiver

BODY = '{"what":"ü"}'.encode()
RECORDED = RecordedEvent(seq=7, hash=bytes(range(32)), event=Event(type=EventType.LOCK_CREATED, at=NOON, principal="x"))
MESSAGE = Message(id="evt_7_0011223344556677", at=NOON, recorded=RECORDED)
SECOND = timedelta(seconds=1)


@pytest.fixture
def there() -> Iterator[Hook]:
    with hook() as running:
        yield running


def webhook(to: WebhookReceiver, **options: Any) -> Webhook:
    return Webhook(to, lambda _: BODY, **options)


def sent(to: WebhookReceiver, *addresses: str) -> Failure | None:
    """Sends the message, the receiver's name leading to the addresses."""
    return webhook(to, resolve=lambda *_: addresses or ("127.0.0.1",)).send(MESSAGE)


def fault(failure: Failure | None) -> str:
    assert failure is not None
    return failure.fault


def test_a_message_arrives_whole_and_signed(there: Hook, tmp_path: Path) -> None:
    assert sent(receiver(tmp_path, there.url)) is None

    (came,) = there.received
    assert (came.path, came.body, came.id) == ("/hook?token=hunter2", BODY, MESSAGE.id)
    assert came.headers["webhook-timestamp"] == str(int(NOON.timestamp()))
    assert came.headers["content-type"] == "application/cloudevents+json; charset=utf-8"
    assert came.headers["host"] == f"127.0.0.1:{there.port}"
    assert came.is_signed_by(KEY)
    assert not came.is_signed_by(KEY[::-1])


def test_the_signature_is_that_of_the_specification() -> None:
    """The example of Standard Webhooks."""

    key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    at = datetime.datetime.fromtimestamp(1614265330, datetime.UTC)

    signed = signature([key], b'{"test": 2432232314}', id_="msg_p5jXN8AQM9LWM0D4loKWxJek", at=at)

    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_while_a_key_is_changed_both_sign(there: Hook, tmp_path: Path) -> None:

    new = bytes(24)
    secret = tmp_path / "two"
    secret.touch(mode=0o600)
    secret.write_text("".join(f"whsec_{base64.b64encode(key).decode()}\n" for key in (new, KEY)))

    assert sent(receiver(tmp_path, there.url, secret_file=str(secret))) is None

    (came,) = there.received
    assert came.is_signed_by(new)
    assert came.is_signed_by(KEY)


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_any_2xx_says_that_it_arrived(there: Hook, tmp_path: Path, status: int) -> None:
    there.status = status

    assert sent(receiver(tmp_path, there.url)) is None


@pytest.mark.parametrize("status", [400, 404, 410, 429, 500, 503])
def test_any_other_answer_is_a_failure_and_410_the_last(there: Hook, tmp_path: Path, status: int) -> None:
    there.status = status

    assert sent(receiver(tmp_path, there.url)) == Failure(f"it answered {status}", final=status == 410)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(there: Hook, tmp_path: Path, status: int) -> None:
    with hook() as elsewhere:
        there.status, there.location = status, elsewhere.url

        failure = sent(receiver(tmp_path, there.url))

        assert f"{status}" in fault(failure)
        assert elsewhere.received == []


@pytest.mark.parametrize("how", ["hangs", "trickles"])
def test_a_receiver_that_is_slow_has_its_timeout_and_no_more(there: Hook, tmp_path: Path, how: str) -> None:
    there.hang()
    there.trickles = how == "trickles"
    began = time.monotonic()

    failure = sent(receiver(tmp_path, there.url, timeout=1))

    assert fault(failure) == "no answer within 1 s"
    assert time.monotonic() - began < 5


def test_an_attempt_ends_when_the_service_does(there: Hook, tmp_path: Path) -> None:
    there.hang()
    hanging = webhook(receiver(tmp_path, there.url, timeout=60))
    answers: list[Failure | None] = []
    sending = threading.Thread(target=lambda: answers.append(hanging.send(MESSAGE)))
    sending.start()
    there.arrivals.get(timeout=10)

    hanging.interrupt()
    sending.join(10)

    assert [fault(answer) for answer in answers] == ["the service stopped"]
    assert fault(hanging.send(MESSAGE)) == "the service stopped"
    assert len(there.received) == 1


def test_an_answer_that_is_not_http_is_a_failure(tmp_path: Path) -> None:
    class Nonsense(BaseHTTPRequestHandler):
        def handle(self) -> None:
            self.rfile.readline()
            self.wfile.write(b"220 mail.example.com ESMTP\r\n")

    server = HTTPServer(("127.0.0.1", 0), Nonsense)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    failure = sent(receiver(tmp_path, f"http://127.0.0.1:{server.server_port}/"))

    server.shutdown()
    server.server_close()
    assert fault(failure) in ("its answer is not HTTP", "the connection failed")


def test_a_closed_port_is_a_failure(tmp_path: Path) -> None:
    with hook() as gone:
        url = gone.url

    assert fault(sent(receiver(tmp_path, url))) == "it refused the connection"


# Where it may go


@pytest.mark.parametrize(
    "literal", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "2002:a9fe:a9fe::", "fe80::1%lo"]
)
def test_a_name_that_leads_inside_is_not_followed_there(tmp_path: Path, literal: str) -> None:
    failure = sent(receiver(tmp_path, "https://hooks.example.com/", allow_private=False), literal)

    assert fault(failure) == f"its name leads to {literal}, where it may not be sent"


def test_one_address_inside_among_others_is_enough(tmp_path: Path) -> None:
    failure = sent(receiver(tmp_path, "https://hooks.example.com/", allow_private=False), "8.8.8.8", "10.0.0.1")

    assert "10.0.0.1" in fault(failure)


@pytest.mark.parametrize("literal", ["169.254.169.254", "0.0.0.0", "64:ff9b::a9fe:a9fe", "224.0.0.1"])  # noqa: S104
def test_private_networks_have_no_metadata_services(tmp_path: Path, literal: str) -> None:
    failure = sent(receiver(tmp_path, "https://hooks.internal/", allow_private=True), literal)

    assert fault(failure) == f"its name leads to {literal}, where it may not be sent"


def test_without_tls_it_does_not_leave_the_machine(tmp_path: Path) -> None:
    failure = sent(receiver(tmp_path, "http://localhost:9/"), "10.0.0.1")

    assert fault(failure) == "its name leads to 10.0.0.1, which is not loopback, without TLS"


def test_a_name_is_resolved_once_and_the_connection_goes_there(there: Hook, tmp_path: Path) -> None:
    """A name that answers with another address the second time leads nowhere else."""
    asked: list[str] = []

    def resolve(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["169.254.169.254"]

    assert webhook(receiver(tmp_path, f"http://localhost:{there.port}/"), resolve=resolve).send(MESSAGE) is None

    assert asked == ["localhost"]
    assert there.received[0].headers["host"] == f"localhost:{there.port}"


def test_an_address_that_refuses_is_followed_by_the_next(there: Hook, tmp_path: Path) -> None:
    url = f"http://localhost:{there.port}/"

    assert sent(receiver(tmp_path, url), "127.0.0.2", "127.0.0.1") is None


@pytest.mark.parametrize("host", ["127.1", "0x7f000001", "2130706433", "localhost"])
def test_other_spellings_of_loopback_are_judged_by_where_they_lead(tmp_path: Path, host: str) -> None:
    to = receiver(tmp_path, f"https://{host}/", allow_private=False)

    assert "where it may not be sent" in fault(webhook(to).send(MESSAGE))


def test_a_name_that_does_not_resolve_is_a_failure(tmp_path: Path) -> None:
    def nowhere(host: str, port: int) -> list[str]:
        raise OSError(f"no address for {host}")

    to = receiver(tmp_path, "https://hooks.example.com/hunter2")

    assert fault(webhook(to, resolve=nowhere).send(MESSAGE)) == "its name does not resolve"
    assert fault(webhook(to, resolve=lambda *_: []).send(MESSAGE)) == "its name does not resolve"


def test_a_proxy_of_the_environment_is_not_used(there: Hook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:1")

    assert sent(receiver(tmp_path, there.url)) is None


def test_a_literal_address_resolves_to_itself() -> None:
    assert resolved("127.0.0.1", 80) == ["127.0.0.1"]


# TLS


class SecureHook:
    """A receiver with TLS."""

    def __init__(self, name: str, directory: Path) -> None:
        self.authority, both = certificate(name, directory)
        self.hosts: list[str] = []
        hosts = self.hosts

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                hosts.append(self.headers["host"])
                self.send_response(204)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                """Says nothing."""

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(both)
        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.server.handle_error = lambda *_: None  # type: ignore[method-assign]
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[SecureHook]:
    running = SecureHook("hooks.internal", tmp_path)
    yield running
    running.server.shutdown()
    running.server.server_close()


def test_the_certificate_is_the_names_though_the_connection_is_to_an_address(
    secure: SecureHook, tmp_path: Path
) -> None:
    to = receiver(tmp_path, f"https://hooks.internal:{secure.port}/", ca_file=str(secure.authority))

    assert sent(to) is None

    assert secure.hosts == [f"hooks.internal:{secure.port}"]


def test_a_certificate_of_another_name_does_not_count(secure: SecureHook, tmp_path: Path) -> None:
    to = receiver(tmp_path, f"https://other.internal:{secure.port}/", ca_file=str(secure.authority))

    assert "certificate is not valid" in fault(sent(to))
    assert secure.hosts == []


def test_a_certificate_of_an_unknown_authority_does_not_count(secure: SecureHook, tmp_path: Path) -> None:
    to = receiver(tmp_path, f"https://hooks.internal:{secure.port}/")

    assert "certificate is not valid" in fault(sent(to))
    assert secure.hosts == []


def test_a_handshake_that_hangs_has_the_timeout_too(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        to = receiver(tmp_path, f"https://localhost:{silent.getsockname()[1]}/", timeout=1)

        assert fault(sent(to)) == "no answer within 1 s"


def test_no_failure_holds_a_secret(there: Hook, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    there.status = 500

    told = [fault(sent(receiver(tmp_path, there.url)))]
    told += [fault(sent(receiver(tmp_path, "https://hooks.example.com/hunter2"), "0.0.0.0"))]  # noqa: S104

    secret = (tmp_path / "secret").read_text().strip()
    everything = " ".join([*told, caplog.text, repr(receiver(tmp_path, there.url))])
    assert "hunter2" not in everything
    assert secret not in everything


def test_a_changed_secret_signs_the_next_message_without_a_restart(tmp_path: Path) -> None:
    with hook() as there:
        to = receiver(tmp_path, there.url)
        sent(to)
        new = bytes(range(1, 33))
        (tmp_path / "secret").write_text(f"whsec_{base64.b64encode(new).decode()}\n{SECRET}\n")
        sent(to)
        (tmp_path / "secret").write_text("hunter2")
        sent(to)

    first, second, third = there.received
    assert (first.is_signed_by(new), first.is_signed_by(KEY)) == (False, True)
    assert (second.is_signed_by(new), second.is_signed_by(KEY)) == (True, True)
    assert third.is_signed_by(new), "a broken content leaves the keys of before"
