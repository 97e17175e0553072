"""Sends messages as mail: plain text and HTML, with one link, by an SMTP server over TLS."""

from __future__ import annotations

import smtplib
import socket
import ssl
from collections.abc import Iterable
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from html import escape
from typing import Final

from jit_service.domain.notification import Failure, Message
from jit_service.notifications.reach import Attempt, NotSent, Place, Reach, Resolve, resolved
from jit_service.notifications.receivers import EmailReceiver, Tls, mailbox
from jit_service.notifications.wording import Notice, notice_of

_STYLE: Final = "font-family:sans-serif;font-size:15px;line-height:1.4;color:#1b1b1b;overflow-wrap:anywhere"
_BUTTON: Final = "display:inline-block;padding:10px 18px;background:#1a56b0;color:#fff;text-decoration:none"


class Mail:
    """Sends by one SMTP server. One thread may call `send`; any thread may call `interrupt`."""

    def __init__(self, receiver: EmailReceiver, *, console: str, resolve: Resolve = resolved) -> None:
        """Raises OSError if the ca_file cannot be loaded."""
        self._receiver = receiver
        self._console = console
        self._reach = Reach(receiver, resolve=resolve)
        self._place = Place(host=receiver.host, port=receiver.smtp_port, encrypted=receiver.tls is not Tls.NONE)
        self.interrupt = self._reach.interrupt

    def send(self, message: Message) -> Failure | None:
        """Sends the mail. Returns None once the server has taken it."""
        try:
            to = mailbox(message.addressee)
        except ValueError:
            return Failure("its addressee has no mail address", final=True)
        mail = mail_of(notice_of(message, self._console), self._receiver, to=to)
        try:
            with self._reach.attempt() as attempt:
                self._hand_over(mail, to, attempt)
        except NotSent as fault:
            return Failure(str(fault))
        except _Refused as refused:
            return Failure(str(refused), final=refused.final)
        return None

    def look_up(self) -> str:
        """Returns what is wrong with where the server's name leads now, or nothing. It sends nothing."""
        try:
            self._reach.addresses(self._place)
        except NotSent as fault:
            return str(fault)
        return ""

    def _hand_over(self, mail: EmailMessage, to: str, attempt: Attempt) -> None:
        """Raises _Refused, NotSent and OSError."""
        session = _Session(self._place, self._reach, attempt, implicit=self._receiver.tls is Tls.IMPLICIT)
        try:
            session.connect(self._place.host, self._place.port)
            if self._receiver.tls is Tls.STARTTLS:
                session.starttls(context=self._reach.tls)
            if self._receiver.user:
                session.login(self._receiver.user, self._receiver.password)
            session.send_message(mail, self._receiver.sender, [to])
        except smtplib.SMTPException as fault:
            # What was cut in the middle is late, whatever the session made of it.
            attempt.left  # noqa: B018
            raise _refusal(fault) from None
        finally:
            session.close()


class _Refused(Exception):
    """The server does not take the mail; the text has codes, and no word of the server's."""

    def __init__(self, fault: str, *, final: bool = False) -> None:
        super().__init__(fault)
        self.final = final


class _Session(smtplib.SMTP):
    """A session over a connection that goes only to addresses that are allowed."""

    def __init__(self, place: Place, reach: Reach, attempt: Attempt, *, implicit: bool) -> None:
        # Without a host, smtplib connects only when it is told to.
        super().__init__(local_hostname=_own_name())
        # For whose certificate STARTTLS asks.
        self._host = place.host
        self._place = place
        self._reach = reach
        self._attempt = attempt
        self._implicit = implicit

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:  # noqa: ARG002
        plain = self._reach.connect(self._place, self._attempt)
        if not self._implicit:
            return plain
        try:
            return self._reach.secure(plain, self._place, self._attempt)
        except BaseException:
            plain.close()
            raise

    def starttls(self, *, context: ssl.SSLContext | None = None) -> tuple[int, bytes]:  # type: ignore[override]
        """Raises _Refused unless everything from here on is encrypted; a server may not do without."""
        try:
            answer = super().starttls(context=context)
        except smtplib.SMTPNotSupportedError:
            raise _Refused("it does not offer STARTTLS") from None
        if not isinstance(self.sock, ssl.SSLSocket):
            raise _Refused(f"it answered {answer[0]} to STARTTLS")
        self._attempt.hold(self.sock)
        return answer


