"""Mail: what a person gets, that nothing goes without TLS, and that what people wrote stays text."""

from __future__ import annotations

import logging
import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jit_service.domain.notification import Failure, Message
from jit_service.notifications.mail import Mail
from jit_service.notifications.receivers import EmailReceiver
from tests.certificates import certificate
from tests.conftest import HOUR, NOON
from tests.notifications.mail_server import PASSWORD, USER, MailServer, mail_server
from tests.notifications.told import CONSOLE, HOSTILE, LINK, NAME, asked, decided

TO = "bob@example.com"


@pytest.fixture
def there() -> Iterator[MailServer]:
    """A server without TLS, on loopback."""
    with mail_server() as running:
        yield running


def receiver(port: int, **changes: Any) -> EmailReceiver:
    facts: dict[str, Any] = {
        "kind": "email",
        "name": "mail",
        "host": "127.0.0.1",
        "port": port,
        "tls": "none",
        "from": "jit@example.com",
        "from_name": "Access requests",
        "to": [TO],
        "allow_private": True,
    }
    return EmailReceiver.model_validate(facts | changes)


def sent(to: EmailReceiver, message: Message | None = None, *addresses: str) -> Failure | None:
    mail = Mail(to, console=CONSOLE, resolve=lambda *_: addresses or ("127.0.0.1",))
    return mail.send(message or asked(addressee=TO))


def fault(failure: Failure | None) -> str:
    assert failure is not None
    return failure.fault


# What comes


def test_a_reviewer_gets_a_mail_with_everything_and_one_link(there: MailServer) -> None:
    assert sent(receiver(there.port)) is None

    (mail,) = there.mails
    assert there.recipients == [TO]
    assert mail["subject"] == "alice@example.com asks for read on database/orders/eu"
    assert mail["from"] == "Access requests <jit@example.com>"
    assert mail["to"] == TO
    text, html = parts_of(mail)
    for said in ("the invoices are wrong", "OPS-7", "database/orders/eu", "the owners of orders", "1h", LINK):
        assert said in text
        assert said in html
    assert re.findall(r"[a-z]+://\S+", text) == [LINK]
    assert re.findall(r'href="([^"]*)"', html) == [LINK]


def parts_of(mail: Any) -> tuple[str, str]:
    assert mail.get_content_type() == "multipart/alternative"
    assert mail.defects == []
    text, html = mail.iter_parts()
    assert (text.get_content_type(), html.get_content_type()) == ("text/plain", "text/html")
    return text.get_content(), html.get_content()


def test_the_headers_say_how_to_unsubscribe_and_that_nobody_shall_answer(there: MailServer) -> None:
    sent(receiver(there.port))
    sent(receiver(there.port, unsubscribe="https://wiki.example.com/jit-mail"))

    first, second = there.mails
    assert first["list-unsubscribe"] == "<mailto:jit@example.com?subject=unsubscribe>"
    assert second["list-unsubscribe"] == "<https://wiki.example.com/jit-mail>"
    assert first["auto-submitted"] == "auto-generated"


def test_mails_about_one_grant_are_a_thread_and_one_that_comes_twice_is_known_by_its_id(there: MailServer) -> None:
    for message in (asked(addressee=TO), asked(addressee=TO), decided(addressee=TO)):
        sent(receiver(there.port), message)

    first, again, second = there.mails
    assert first["message-id"] == again["message-id"] != second["message-id"]
    assert first["references"] == second["references"] == f"<{NAME.replace('/', '.').replace('-', '.')}@example.com>"


def test_a_request_that_was_decided_meanwhile_says_so(there: MailServer) -> None:
    late = asked(addressee=TO, grant=decided().grant, at=NOON + HOUR / 2)

    sent(receiver(there.port), late)

    (mail,) = there.mails
    assert mail["subject"] == "alice@example.com had asked for read on database/orders/eu; it is ACTIVE by now"
    text, _ = parts_of(mail)
    assert re.search(r"Now: +ACTIVE", text)
    assert re.search(r"Approved by: +bob@example.com", text)


def test_a_principal_whose_name_is_an_address_gets_it_there(there: MailServer) -> None:
    assert sent(receiver(there.port), asked(addressee="user:carol@example.com")) is None

    assert there.recipients == ["carol@example.com"]


# What people wrote


def test_a_hostile_justification_stays_text(there: MailServer) -> None:
    sent(receiver(there.port), asked(HOSTILE, addressee=TO))

    (mail,) = there.mails
    text, html = parts_of(mail)
    assert there.recipients == [TO]
    assert mail["bcc"] is None
    assert "<img" not in html
    assert html.count("</body>") == 1
    assert "\\u202e" in text
    assert not re.search("[\x00\x1b\u202e]", text + html)
    assert re.findall(r"[a-z]+://\S+", text) == [LINK]
    assert "www.evil" not in text + html
    assert re.findall(r'(?:href|src)="([^"]*)"', html) == [LINK]


def test_no_header_has_a_second_line_from_a_name(there: MailServer) -> None:
    hostile = asked(addressee=TO)
    said = hostile.recorded.event
    told = replace(hostile.recorded, event=replace(said, resources=("database/x\r\nBcc: eve@evil.example",)))

    assert sent(receiver(there.port), replace(hostile, recorded=told)) is None

    (mail,) = there.mails
    assert mail["bcc"] is None
    assert "Bcc" in mail["subject"]


