"""Between protobuf messages and the values of `jitaccess.contract.model`, field by field of the same name."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from types import NoneType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp

from jitaccess._faults import from_status
from jitaccess.contract.model import Policy
from jitaccess.errors import JitError
from jitaccess.naming.json_numbers import with_whole_numbers
from jitaccess.v1 import access_pb2, audit_pb2, delegation_pb2, grant_pb2, lock_pb2, policy_pb2, signal_pb2, token_pb2

T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)
_Reader = Callable[[Any], object]
_Plan = tuple[tuple[str, _Reader], ...]
_MESSAGES = {
    "access_pb2": access_pb2,
    "audit_pb2": audit_pb2,
    "delegation_pb2": delegation_pb2,
    "grant_pb2": grant_pb2,
    "lock_pb2": lock_pb2,
    "policy_pb2": policy_pb2,
    "signal_pb2": signal_pb2,
    "token_pb2": token_pb2,
}
_PLANS: dict[type, _Plan] = {}  # Annotations are resolved once a class.


def decode(cls: type[T], message: Message) -> T:
    """Returns the message as a `cls`. Raises ValueError or OverflowError for an instant that no datetime can hold."""
    plan = _PLANS.get(cls) or _PLANS.setdefault(cls, _plan(cls, message.DESCRIPTOR))
    return cls(**{name: read(message) for name, read in plan})


def encode_policy(policy: Policy) -> policy_pb2.Policy:
    """Returns the policy as a message.

    Fields that differ from what was read are written over what was read, so that a change by this client keeps what
    only a newer service knows.
    """
    message = policy_pb2.Policy()
    if policy.raw is None:
        _write(message, policy, _names(policy))
        return message
    message.CopyFrom(policy.raw)
    known = decode(Policy, policy.raw)
    _write(message, policy, [name for name in _names(policy) if getattr(policy, name) != getattr(known, name)])
    return message


def _plan(cls: Any, descriptor: Any) -> _Plan:
    """Returns how each field of `cls` is read: the message's field of the same name, as the annotation wants it."""
    hints = get_type_hints(cls, localns=_MESSAGES)
    fields = descriptor.fields_by_name
    names = [field.name for field in dataclasses.fields(cls)]
    return tuple((name, _itself if name == "raw" else _reader(fields[name], hints[name])) for name in names)


def _itself(message: Message) -> Message:
    return message


def _reader(field: Any, hint: Any) -> _Reader:
    """Returns what reads the field from its message, as the hint wants it."""
    name, arguments = field.name, get_args(hint)
    if get_origin(hint) is tuple:
        read_one = _value_reader(field, arguments[0])
        return lambda message: tuple(read_one(item) for item in getattr(message, name))
    if field.message_type is not None and field.message_type.file.name == "google/protobuf/struct.proto":
        return lambda message: _plain(getattr(message, name))
    if get_origin(hint) is Mapping:
        return lambda message: dict(getattr(message, name))
    if NoneType not in arguments:
        read = _value_reader(field, hint)
        return lambda message: read(getattr(message, name))
    present = _value_reader(field, next(item for item in arguments if item is not NoneType))
    return lambda message: present(getattr(message, name)) if message.HasField(name) else None


def _value_reader(field: Any, kind: type) -> _Reader:
    if kind is datetime:
        return _instant
    if kind is timedelta:
        return _duration
    if kind is JitError:
        return from_status
    if issubclass(kind, StrEnum) and field.enum_type is not None:
        return _enum_reader(field.enum_type, kind)
    if dataclasses.is_dataclass(kind):
        return lambda message: decode(kind, message)
    return kind


def _plain(value: Struct | Value) -> object:
    """Returns JSON as Python has it; a value that is not set is None."""
    if isinstance(value, Value) and not value.WhichOneof("kind"):
        return None
    return with_whole_numbers(MessageToDict(value))


def _instant(value: Timestamp) -> datetime:
    return value.ToDatetime(tzinfo=UTC)


def _duration(value: Duration) -> timedelta:
    return value.ToTimedelta()


def _enum_reader(descriptor: Any, kind: type[E]) -> Callable[[int], E]:
    """Returns what reads a number as a `kind`; numbers that this client does not know are UNKNOWN."""
    members = {value.number: kind(value.name) for value in descriptor.values if value.name in kind.__members__}
    unknown = kind("UNKNOWN")
    return lambda number: members.get(number, unknown)


def _names(value: Any) -> list[str]:
    return [field.name for field in dataclasses.fields(value) if field.name != "raw"]


def _write(message: Message, value: Any, names: list[str]) -> None:
    """Writes the named fields of the value over the message's."""
    # Where None is unset, an empty rule is a rule.
    optional = {field.name for field in dataclasses.fields(value) if field.default is None}
    for name in names:
        message.ClearField(name)
        item = getattr(value, name)
        if item is not None and (name in optional or not _is_default(item)):
            _write_field(message, name, item)


def _is_default(item: Any) -> bool:
    """Returns whether the field is to stay unset; written out, a default would make its submessage present."""
    if dataclasses.is_dataclass(item):
        return all(_is_default(getattr(item, name)) for name in _names(item))
    return item is None or (not item and not isinstance(item, timedelta))


def _write_field(message: Message, name: str, item: Any) -> None:
    target = getattr(message, name)
    if isinstance(item, timedelta):
        target.FromTimedelta(item)
    elif isinstance(item, datetime):
        target.FromDatetime(item)
    elif isinstance(item, Mapping):
        target.update(item)
    elif dataclasses.is_dataclass(item):
        target.SetInParent()
        _write(target, item, _names(item))
    elif isinstance(item, (tuple, list)):
        _write_items(target, item)
    else:
        setattr(message, name, item)


def _write_items(target: Any, items: tuple[Any, ...] | list[Any]) -> None:
    for item in items:
        if dataclasses.is_dataclass(item):
            _write(target.add(), item, _names(item))
        else:
            target.append(item)
