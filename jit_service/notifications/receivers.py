"""The receivers of notifications in the settings, with the keys that sign their messages."""

from __future__ import annotations

import base64
import binascii
import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final, Self
from urllib.parse import SplitResult, urlsplit

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, field_validator, model_validator

from jit_service.configuration.forms import Span
from jit_service.configuration.fresh_file import FreshFile
from jit_service.configuration.secret_file import demand_private
from jit_service.domain.language import ip_address
from jit_service.domain.notification import DEFAULT_EVENTS, Retries, Subscription, interests

KEY_BYTES: Final = (24, 64)
"""The shortest and the longest key (Standard Webhooks)."""
_PREFIX: Final = "whsec_"
_URL: Final = re.compile(r"[\x21-\x7e]{1,2048}")
_Wait = Annotated[Span, Field(ge=timedelta(seconds=1), le=timedelta(days=1))]


class Receiver(BaseModel):
    """A webhook.

    `secret_file` holds `whsec_` and the base64 of 24 to 64 bytes; more lines hold more keys, each of which signs, so
    that a key can be changed without a gap. A change of the file is taken at the next delivery. `events` are `TYPE`,
    `TYPE:STATE` or `*`. The URL may hold a secret, so it is in no log and no error.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: str = Field(
        pattern=r"^[a-z][a-z0-9-]{0,62}$",
        json_schema_extra={"form": "at most 63 of a-z, 0-9 and hyphens, with a letter first"},
    )
    url: str = Field(repr=False)
    secret_file: Path
    events: tuple[str, ...] = DEFAULT_EVENTS
    timeout: Annotated[Span, Field(ge=timedelta(seconds=1), le=timedelta(minutes=1))] = timedelta(seconds=10)
    attempts: int = Field(default=Retries.attempts, ge=1, le=100)
    first_retry: _Wait = Retries.first
    longest_retry: _Wait = Retries.longest
    allow_private: bool = False
    ca_file: Path | None = None

    _keys: FreshFile[tuple[bytes, ...]] = PrivateAttr()

    @property
    def keys(self) -> tuple[bytes, ...]:
        """The keys that sign now, the newest first: those of the file, which is read anew after a change."""
        return self._keys.content()

    @property
    def parts(self) -> SplitResult:
        """The URL's parts."""
        return urlsplit(self.url)

    @property
    def subscription(self) -> Subscription:
        """The events that it receives."""
        return Subscription(receiver=self.name, interests=interests(self.events))

    @property
    def retries(self) -> Retries:
        """How often and how long a notification is retried."""
        return Retries(attempts=self.attempts, first=self.first_retry, longest=self.longest_retry)

    @field_validator("events")
    @classmethod
    def _known(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        interests(given)
        return given

    @field_validator("url")
    @classmethod
    def _sendable(cls, url: str) -> str:
        if not _URL.fullmatch(url):
            raise ValueError("must be a URL of at most 2048 ASCII characters without spaces")
        parts = urlsplit(url)
        if parts.scheme not in ("https", "http") or not parts.hostname:
            raise ValueError("must be https://HOST/… (or http on loopback)")
        if parts.username is not None or parts.password is not None or parts.fragment:
            raise ValueError("must have no user, password or fragment; messages are authenticated by their signature")
        _demand_port(parts)
        if parts.scheme == "http" and not _names_loopback(parts.hostname):
            raise ValueError("must be https, unless its host is localhost or a loopback address")
        return url

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.longest_retry < self.first_retry:
            raise ValueError("longest_retry must be at least first_retry")
        literal = _literal(self.parts.hostname or "")
        if literal is not None and not may_reach(literal, allow_private=self.allow_private):
            raise ValueError(f"url: {literal} is not a public address; set allow_private: true to allow it")
        self._keys = FreshFile(self.secret_file, _keys_of)
        return self


def may_reach(literal: str, *, allow_private: bool) -> bool:
    """Returns whether messages may go to the address. Raises ValueError if the text is not an address."""
    return ip_address.is_global(literal) or (allow_private and ip_address.is_private(literal))


def _demand_port(parts: SplitResult) -> None:
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise ValueError("must have a port from 1 to 65535, or none")


def _literal(host: str) -> str | None:
    try:
        ip_address.innermost(host)
    except ValueError:
        return None
    return host


def _names_loopback(host: str) -> bool:
    return host == "localhost" or (_literal(host) is not None and ip_address.is_loopback(host))


def _keys_of(path: Path) -> tuple[bytes, ...]:
    try:
        demand_private(path)
        lines = path.read_text(encoding="ascii").split()
    except OSError as fault:
        raise ValueError(f"secret_file: {path} cannot be read: {fault.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"secret_file: {path} is not ASCII") from None
    except ValueError as fault:
        raise ValueError(f"secret_file: {fault}") from None
    if not lines:
        raise ValueError(f"secret_file: {path} is empty")
    return tuple(_key(line, path) for line in lines)


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
