"""What all kinds of receivers have in the settings: a name, their events, their retries, and where they may be."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final, Self, TypeVar
from urllib.parse import SplitResult, urlsplit

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, field_validator, model_validator

from jit_service.configuration.forms import Span
from jit_service.configuration.fresh_file import FreshFile
from jit_service.configuration.secret_file import ascii_in
from jit_service.domain.language import ip_address
from jit_service.domain.notification import DEFAULT_EVENTS, Retries, Subscription, interests

_URL: Final = re.compile(r"[\x21-\x7e]{1,2048}")
_SECRET: Final = re.compile(r"[\x21-\x7e]{1,4096}")
_Wait = Annotated[Span, Field(ge=timedelta(seconds=1), le=timedelta(days=1))]
T = TypeVar("T")


@dataclass(frozen=True)
class Proxy:
    """An HTTP proxy, which is asked by CONNECT."""

    host: str
    port: int


class Receiver(BaseModel):
    """A receiver of any kind.

    `events` are `TYPE`, `TYPE:STATE` or `*`. `to` are the addressees, in the form of the receiver's kind. With a
    `proxy` the service asks that for the address that it has checked; with `proxy_resolves` it gives it the name, and
    the proxy has to guard where that leads. Secrets are in files, which are read anew after a change.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: str = Field(
        pattern=r"^[a-z][a-z0-9-]{0,62}$",
        json_schema_extra={"form": "at most 63 of a-z, 0-9 and hyphens, with a letter first"},
    )
    events: tuple[str, ...] = DEFAULT_EVENTS
    timeout: Annotated[Span, Field(ge=timedelta(seconds=1), le=timedelta(minutes=1))] = timedelta(seconds=10)
    attempts: int = Field(default=Retries.attempts, ge=1, le=100)
    first_retry: _Wait = Retries.first
    longest_retry: _Wait = Retries.longest
    allow_private: bool = False
    ca_file: Path | None = None
    proxy_url: str = Field(default="", alias="proxy", repr=False)
    proxy_credentials_file: Path | None = None
    proxy_resolves: bool = False

    _proxy_credentials: FreshFile[bytes] | None = PrivateAttr(default=None)

    @property
    def subscription(self) -> Subscription:
        """The events that it receives, and its addressees."""
        return Subscription(receiver=self.name, interests=interests(self.events), addressees=self.addressees)

    @property
    def addressees(self) -> tuple[str, ...]:
        """Whom it tells; the empty addressee is the receiver itself."""
        return ("",)

    @property
    def retries(self) -> Retries:
        """How often and how long a notification is retried."""
        return Retries(attempts=self.attempts, first=self.first_retry, longest=self.longest_retry)

    @property
    def proxy(self) -> Proxy | None:
        """The proxy that it is reached by, if there is one."""
        if not self.proxy_url:
            return None
        parts = urlsplit(self.proxy_url)
        return Proxy(host=parts.hostname or "", port=parts.port or 3128)

    @property
    def proxy_credentials(self) -> bytes:
        """USER:PASSWORD for the proxy, or nothing."""
        return self._proxy_credentials.content() if self._proxy_credentials is not None else b""

    @field_validator("events")
    @classmethod
    def _known(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        interests(given)
        return given

    @field_validator("proxy_url")
    @classmethod
    def _plain_proxy(cls, url: str) -> str:
        if not url:
            return url
        parts = urlsplit(url) if _URL.fullmatch(url) else None
        if parts is None or parts.scheme != "http" or not parts.hostname or parts.path.strip("/") or parts.query:
            raise ValueError("must be http://HOST:PORT")
        if parts.username is not None or parts.password is not None:
            raise ValueError("must have no user and password; put USER:PASSWORD into proxy_credentials_file")
        demand_port(parts)
        return url

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.longest_retry < self.first_retry:
            raise ValueError("longest_retry must be at least first_retry")
        if (self.proxy_credentials_file is not None or self.proxy_resolves) and not self.proxy_url:
            raise ValueError("proxy is missing, and proxy_credentials_file or proxy_resolves is given")
        if self.proxy_credentials_file is not None:
            self._proxy_credentials = FreshFile(self.proxy_credentials_file, credentials_in("proxy_credentials_file"))
        return self

    def demand_reachable(self, host: str, *, field: str, encrypted: bool) -> None:
        """Raises ValueError if no message may ever go to the host. What a name leads to is judged at each attempt."""
        if not encrypted and not names_loopback(host):
            raise ValueError(f"{field}: must be encrypted, unless its host is localhost or a loopback address")
        if not encrypted and self.proxy_url:
            raise ValueError(f"{field}: must be encrypted where there is a proxy")
        literal = _literal(host)
        if literal is not None and not may_reach(literal, allow_private=self.allow_private):
            raise ValueError(f"{field}: {literal} is not a public address; set allow_private: true to allow it")


def may_reach(literal: str, *, allow_private: bool) -> bool:
    """Returns whether messages may go to the address. Raises ValueError if the text is not an address."""
    return ip_address.is_global(literal) or (allow_private and ip_address.is_private(literal))


def demand_url(url: str) -> SplitResult:
    """Returns the parts of a URL that messages may be posted to. Raises ValueError, without any part of it."""
    if not _URL.fullmatch(url):
        raise ValueError("must be a URL of at most 2048 ASCII characters without spaces")
    parts = urlsplit(url)
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise ValueError("must be https://HOST/… (or http on loopback)")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise ValueError("must have no user, password or fragment; messages are authenticated by their signature")
    demand_port(parts)
    if parts.scheme == "http" and not names_loopback(parts.hostname):
        raise ValueError("must be https, unless its host is localhost or a loopback address")
    return parts


def demand_port(parts: SplitResult) -> None:
    """Raises ValueError if the URL has a port that is none."""
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise ValueError("must have a port from 1 to 65535, or none")


def names_loopback(host: str) -> bool:
    """Returns whether the host says that it is this machine."""
    return host == "localhost" or (_literal(host) is not None and ip_address.is_loopback(host))


def secret_lines(path: Path, field: str) -> list[str]:
    """Returns the words of a file with secrets. Raises ValueError, which names the field, not what the file holds."""
    lines = ascii_in(path, field).split()
    if not lines:
        raise ValueError(f"{field}: {path} is empty")
    return lines


def token_in(field: str, form: str = "one token") -> Callable[[Path], str]:
    """Returns a reader of a file that holds one secret of printable ASCII."""

    def read(path: Path) -> str:
        lines = secret_lines(path, field)
        if len(lines) != 1 or not _SECRET.fullmatch(lines[0]):
            raise ValueError(f"{field}: {path} must hold {form}, in one line without spaces")
        return lines[0]

    return read


def credentials_in(field: str) -> Callable[[Path], bytes]:
    """Returns a reader of a file that holds USER:PASSWORD."""

    def read(path: Path) -> bytes:
        token = token_in(field, "USER:PASSWORD")(path)
        if ":" not in token.strip(":"):
            raise ValueError(f"{field}: {path} must hold USER:PASSWORD, in one line without spaces")
        return token.encode("ascii")

    return read


def _literal(host: str) -> str | None:
    try:
        ip_address.innermost(host)
    except ValueError:
        return None
    return host
