"""Refuses requests that no servicer may see, whichever way they came.

These are requests with unknown fields (a caller that asks for more than this version knows must learn so) or unknown
enum values, transcoded calls whose message names another resource than their path (a query parameter or body can
override the path's variable), and those whose JSON has names that the transcoder lost.
"""

from __future__ import annotations

import re
from functools import cache
from urllib.parse import unquote

from google.api.annotations_pb2 import http
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from jit_service.domain.errors import InvalidField

_RAW = "google.api.HttpBody"
VARIABLE = re.compile(r"\{([a-z_.]+)=([^}]+)\}")


def check_message(message: Message) -> None:
    """Raises InvalidField for the first unknown field or enum value, at any depth."""
    # Nearly always there is none, and to find that out costs less than to find where one is.
    if not (_has_only_known_fields(message) and _has_only_known_values(message)):
        _check(message, "")


def _has_only_known_fields(message: Message) -> bool:
    known = type(message)()
    known.CopyFrom(message)
    known.DiscardUnknownFields()
    return known.ByteSize() == message.ByteSize()


def _has_only_known_values(message: Message) -> bool:
    for name, values, is_repeated in _known_values(message.DESCRIPTOR):
        if values is not None:
            if getattr(message, name) not in values:
                return False
        elif is_repeated:
            if not all(map(_has_only_known_values, getattr(message, name))):
                return False
        elif message.HasField(name) and not _has_only_known_values(getattr(message, name)):
            return False
    return True


def _check(message: Message, path: str) -> None:
    unknown = UnknownFieldSet(message)
    if len(unknown):
        number = unknown[0].field_number
        where = f"{path}.{number}" if path else str(number)
        raise InvalidField(where, f"{message.DESCRIPTOR.full_name} has no field {number}")
    for field in _fields_to_check(message.DESCRIPTOR):
        where = f"{path}.{field.name}" if path else field.name
        if field.type == FieldDescriptor.TYPE_ENUM:
            _check_enum(field, getattr(message, field.name), where)
        elif field.is_repeated:
            for index, element in enumerate(getattr(message, field.name)):
                _check(element, f"{where}[{index}]")
        elif message.HasField(field.name):
            _check(getattr(message, field.name), where)


@cache
def _known_values(message: Descriptor) -> tuple[tuple[str, frozenset[int] | None, bool], ...]:
    """Returns the fields that are or contain an enum: name, the values of the enum, and whether it is a list."""
    return tuple(
        (field.name, frozenset(field.enum_type.values_by_number) if field.enum_type else None, field.is_repeated)
        for field in _fields_to_check(message)
        if field.enum_type or _contains_enum(field.message_type)
    )


@cache
def _contains_enum(message: Descriptor) -> bool:
    """Whether the message has an enum, at any depth. A message may contain others of its own type."""
    reached, waiting = {message}, [message]
    while waiting:
        for field in _fields_to_check(waiting.pop()):
            if field.enum_type:
                return True
            if (below := field.message_type) is not None and below not in reached:
                reached.add(below)
                waiting.append(below)
    return False


@cache
def _fields_to_check(message: Descriptor) -> tuple[FieldDescriptor, ...]:
    """Returns the fields that can contain something unknown: enums, and messages other than maps."""
    kinds = (FieldDescriptor.TYPE_ENUM, FieldDescriptor.TYPE_MESSAGE)
    return tuple(field for field in message.fields if field.type in kinds and not is_map(field))


def check_path(method: str, original_path: str, message: Message) -> None:
    """Raises InvalidField if the message names another resource than the path of the transcoded call.

    `original_path` is Envoy's `x-envoy-original-path`. The message is authorised and recorded, so the two must
    not differ.
    """
    for template, field in _templates(method):
        found = template.fullmatch(unquote(original_path.partition("?")[0]))
        if found is None:
            raise InvalidField(field, "the path is not the one of this call")
        if found[1] != _value(message, field):
            raise InvalidField(field, f"must be {found[1]!a} as in the path, and not be given again")


