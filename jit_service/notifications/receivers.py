"""The kinds of receivers in the settings: webhook, email, slack and teams."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Discriminator, Field, PrivateAttr, Tag, field_validator, model_validator

from jit_service.configuration.fresh_file import FreshFile
from jit_service.notifications.receiver import Receiver, demand_url, secret_lines, token_in
from jit_service.notifications.template import Template, read_template

KEY_BYTES: Final = (24, 64)
"""The shortest and the longest key (Standard Webhooks)."""
_PREFIX: Final = "whsec_"
_ADDRESS: Final = re.compile(
    r"(?=.{3,254}$)[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*"
    r"@[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*"
)
_SLACK_ADDRESS: Final = re.compile(r"[CGDUW][A-Z0-9]{2,20}|#[^\s,<>&|]{1,80}")
_HOST: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?|[0-9a-fA-F:.]{2,45}")
_ROUTING_KEY: Final = re.compile(r"[A-Za-z0-9]{32}")


class Format(StrEnum):
    """Whose body a webhook's messages have."""

    CLOUDEVENTS = "cloudevents"
    PAGERDUTY = "pagerduty"
    NTFY = "ntfy"


class Tls(StrEnum):
    """How the way to an SMTP server is encrypted: from the start, by STARTTLS, or not at all (on loopback only)."""

    IMPLICIT = "implicit"
    STARTTLS = "starttls"
    NONE = "none"


class WebhookReceiver(Receiver):
    """A webhook.

    `secret_file` holds `whsec_` and the base64 of 24 to 64 bytes; more lines hold more keys, each of which signs, so
    that a key can be changed without a gap. `token_file` holds what a format authenticates with: PagerDuty's routing
    key, else a bearer token. The body is a CloudEvent, or as `format` says, or made from the file `template`. The URL
    may hold a secret, so it is in no log and no error.
    """

    kind: Literal["webhook"] = "webhook"
    url: str = Field(repr=False)
    secret_file: Path | None = None
    token_file: Path | None = None
    format: Format = Format.CLOUDEVENTS
    template: Path | None = None

    _keys: FreshFile[tuple[bytes, ...]] | None = PrivateAttr(default=None)
    _token: FreshFile[str] | None = PrivateAttr(default=None)
    _template: FreshFile[Template] | None = PrivateAttr(default=None)

    @property
    def keys(self) -> tuple[bytes, ...]:
        """The keys that sign now, the newest first: those of the file, which is read anew after a change."""
        return self._keys.content() if self._keys is not None else ()

    @property
    def token(self) -> str:
        """What the receiver knows the service by; empty where there is no such file."""
        return self._token.content() if self._token is not None else ""

    @property
    def own_template(self) -> Template | None:
        """The template of its messages, if it has one of its own."""
        return self._template.content() if self._template is not None else None

    @field_validator("url")
    @classmethod
    def _sendable(cls, url: str) -> str:
        demand_url(url)
        return url

    @model_validator(mode="after")
    def _readable(self) -> Self:
        parts = demand_url(self.url)
        self.demand_reachable(parts.hostname or "", field="url", encrypted=parts.scheme == "https")
        own_body = self.template is not None or self.format is not Format.CLOUDEVENTS
        if self.template is not None and self.format is not Format.CLOUDEVENTS:
            raise ValueError("format and template exclude each other")
        if self.secret_file is None and not own_body:
            raise ValueError("secret_file: is missing; CloudEvents are signed")
        if self.format is Format.PAGERDUTY and self.token_file is None:
            raise ValueError("token_file: is missing; it holds PagerDuty's routing key")
        if self.format is Format.NTFY and not parts.path.strip("/"):
            raise ValueError("url: must end with the topic, such as https://ntfy.sh/TOPIC")
        if self.secret_file is not None:
            self._keys = FreshFile(self.secret_file, _keys_of)
        if self.token_file is not None:
            read = _routing_key if self.format is Format.PAGERDUTY else token_in("token_file")
            self._token = FreshFile(self.token_file, read)
        if self.template is not None:
            self._template = FreshFile(self.template, read_template)
        return self


