"""Protobuf's well-known types to and from Python's: Timestamp, Duration, Struct and Value, with range checks."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.struct_pb2 import Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp

from jit_service.domain.errors import InvalidField
from jitaccess.naming.json_numbers import with_whole_numbers

# The bounds of duration.proto and timestamp.proto.
_MAX_SECONDS: Final = 315_576_000_000
_FIRST_SECOND: Final = -62_135_596_800
_LAST_SECOND: Final = 253_402_300_799
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def set_timestamp(message: Timestamp, instant: datetime) -> None:
    """Sets the message without protobuf's own conversion, which costs as much as a decision."""
    since = instant - _EPOCH
    message.seconds = since.days * 86_400 + since.seconds
    message.nanos = since.microseconds * 1000


def timestamp(instant: datetime | None) -> Timestamp | None:
    """Returns the instant as a message; None for None."""
    if instant is None:
        return None
    message = Timestamp()
    set_timestamp(message, instant)
    return message


def duration(span: timedelta | None) -> Duration | None:
    """Returns the duration as a message; None for None."""
    if span is None:
        return None
    message = Duration()
    message.FromTimedelta(span)
    return message


def json_value(value: Any) -> Value:
    """Returns a JSON value as a message."""
    message = Value()
    ParseDict(value, message)
    return message


def json_struct(value: dict[str, Any]) -> Struct:
    """Returns a JSON object as a message."""
    return ParseDict(value, Struct())


def instant_of(message: Timestamp, field: str) -> datetime:
    """Returns the instant. Raises InvalidField for one that is out of range or finer than a microsecond."""
    if not _FIRST_SECOND <= message.seconds <= _LAST_SECOND or not 0 <= message.nanos < 10**9:
        raise InvalidField(field, "is not an instant that google.protobuf.Timestamp allows")
    if message.nanos % 1000:
        raise InvalidField(field, "is finer than a microsecond")
    return message.ToDatetime(tzinfo=UTC)


def duration_of(message: Duration, field: str) -> timedelta:
    """Returns the duration. Raises InvalidField for one that is out of range or finer than a microsecond."""
    seconds, nanos = message.seconds, message.nanos
    if abs(seconds) > _MAX_SECONDS or abs(nanos) >= 10**9 or (seconds < 0 < nanos) or (nanos < 0 < seconds):
        raise InvalidField(field, "is not a duration that google.protobuf.Duration allows")
    if nanos % 1000:
        raise InvalidField(field, "is finer than a microsecond")
    return timedelta(seconds=seconds, microseconds=nanos // 1000)


def json_object_of(message: Struct, field: str) -> dict[str, Any]:
    """Returns the JSON object. Raises InvalidField for a number that JSON does not have."""
    for value in message.fields.values():
        _demand_finite(value, field)
    return dict(with_whole_numbers(MessageToDict(message)))


def json_value_of(message: Value, field: str) -> Any:
    """Returns the JSON value, None where none is set. Raises InvalidField for a number that JSON does not have."""
    _demand_finite(message, field)
    return with_whole_numbers(MessageToDict(message)) if message.WhichOneof("kind") else None


def _demand_finite(value: Value, field: str) -> None:
    """Raises InvalidField for NaN and infinity, which a message can hold and JSON cannot."""
    kind = value.WhichOneof("kind")
    if kind == "number_value" and not math.isfinite(value.number_value):
        raise InvalidField(field, "has a number that JSON cannot express")
    inner = value.struct_value.fields.values() if kind == "struct_value" else value.list_value.values
    for part in inner:
        _demand_finite(part, field)