def check_json(method: str, names: str | None, message: Message) -> None:
    """Raises InvalidField for the first name in the call's JSON that is unknown to the contract or a duplicate.

    `names` comes from envoy.yaml's Lua filter: paths joined by "/", with a comma before each. Without it nobody knows
    what was lost, so a call that has a body is refused.
    """
    body = method_descriptor(method).GetOptions().Extensions[http].body
    # The transcoder passes the bytes of such a body on, whatever they look like, so it lost no name.
    if not body or _is_raw(method, body):
        return
    in_path = {field.partition(".")[0] for _, field in _templates(method)} if body == "*" else set()
    if names is None and any(field.name not in in_path for field, _ in message.ListFields()):
        raise InvalidField(body, "cannot be checked: the edge did not send its names; see envoy/envoy.yaml")
    root, prefix = _json_root(method)
    spellings: dict[tuple[str, ...], str] = {}
    for name in filter(None, (names or "").split(",")):
        path, fault = _resolve(root, name.split("/"))
        if not fault and spellings.setdefault(path, name) != name:
            fault = f"stands twice, also as {spellings[path]}"
        if fault:
            raise InvalidField(prefix + name.removesuffix("!").replace("/", "."), fault)


def _resolve(message: Descriptor, names: list[str]) -> tuple[tuple[str, ...], str]:
    """Returns the path of fields that the names stand for, and the fault in them, if any."""
    if names[-1].endswith("!"):
        return (), "stands twice"
    path: list[str] = []
    for position, name in enumerate(names):
        field = message.fields_by_name.get(name) or message.fields_by_camelcase_name.get(name)
        if field is None:
            allowed = ", ".join(sorted(known.json_name for known in message.fields))
            return (), f"{message.name} has no such field; it has {allowed}"
        path.append(field.name)
        if field.message_type is None or is_map(field) or _is_free(field.message_type):
            return (*path, *names[position + 1 :]), ""
        message = field.message_type
    return tuple(path), ""


def _is_raw(method: str, body: str) -> bool:
    field = method_descriptor(method).input_type.fields_by_name.get(body)
    return field is not None and field.message_type is not None and field.message_type.full_name == _RAW


def _is_free(message: Descriptor) -> bool:
    """Returns whether the field is free JSON, in which any name may stand."""
    return message.file.name == "google/protobuf/struct.proto"


@cache
def _json_root(method: str) -> tuple[Descriptor, str]:
    """Returns the message that the call's JSON encodes, and its path within the request."""
    descriptor = method_descriptor(method)
    body, request = descriptor.GetOptions().Extensions[http].body, descriptor.input_type
    inner = request.fields_by_name[body].message_type if body != "*" else None
    return (request, "") if inner is None else (inner, f"{body}.")


def _check_enum(field: FieldDescriptor, value: int, where: str) -> None:
    kind = field.enum_type
    if kind is not None and value not in kind.values_by_number:
        allowed = ", ".join(known.name for known in kind.values if known.number)
        raise InvalidField(where, f"{value} is unknown; one of {allowed} is allowed")


def is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


@cache
def _templates(method: str) -> tuple[tuple[re.Pattern[str], str], ...]:
    """Returns a pattern of the method's REST path that captures its variable, and the field that the variable sets."""
    rule = method_descriptor(method).GetOptions().Extensions[http]
    template = getattr(rule, rule.WhichOneof("pattern"))
    variable = VARIABLE.search(template)
    if variable is None:
        return ()
    before, after = template[: variable.start()], template[variable.end() :]
    inner = re.escape(variable[2]).replace(r"\*", "[^/]+")
    return ((re.compile(f"{re.escape(before)}({inner}){re.escape(after)}"), variable[1]),)


def method_descriptor(method: str) -> MethodDescriptor:
    return descriptor_pool.Default().FindMethodByName(method.strip("/").replace("/", "."))


def _value(message: Message, path: str) -> str:
    value: object = message
    for name in path.split("."):
        value = getattr(value, name)
    return str(value)