def test_a_justification_of_4096_characters_is_cut_visibly(there: MailServer) -> None:
    sent(receiver(there.port), asked("x" * 4096, addressee=TO))

    text, _ = parts_of(there.mails[0])
    assert "(shortened)" in text
    assert len(text) < 4000


# TLS


@pytest.fixture
def chain(tmp_path: Path) -> tuple[Path, Path]:
    return certificate("mail.internal", tmp_path)


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
def test_a_mail_goes_over_tls_and_with_the_password(tmp_path: Path, chain: tuple[Path, Path], tls: str) -> None:
    authority, both = chain
    with mail_server(both, implicit=tls == "implicit", login=True) as there:
        to = receiver(there.port, tls=tls, host="mail.internal", ca_file=str(authority), **credentials(tmp_path))

        assert sent(to) is None

    assert there.encrypted == [True]
    assert there.recipients == [TO]
    assert there.logins != []


def credentials(directory: Path, password: str = PASSWORD) -> dict[str, str]:
    path = directory / "password"
    path.touch(mode=0o600)
    path.write_text(password + "\n")
    return {"user": USER, "password_file": str(path)}


def test_a_server_that_does_not_offer_starttls_gets_nothing(there: MailServer, tmp_path: Path) -> None:
    """Who stands in between could leave the offer out."""
    to = receiver(there.port, tls="starttls", **credentials(tmp_path))

    assert fault(sent(to)) == "it does not offer STARTTLS"
    assert there.raw == there.logins == []


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
def test_a_certificate_of_another_name_does_not_count(chain: tuple[Path, Path], tls: str) -> None:
    authority, both = chain
    with mail_server(both, implicit=tls == "implicit") as there:
        to = receiver(there.port, tls=tls, host="other.internal", ca_file=str(authority))

        assert "certificate is not valid" in fault(sent(to))

    assert there.raw == []


def test_without_tls_nothing_leaves_the_machine() -> None:
    assert fault(sent(receiver(25, host="localhost"), None, "10.0.0.1")) == (
        "its name leads to 10.0.0.1, which is not loopback, without TLS"
    )


@pytest.mark.parametrize("literal", ["169.254.169.254", "10.0.0.1", "::1"])
def test_a_server_is_looked_for_only_where_it_may_be(literal: str) -> None:
    to = receiver(587, tls="starttls", host="mail.example.com", allow_private=False)

    assert fault(sent(to, None, literal)) == f"its name leads to {literal}, where it may not be sent"


# Answers


@pytest.mark.parametrize(("answer", "final"), [("550 no such user", True), ("450 full, try later", False)])
def test_an_addressee_that_is_refused_is_given_up_if_it_is_for_good(
    there: MailServer, answer: str, final: bool
) -> None:
    there.refuses[TO] = answer

    assert sent(receiver(there.port)) == Failure(f"it answered {answer[:3]} to the addressee", final=final)


@pytest.mark.parametrize(("answer", "final"), [("554 spam hunter2", True), ("451 greylisted", False)])
def test_a_mail_that_is_refused_is_told_by_its_code(there: MailServer, answer: str, final: bool) -> None:
    there.answer = answer

    assert sent(receiver(there.port)) == Failure(f"it answered {answer[:3]} to the mail", final=final)


def test_a_wrong_password_is_told_and_a_right_one_is_taken_without_a_restart(
    tmp_path: Path, chain: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    authority, both = chain
    with mail_server(both, login=True) as there:
        given = credentials(tmp_path, "hunter2-wrong")
        to = receiver(there.port, tls="starttls", host="mail.internal", ca_file=str(authority), **given)
        refused = sent(to)
        (tmp_path / "password").write_text(PASSWORD)

        assert sent(to) is None

    assert fault(refused) == "it answered 535: it does not know the user and password"
    assert refused == Failure(fault(refused), final=False)
    told = [record.getMessage() for record in caplog.records if record.name.startswith("jit_service")]
    assert "hunter2" not in " ".join([*told, fault(refused), repr(to)])


def test_a_server_that_hangs_has_its_timeout_and_no_more() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        to = receiver(silent.getsockname()[1], timeout=1)

        assert fault(sent(to)) == "no answer within 1 s"


def test_an_attempt_ends_when_the_service_does() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        mail = Mail(receiver(silent.getsockname()[1], timeout=60), console=CONSOLE)
        answers: list[Failure | None] = []
        sending = threading.Thread(target=lambda: answers.append(mail.send(asked(addressee=TO))))
        sending.start()
        connection, _ = silent.accept()

        mail.interrupt()
        sending.join(10)
        connection.close()

    assert [fault(answer) for answer in answers] == ["the service stopped"]


def test_a_server_that_is_away_is_a_failure(there: MailServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]

    assert fault(sent(receiver(port))) == "it refused the connection"


def test_nobody_without_an_address_is_written_to(there: MailServer) -> None:
    for addressee in ("", "service:build-bot", "bob@example.com\r\nBcc: eve@evil.example", "a@b@c"):
        assert fault(sent(receiver(there.port), asked(addressee=addressee))) == "its addressee has no mail address"

    assert there.raw == []