def mail_of(notice: Notice, receiver: EmailReceiver, *, to: str) -> EmailMessage:
    """Returns the mail. The same notification has the same Message-ID; those about one grant are one thread."""
    domain = receiver.sender.rpartition("@")[2]
    mail = EmailMessage(policy=SMTP)
    mail["From"] = Address(receiver.sender_name, addr_spec=receiver.sender)
    mail["To"] = Address(addr_spec=to)
    mail["Subject"] = notice.title
    mail["Date"] = format_datetime(notice.at)
    mail["Message-ID"] = f"<{notice.id}@{domain}>"
    mail["References"] = f"<{_token(notice.about)}@{domain}>"
    mail["List-Unsubscribe"] = f"<{receiver.unsubscribe or f'mailto:{receiver.sender}?subject=unsubscribe'}>"
    mail["List-Id"] = f"<{receiver.name}.jit.{domain}>"
    # So that nobody's absence answers it (RFC 3834).
    mail["Auto-Submitted"] = "auto-generated"
    mail["X-Auto-Response-Suppress"] = "All"
    mail.set_content(text_of(notice), cte="quoted-printable")
    mail.add_alternative(html_of(notice), subtype="html", cte="quoted-printable")
    return mail


def text_of(notice: Notice) -> str:
    """Returns the plain text of the mail."""
    width = max((len(label) for label, _ in notice.facts), default=0)
    lines = [notice.title, ""]
    lines += [f"{label + ':':<{width + 1}} {value}" for label, value in notice.facts]
    if notice.words:
        lines += ["", f"{notice.words_label}:", *(f"> {line}" for line in notice.words.split("\n"))]
    lines += ["", "Open in the console:", notice.link, "", "This mail decides nothing; do not reply to it.", ""]
    return "\n".join(lines)


def html_of(notice: Notice) -> str:
    """Returns the HTML of the mail: no image, no script, nothing from elsewhere, and one link."""
    rows = "".join(
        f'<tr><th scope="row" align="left" style="padding:2px 16px 2px 0">{escape(label)}</th>'
        f"<td>{escape(value)}</td></tr>"
        for label, value in notice.facts
    )
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{escape(notice.title)}</title></head>"
        f'<body style="{_STYLE}"><h1 style="font-size:18px">{escape(notice.title)}</h1>'
        f"<table>{rows}</table>{_quote(notice)}"
        f'<p><a style="{_BUTTON}" href="{escape(notice.link)}">Open in the console</a></p>'
        "<p>This mail decides nothing; do not reply to it.</p></body></html>\n"
    )


def _quote(notice: Notice) -> str:
    if not notice.words:
        return ""
    lines = "<br>".join(escape(line) for line in notice.words.split("\n"))
    return f'<p><b>{escape(notice.words_label)}</b></p><blockquote dir="auto">{lines}</blockquote>'


def _refusal(fault: smtplib.SMTPException) -> _Refused:
    if isinstance(fault, smtplib.SMTPRecipientsRefused):
        codes = [code for code, _ in fault.recipients.values()]
        return _Refused(f"it answered {_codes(codes)} to the addressee", final=all(code >= 500 for code in codes))
    if isinstance(fault, smtplib.SMTPAuthenticationError):
        return _Refused(f"it answered {fault.smtp_code}: it does not know the user and password")
    if isinstance(fault, smtplib.SMTPDataError):
        return _Refused(f"it answered {fault.smtp_code} to the mail", final=fault.smtp_code >= 500)
    if isinstance(fault, smtplib.SMTPResponseException):
        return _Refused(f"it answered {fault.smtp_code}")
    if isinstance(fault, smtplib.SMTPServerDisconnected):
        return _Refused("the connection failed")
    return _Refused("it does not offer what is needed to authenticate")


def _codes(codes: Iterable[int]) -> str:
    return ", ".join(sorted({str(code) for code in codes}))


def _token(about: str) -> str:
    """Returns the name as a part of a Message-ID."""
    return "".join(character if character.isalnum() and character.isascii() else "." for character in about).strip(".")


def _own_name() -> str:
    """Returns what the service calls itself to the server, without asking the network for its name."""
    name = socket.gethostname()
    return name if "." in name and name.isascii() else "[127.0.0.1]"
