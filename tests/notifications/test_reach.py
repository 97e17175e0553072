"""Ways to receivers: an explicit proxy, which gets the checked address, and Retry-After."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from jit_service.domain.notification import Failure
from jit_service.notifications.http_post import wait_of
from jit_service.notifications.mail import Mail
from jit_service.notifications.receivers import WebhookReceiver
from jit_service.notifications.webhook import Webhook
from tests.certificates import certificate
from tests.conftest import NOON
from tests.notifications.chat import secret_file
from tests.notifications.mail_server import mail_server
from tests.notifications.proxy import Proxy, proxy
from tests.notifications.test_mail import receiver as mail_receiver
from tests.notifications.test_webhook import SecureHook
from tests.notifications.told import CONSOLE, asked
from tests.notifications.webhooks import receiver


@pytest.fixture
def between() -> Iterator[Proxy]:
    with proxy() as running:
        yield running


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[SecureHook]:
    running = SecureHook("hooks.internal", tmp_path)
    yield running
    running.server.shutdown()
    running.server.server_close()


def by(between: Proxy, directory: Path, **changes: Any) -> WebhookReceiver:
    facts = {"proxy": f"http://127.0.0.1:{between.port}", "ca_file": str(directory / "ca.pem")}
    return receiver(directory, "https://hooks.internal/x", **(facts | changes))


def sent(to: WebhookReceiver, *addresses: str) -> Failure | None:
    """Sends, the receiver's name leading to the addresses, and the proxy being where it says."""

    def resolve(host: str, port: int) -> list[str]:
        return ["127.0.0.1"] if host == "127.0.0.1" else list(addresses)

    return Webhook(to, lambda _: b"{}", resolve=resolve).send(asked())


def test_the_proxy_is_asked_for_the_checked_address_and_tls_is_with_the_name(
    between: Proxy, secure: SecureHook, tmp_path: Path
) -> None:
    between.leads_to = secure.port

    assert sent(by(between, tmp_path), "10.0.0.1") is None

    assert secure.hosts == ["hooks.internal"]
    assert [asked.splitlines()[0] for asked in between.asked] == ["CONNECT 10.0.0.1:443 HTTP/1.1"]


def test_an_address_that_is_not_allowed_is_not_asked_of_the_proxy(between: Proxy, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes(certificate("x", tmp_path)[0].read_bytes())

    for literal in ("169.254.169.254", "0.0.0.0"):  # noqa: S104
        outcome = sent(by(between, tmp_path), literal)
        assert outcome == Failure(f"its name leads to {literal}, where it may not be sent")

    assert between.asked == []


def test_a_proxy_that_resolves_gets_the_name_and_the_password(
    between: Proxy, secure: SecureHook, tmp_path: Path
) -> None:
    between.leads_to = secure.port
    credentials = secret_file(tmp_path, "jit:hunter2", "proxy")

    assert sent(by(between, tmp_path, proxy_resolves=True, proxy_credentials_file=credentials)) is None

    (asked,) = between.asked
    assert asked.startswith("CONNECT hooks.internal:443 HTTP/1.1\r\n")
    assert f"Proxy-Authorization: Basic {base64.b64encode(b'jit:hunter2').decode()}\r\n" in asked


@pytest.mark.parametrize(
    ("answer", "told"),
    [(b"HTTP/1.1 407 hunter2", "its proxy answered 407"), (b"220 hunter2 ESMTP", "its proxy's answer is not HTTP")],
)
def test_what_the_proxy_refuses_is_told_by_its_status(
    between: Proxy, secure: SecureHook, tmp_path: Path, answer: bytes, told: str
) -> None:
    between.answer = answer

    assert sent(by(between, tmp_path), "10.0.0.1") == Failure(told)


def test_a_proxy_is_never_the_way_to_a_clouds_metadata(tmp_path: Path) -> None:
    certificate("x", tmp_path)
    to = receiver(
        tmp_path, "https://hooks.example.com/x", proxy="http://169.254.169.254:80", ca_file=str(tmp_path / "ca.pem")
    )

    outcome = Webhook(to, lambda _: b"{}", resolve=lambda host, _: [host.replace("hooks.example.com", "8.8.8.8")])

    assert outcome.send(asked()) == Failure("its proxy's name leads to 169.254.169.254, where it may not be sent")


def test_mail_goes_through_a_proxy_too(between: Proxy, tmp_path: Path) -> None:
    """The server speaks first, and none of its words may stay with the proxy's answer."""
    authority, both = certificate("mail.internal", tmp_path)
    with mail_server(both) as there:
        between.leads_to = there.port
        to = mail_receiver(
            587, tls="starttls", host="mail.internal", ca_file=str(authority), proxy=f"http://127.0.0.1:{between.port}"
        )

        assert (
            Mail(to, console=CONSOLE, resolve=lambda *_: ["127.0.0.1"]).send(asked(addressee="b@example.com")) is None
        )

    assert there.encrypted == [True]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30", 30),
        (" 0 ", 0),
        ("Mon, 02 Mar 2026 12:01:30 GMT", 90),
        ("Mon, 02 Mar 2026 11:00:00 GMT", 0),
        ("9" * 40, 999_999_999),
        *((text, 0) for text in ("", "soon", "-5", "1.5", "٣", "Mon, 99 Mar 2026 12:01:30 GMT")),
    ],
)
def test_retry_after_is_seconds_or_a_date(text: str, seconds: int) -> None:
    assert wait_of(text, NOON) == timedelta(seconds=seconds)
