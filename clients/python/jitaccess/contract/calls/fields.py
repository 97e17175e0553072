"""From Python arguments to the fields of messages. Raises InvalidArgument for what no message can hold."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from google.protobuf import json_format
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from jitaccess._error import invalid_field
from jitaccess.contract.model import Grant
from jitaccess.errors import InvalidArgument

M = TypeVar("M", bound=Message)


def fill(kind: type[M], **fields: object) -> M:
    """Returns the message. Raises InvalidArgument for a text or number that its field cannot hold."""
    try:
        return kind(**fields)
    except ValueError as error:
        raise InvalidArgument(f"{kind.DESCRIPTOR.name} cannot hold that: {error}", reason="INVALID_FIELD") from error


def full_name(collection: str, name: str) -> str:
    """Returns the full name of what is given by its name or id; an empty text stays empty."""
    return f"{collection}/{name}" if name and "/" not in name else name


def grant_name(grant: Grant | str) -> str:
    """Returns the name of a grant that is given by its name or id, or as it was read."""
    return grant.name if isinstance(grant, Grant) else full_name("grants", grant)


def etag_of(grant: Grant | str, given: str | None) -> str:
    """Returns the etag that was given, else that of a Grant that was read."""
    if given is not None:
        return given
    return grant.etag if isinstance(grant, Grant) else ""


def texts(given: str | Iterable[str]) -> list[str]:
    """Returns the texts, of which a single one may be given by itself."""
    return [given] if isinstance(given, str) else list(given)


def new_request_id(given: str | None) -> str:
    """Returns the request_id that was given, else a fresh one."""
    return str(uuid.uuid4()) if given is None else given


def struct_message(given: Mapping[str, object] | None) -> Struct | None:
    """Returns what JSON can hold as a Struct; None stays None."""
    if given is None:
        return None
    try:
        return json_format.ParseDict(dict(given), Struct())
    except (ValueError, TypeError, json_format.ParseError) as error:
        raise invalid_field("context", str(error)) from error


def duration_message(given: timedelta | None) -> Duration | None:
    """Returns the duration as a message; None stays None."""
    if given is None:
        return None
    message = Duration()
    message.FromTimedelta(given)
    return message


def instant_message(given: datetime | None, field: str) -> Timestamp | None:
    """Returns the aware instant as a message; None stays None."""
    if given is None:
        return None
    if given.tzinfo is None:
        raise invalid_field(field, f"{given.isoformat()} has no time zone")
    message = Timestamp()
    try:
        message.FromDatetime(given)
    except (ValueError, OverflowError) as error:
        raise invalid_field(field, f"{given.isoformat()}: {error}") from error
    return message


def until(expire_time: datetime | None, ttl: timedelta | None, *, start: datetime | None = None) -> datetime | None:
    """Returns the instant that was given, or that after `ttl` from `start` (now, by this machine's clock)."""
    return expire_time if ttl is None else (start or datetime.now(UTC)) + ttl
