"""Maps the contract's messages to facts and back, field by field, by the message's descriptor.

A message's field and the facts' attribute have the same name, except for instants: `create_time` is `created_at`,
`expire_time` is `expires_at`. A small table beside the servicer lists what differs from that. An `Encoder` or `Decoder`
is made when its module is imported, and that fails if a field has no counterpart, so a new field cannot be forgotten.

Decoding leaves an attribute at its default if the message does not set the field. Encoding does not set a message field
(one with presence) whose attribute is at its default. An attribute without a default is always set.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from functools import cache
from operator import attrgetter
from types import NoneType
from typing import Any, Final, Generic, TypeAlias, TypeVar, get_args, get_type_hints

from google.api import field_behavior_pb2
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from jit_service.domain.errors import InvalidField
from jit_service.domain.language import etag
from jit_service.domain.policies.policy import seconds
from jit_service.rpc import well_known_types as well_known

M = TypeVar("M", bound=Message)
F = TypeVar("F")
Getter = Callable[[Any], Any]
Source: TypeAlias = "str | Getter | Encoder[Any] | tuple[str, Encoder[Any]]"
"""Where a field's value comes from: the path of an attribute, a function of the facts, the encoder of the attribute of
the same name, or a path with an encoder."""
_Reader = Callable[[Any, str], Any]
_NO_DEFAULT: Final = object()
_ENCODE_WELL_KNOWN: Final[Mapping[str, Getter]] = {
    "google.protobuf.Timestamp": well_known.timestamp,
    "google.protobuf.Duration": well_known.duration,
    "google.protobuf.Struct": well_known.json_struct,
    "google.protobuf.Value": well_known.json_value,
}
_DECODE_WELL_KNOWN: Final[Mapping[str, _Reader]] = {
    "google.protobuf.Timestamp": well_known.instant_of,
    "google.protobuf.Duration": well_known.duration_of,
    "google.protobuf.Struct": well_known.json_object_of,
    "google.protobuf.Value": well_known.json_value_of,
}


class Encoder(Generic[M]):
    """Makes messages from facts.

    `table` has the source of each field that is not simply the attribute of its name. A field is also looked for inside
    the attributes `within`. The values of `derived` fields depend on more than the facts, so each call gives them.
    """

    def __init__(
        self,
        message: type[M],
        facts: type[Any],
        table: Mapping[str, Source] | None = None,
        /,
        *,
        within: Collection[str] = (),
        derived: Collection[str] = (),
    ) -> None:
        table = table or {}
        _demand_known({*table, *derived}, {field.name for field in _fields(message)}, message.DESCRIPTOR.full_name)
        self._message = message
        self._plain: list[tuple[str, Getter]] = []
        self._converted: list[tuple[str, Getter, Getter, Any]] = []
        for field in _fields(message):
            if field.name not in derived:
                self._add(field, facts, table.get(field.name), within)

    def __call__(self, facts: Any, /, **derived: Any) -> M:
        """Returns the message."""
        for name, get in self._plain:
            if value := get(facts):
                derived[name] = value
        for name, get, convert, default in self._converted:
            value = get(facts)
            # A default is mostly one shared object, and to compare facts by value costs more than to encode a field.
            if value is not None and value is not default and value != default:
                derived[name] = convert(value)
        return self._message(**derived)

    def _add(self, field: FieldDescriptor, facts: type[Any], source: Source | None, within: Collection[str]) -> None:
        convert: Getter | None = None
        if isinstance(source, tuple):
            source, convert = source
        elif source is None or isinstance(source, Encoder):
            convert = source
            source = _path_to(facts, field, within)
        get = _getter(facts, source) if isinstance(source, str) else source
        kind = _type_of(facts, source) if isinstance(source, str) else None
        convert = convert or _value_encoder(field, kind)
        if convert is None:
            # Protobuf takes names of enum values, sequences and mappings as they are.
            self._plain.append((field.name, get))
        elif field.is_repeated:
            self._plain.append((field.name, _each(get, convert)))
        else:
            default = _attributes_of(facts).get(source, _NO_DEFAULT) if isinstance(source, str) else _NO_DEFAULT
            self._converted.append((field.name, get, convert, default))


@dataclass(frozen=True, kw_only=True)
class Rule:
    """How a decoder reads an attribute that is more than the message's field of the same name.

    `required` is the fault of a message that does not set it; a `positive` duration that is set is above zero.
    """

    field: str = ""
    required: str = ""
    positive: bool = False
    decoder: Decoder[Any] | None = None


class Decoder(Generic[F]):
    """Makes facts from messages. It does not read OUTPUT_ONLY fields, which only the service writes.

    `table` has the rules of the attributes that need one. Each call gives the values of the `given` attributes.
    """

    def __init__(
        self,
        message: type[Message],
        facts: type[F],
        table: Mapping[str, Rule] | None = None,
        /,
        *,
        given: Collection[str] = (),
    ) -> None:
        rules, attributes = table or {}, _attributes_of(facts)
        _demand_known({*rules, *given}, attributes.keys(), facts.__name__)
        self._message = message
        self._facts = facts
        self._readers: dict[str, tuple[str, _Reader]] = {}
        self._required: dict[str, str] = {}
        self._blank: dict[str, Any] = {}
        for attribute in attributes.keys() - set(given):
            self._add(attribute, attributes[attribute], rules.get(attribute, Rule()))

    def __call__(self, message: Message, path: str = "", /, **given: Any) -> F:
        """Returns the facts. `path` stands before the names of fields in faults. Raises InvalidField."""
        for name, fault in self._required.items():
            if not message.HasField(name):
                raise InvalidField(path + name, fault)
        values = self._blank | given
        # ListFields returns the fields that are set, in the order of their numbers.
        for field, value in message.ListFields():
            if (known := self._readers.get(field.name)) is not None:
                attribute, read = known
                values[attribute] = read(value, path + field.name)
        return self._facts(**values)

    def _add(self, attribute: str, default: Any, rule: Rule) -> None:
        field = _field_for(self._message, attribute, rule)
        if field is not None:
            read = _reader(field, _type_of(self._facts, attribute), rule)
            self._readers[field.name] = attribute, read
            if rule.required:
                self._required[field.name] = rule.required
            elif default is _NO_DEFAULT:
                self._blank[attribute] = read(getattr(self._message(), field.name), field.name)
        elif default is _NO_DEFAULT:
            raise TypeError(f"{self._message.DESCRIPTOR.full_name} has no field for {self._facts.__name__}.{attribute}")


def _demand_known(named: Collection[str], known: Collection[str], owner: str) -> None:
    if unknown := sorted(set(named).difference(known)):
        raise TypeError(f"{owner} has no {', '.join(unknown)}")


def _attributes_of(facts: type[Any]) -> dict[str, Any]:
    """Returns the attributes of a dataclass with their defaults."""
    return {attribute.name: _default(attribute) for attribute in dataclasses.fields(facts)}


def _fields(message: type[Message]) -> Sequence[FieldDescriptor]:
    descriptor: Any = message.DESCRIPTOR
    fields: Sequence[FieldDescriptor] = descriptor.fields
    return fields


def _path_to(facts: type[Any], field: FieldDescriptor, within: Collection[str]) -> str | Getter:
    """Returns the path to the attribute of the field's name; for an etag, the function that computes it."""
    for prefix in ("", *(f"{inner}." for inner in within)):
        holder = _type_of(facts, prefix[:-1]) if prefix else facts
        for attribute in _attributes_for(field.name):
            if _has(holder, attribute):
                return prefix + attribute
    if field.name == "etag":
        return _etag_of
    raise TypeError(f"{facts.__name__} has no attribute for {field.full_name}")


