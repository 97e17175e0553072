"""The forms in which settings are written: addresses and durations."""

from __future__ import annotations

import ipaddress
import json
import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Final, Self

from pydantic import BeforeValidator, TypeAdapter, ValidationError
from pydantic_settings import NoDecode

from jitaccess.naming.duration import FORMS, parse_span

_NUMBER: Final = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,6})?")
_NOTHING: Final = re.compile("0[smhd]")
_ISO_8601: Final = TypeAdapter(timedelta)


@dataclass(frozen=True)
class Address:
    """A TCP address; port 0 takes a free port."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Returns the address of `HOST:PORT` or `[IPV6]:PORT`. Raises ValueError, without the text.

        It may be a URL with a password in it.
        """
        host, colon, port = text.rpartition(":")
        bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
        if not colon or not bare or (":" in bare and bare == host) or not (port.isascii() and port.isdigit()):
            raise ValueError("must be HOST:PORT, such as 127.0.0.1:8081 or [::1]:8081")
        if int(port) > 65535:
            raise ValueError("must have a port of at most 65535")
        return cls(bare, int(port))

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return self.host == "localhost" or (self.is_numeric and ipaddress.ip_address(self.host).is_loopback)

    @property
    def is_numeric(self) -> bool:
        """Whether its host is an IP address, not a name."""
        try:
            ipaddress.ip_address(self.host)
        except ValueError:
            return False
        return True

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _address(value: object) -> object:
    return Address.parse(value) if isinstance(value, str) else value


def _span(value: object) -> object:
    """Reads a text as a duration: as people write it, a number of seconds, or ISO 8601 as programs write it."""
    if not isinstance(value, str):
        return value
    if _NUMBER.fullmatch(value):
        return float(value)
    if _NOTHING.fullmatch(value):
        # A grant is never asked for no time, so `parse_span` refuses it; a setting may be.
        return timedelta()
    try:
        return parse_span(value)
    except ValueError:
        pass
    try:
        return _ISO_8601.validate_python(value)
    except ValidationError:
        raise ValueError(f"must be a duration, such as {FORMS}, or a number of seconds") from None


def _split(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _decoded(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        raise ValueError("is not JSON; give a list") from None


BoundAddress = Annotated[Address, NoDecode, BeforeValidator(_address)]
Span = Annotated[timedelta, BeforeValidator(_span)]
CommaList = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
OptionalCommaList = Annotated[tuple[str, ...] | None, NoDecode, BeforeValidator(_split)]
JSON_LIST: Final = BeforeValidator(_decoded)
"""Reads a text as JSON."""


def shown_span(length: timedelta) -> str:
    """Returns the duration as one writes it: 1h30m, 0.5s, 0s."""
    seconds = length.total_seconds()
    words = ""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        amount, seconds = divmod(seconds, size)
        words += f"{amount:.0f}{unit}" if amount else ""
    return f"{words}{seconds:g}s" if seconds or not words else words