class EmailReceiver(Receiver):
    """Mail by an SMTP server.

    `to` are addresses, or principals whose name is one (`user:alice@example.com`). `user` and `password_file`
    authenticate, where the server wants that. `unsubscribe` is what List-Unsubscribe names; by default mail to `from`.
    """

    kind: Literal["email"]
    host: str
    port: int | None = Field(default=None, ge=1, le=65535)
    tls: Tls = Tls.STARTTLS
    sender: str = Field(alias="from")
    sender_name: str = Field(default="", max_length=100, alias="from_name")
    to: tuple[str, ...] = ()
    user: str = Field(default="", max_length=320)
    password_file: Path | None = None
    unsubscribe: str = ""

    _password: FreshFile[str] | None = PrivateAttr(default=None)

    @property
    def password(self) -> str:
        """The password of `user` now; empty where there is none."""
        return self._password.content() if self._password is not None else ""

    @property
    def smtp_port(self) -> int:
        """The port: by default 465 for implicit TLS, 587 for STARTTLS and 25 without TLS."""
        return self.port or {Tls.IMPLICIT: 465, Tls.STARTTLS: 587, Tls.NONE: 25}[self.tls]

    @property
    def addressees(self) -> tuple[str, ...]:
        """The addresses, each once."""
        return tuple(dict.fromkeys(map(mailbox, self.to)))

    @field_validator("host")
    @classmethod
    def _named(cls, host: str) -> str:
        if not _HOST.fullmatch(host):
            raise ValueError("must be the name or address of an SMTP server, without a port")
        return host

    @field_validator("sender")
    @classmethod
    def _from_somebody(cls, address: str) -> str:
        return mailbox(address)

    @field_validator("sender_name")
    @classmethod
    def _one_line(cls, text: str) -> str:
        if not text.isprintable():
            raise ValueError("must be one line of printable characters")
        return text

    @field_validator("to")
    @classmethod
    def _to_somebody(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        for address in given:
            mailbox(address)
        return given

    @field_validator("unsubscribe")
    @classmethod
    def _way_out(cls, url: str) -> str:
        if url and not re.fullmatch(r"(?:mailto:|https://)[!-;=?-~]{3,500}", url):
            raise ValueError("must be mailto:ADDRESS or an https URL")
        return url

    @model_validator(mode="after")
    def _readable(self) -> Self:
        self.demand_reachable(self.host, field="host", encrypted=self.tls is not Tls.NONE)
        if bool(self.user) != (self.password_file is not None):
            raise ValueError("user and password_file belong together: one of them is missing")
        if not self.user.isascii() or not self.user.isprintable():
            raise ValueError("user: must be printable ASCII")
        if self.password_file is not None:
            self._password = FreshFile(self.password_file, token_in("password_file", "the password"))
        return self


class SlackReceiver(Receiver):
    """Slack, by a bot's token (`token_file`, `to`) or by an incoming webhook (`url_file`), which has its channel.

    `to` are ids of channels or people, `#NAME`, or mail addresses of people, which need the scope `users:read.email`.
    """

    kind: Literal["slack"]
    token_file: Path | None = None
    url_file: Path | None = None
    to: tuple[str, ...] = ()
    api_url: str = "https://slack.com/api/"

    _token: FreshFile[str] | None = PrivateAttr(default=None)
    _url: FreshFile[str] | None = PrivateAttr(default=None)

    @property
    def token(self) -> str:
        """The bot's token now; empty for an incoming webhook."""
        return self._token.content() if self._token is not None else ""

    @property
    def url(self) -> str:
        """The incoming webhook's URL now, which is a secret; empty for a bot."""
        return self._url.content() if self._url is not None else ""

    @property
    def addressees(self) -> tuple[str, ...]:
        """The channels and people, or the webhook itself."""
        return ("",) if self.url_file is not None else tuple(dict.fromkeys(self.to))

    @field_validator("to")
    @classmethod
    def _to_somebody(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        for address in given:
            slack_address(address)
        return given

    @model_validator(mode="after")
    def _readable(self) -> Self:
        parts = demand_url(self.api_url)
        self.demand_reachable(parts.hostname or "", field="api_url", encrypted=parts.scheme == "https")
        if (self.token_file is None) == (self.url_file is None):
            raise ValueError("needs token_file (a bot) or url_file (an incoming webhook), and not both")
        if self.url_file is not None and self.to:
            raise ValueError("to: an incoming webhook has its channel already; use a bot's token_file for others")
        if self.token_file is not None:
            self._token = FreshFile(self.token_file, token_in("token_file", "the bot's token"))
        if self.url_file is not None:
            self._url = FreshFile(self.url_file, _url_in(self))
        return self


class TeamsReceiver(Receiver):
    """Microsoft Teams, by the webhook of a workflow. Its URL is a secret, so it is in `url_file`."""

    kind: Literal["teams"]
    url_file: Path

    _url: FreshFile[str] = PrivateAttr()

    @property
    def url(self) -> str:
        """The workflow's URL now, which is a secret."""
        return self._url.content()

    @model_validator(mode="after")
    def _readable(self) -> Self:
        self._url = FreshFile(self.url_file, _url_in(self))
        return self


def _kind_of(given: Any) -> str:
    if isinstance(given, Receiver):
        return str(getattr(given, "kind", ""))
    return str(given.get("kind", "webhook")) if isinstance(given, dict) else "webhook"


AnyReceiver = Annotated[
    Annotated[WebhookReceiver, Tag("webhook")]
    | Annotated[EmailReceiver, Tag("email")]
    | Annotated[SlackReceiver, Tag("slack")]
    | Annotated[TeamsReceiver, Tag("teams")],
    Discriminator(_kind_of),
]


def mailbox(addressee: str) -> str:
    """Returns the mail address of an addressee: its own, or a principal's whose name is one. Raises ValueError."""
    address = addressee.removeprefix("user:")
    if not _ADDRESS.fullmatch(address):
        raise ValueError("must be a mail address such as alice@example.com, in ASCII")
    return address


def slack_address(addressee: str) -> str:
    """Returns where Slack is to post, or the mail address by which it finds the person. Raises ValueError."""
    if _SLACK_ADDRESS.fullmatch(addressee):
        return addressee
    try:
        return mailbox(addressee)
    except ValueError:
        raise ValueError(
            "must be a channel's or person's id (C…, U…), #NAME, or a mail address of somebody in the workspace"
        ) from None


def _url_in(receiver: Receiver) -> Callable[[Path], str]:
    read = token_in("url_file", "the webhook's URL")

    def url_of(path: Path) -> str:
        url = read(path)
        try:
            parts = demand_url(url)
        except ValueError as fault:
            raise ValueError(f"url_file: what {path} holds {fault}") from None
        receiver.demand_reachable(parts.hostname or "", field="url_file", encrypted=parts.scheme == "https")
        return url

    return url_of


def _routing_key(path: Path) -> str:
    key = token_in("token_file", "PagerDuty's routing key")(path)
    if not _ROUTING_KEY.fullmatch(key):
        raise ValueError(f"token_file: {path} must hold PagerDuty's routing key, 32 letters and digits")
    return key


def _keys_of(path: Path) -> tuple[bytes, ...]:
    return tuple(_key(line, path) for line in secret_lines(path, "secret_file"))


def _key(line: str, path: Path) -> bytes:
    shortest, longest = KEY_BYTES
    wrong = f"secret_file: {path} must hold {_PREFIX} and the base64 of {shortest} to {longest} bytes"
    try:
        key = base64.b64decode(line.removeprefix(_PREFIX), validate=True)
    except binascii.Error:
        raise ValueError(wrong) from None
    if not line.startswith(_PREFIX) or not shortest <= len(key) <= longest:
        raise ValueError(wrong)
    return key


__all__ = ["AnyReceiver", "EmailReceiver", "SlackReceiver", "TeamsReceiver", "WebhookReceiver"]