def _etag_of(facts: Any) -> str:
    return etag.etag(facts.name, facts.revision) if facts.revision else ""


def _attributes_for(field: str) -> Iterator[str]:
    """Yields the names that an attribute with the field's value may have."""
    yield field
    if field.endswith("_time"):
        verb = field.removesuffix("_time")
        yield from (f"{verb}d_at", f"{verb}s_at", f"{verb}_at")


def _field_for(message: type[Message], attribute: str, rule: Rule) -> FieldDescriptor | None:
    """Returns the field that a caller writes the attribute into; None if there is none."""
    for field in _fields(message):
        is_written = (
            field_behavior_pb2.OUTPUT_ONLY not in field.GetOptions().Extensions[field_behavior_pb2.field_behavior]
        )
        if is_written and (field.name == rule.field or (not rule.field and attribute in _attributes_for(field.name))):
            return field
    return None


@cache
def _hints(annotated: Any) -> dict[str, Any]:
    """Returns the type hints. They are evaluated from text, and each class is asked for dozens of its attributes."""
    return get_type_hints(annotated)


def _has(facts: Any, attribute: str) -> bool:
    return attribute in _hints(facts) or isinstance(getattr(facts, attribute, None), property)


def _type_of(facts: Any, path: str) -> Any:
    """Returns the type of the attribute at the path, without None."""
    for name in path.split("."):
        computed = getattr(facts, name, None)
        hint = _hints(computed.fget)["return"] if isinstance(computed, property) else _hints(facts)[name]
        facts = _plain_type(hint)
    return facts


def _plain_type(hint: Any) -> Any:
    arguments = get_args(hint)
    return next(kind for kind in arguments if kind is not NoneType) if NoneType in arguments else hint


def _default(attribute: dataclasses.Field[Any]) -> Any:
    if attribute.default is not dataclasses.MISSING:
        return attribute.default
    return attribute.default_factory() if attribute.default_factory is not dataclasses.MISSING else _NO_DEFAULT


def _getter(facts: Any, path: str) -> Getter:
    """Returns a function that reads the attribute at the path. It returns None if an attribute on the way is None."""
    first, _, rest = path.partition(".")
    if not rest or not _may_be_none(facts, first):
        return attrgetter(path)
    outer, inner = attrgetter(first), _getter(_type_of(facts, first), rest)

    def get(facts: Any) -> Any:
        holder = outer(facts)
        return None if holder is None else inner(holder)

    return get


def _may_be_none(facts: Any, attribute: str) -> bool:
    return NoneType in get_args(get_type_hints(facts).get(attribute))


def _each(get: Getter, convert: Getter) -> Getter:
    return lambda facts: [convert(value) for value in get(facts)]


def _value_encoder(field: FieldDescriptor, kind: Any) -> Getter | None:
    """Returns the conversion of a value to what protobuf accepts for the field; None if it accepts the value itself."""
    if field.message_type is None:
        return bytes.hex if kind is bytes else None
    if field.message_type.GetOptions().map_entry:
        return None
    if (convert := _ENCODE_WELL_KNOWN.get(field.message_type.full_name)) is not None:
        return convert
    message: Any = GetMessageClass(field.message_type)
    return lambda value: value if isinstance(value, Message) else _plain_encoder(message, value.__class__)(value)


@cache
def _plain_encoder(message: Any, facts: Any) -> Encoder[Message]:
    return Encoder(message, facts)


def _reader(field: FieldDescriptor, kind: Any, rule: Rule) -> _Reader:
    """Returns the function that converts the field's value to an attribute of that type."""
    message = field.message_type
    if message is None:
        return _scalar_reader(field, kind)
    if message.GetOptions().map_entry:
        return lambda value, _: dict(value)
    if rule.positive:
        return _positive_duration
    if (read := _DECODE_WELL_KNOWN.get(message.full_name)) is not None:
        return read
    if not field.is_repeated:
        decode: Any = rule.decoder or Decoder(GetMessageClass(message), kind)
        return lambda value, path: decode(value, f"{path}.")
    decode = rule.decoder or Decoder(GetMessageClass(message), get_args(kind)[0])
    # The fault of an element is named by its field alone, without the index. Clients rely on these names.
    return lambda values, _: tuple(decode(value) for value in values)


def _scalar_reader(field: FieldDescriptor, kind: Any) -> _Reader:
    if field.is_repeated:
        return lambda values, _: tuple(values)
    if field.enum_type is None:
        return lambda value, _: value
    members: dict[int, StrEnum] = {value.number: kind(value.name) for value in field.enum_type.values if value.number}
    return lambda number, _: members[number]


def _positive_duration(message: Any, field: str) -> timedelta:
    span = well_known.duration_of(message, field)
    if span <= timedelta():
        raise InvalidField(field, f"is {seconds(span)}; it must be above 0s, or left out")
    return span
