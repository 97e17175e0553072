"""What is refused in every request before a servicer sees it, whatever let it through so far.

Unknown fields (a caller that asks for more than this version knows must hear so), unknown enum values, and a transcoded
call whose message names another resource than its path (a query parameter or body can override the path's variable).
"""

from __future__ import annotations

import re
from functools import cache
from urllib.parse import unquote

from google.api.annotations_pb2 import http
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from jit_service.domain.errors import InvalidField

_VARIABLE = re.compile(r"\{([a-z_.]+)=([^}]+)\}")


def check_message(message: Message, path: str = "") -> None:
    """Raises InvalidField for the first unknown field or enum value in the message or within it."""
    unknown = UnknownFieldSet(message)
    if len(unknown):
        number = unknown[0].field_number
        where = f"{path}.{number}" if path else str(number)
        raise InvalidField(where, f"{message.DESCRIPTOR.full_name} has no field {number}")
    for field, value in message.ListFields():
        where = f"{path}.{field.name}" if path else field.name
        if field.type == FieldDescriptor.TYPE_ENUM:
            _check_enum(field, value, where)
        elif field.type == FieldDescriptor.TYPE_MESSAGE and not _is_map(field):
            _check_messages(value, where)


def check_path(method: str, original_path: str, message: Message) -> None:
    """Raises InvalidField where the message does not name what the transcoded call's path names.

    `original_path` is Envoy's `x-envoy-original-path`. The message is what is authorised and recorded; this refuses a
    call in which the two differ.
    """
    for template, field in _templates(method):
        found = template.fullmatch(unquote(original_path.partition("?")[0]))
        if found is None:
            raise InvalidField(field, "the path is not the one of this call")
        if found[1] != _value(message, field):
            raise InvalidField(field, f"must be {found[1]!a} as in the path, and not be given again")


def _check_enum(field: FieldDescriptor, value: int, where: str) -> None:
    kind = field.enum_type
    if kind is not None and value not in kind.values_by_number:
        allowed = ", ".join(known.name for known in kind.values if known.number)
        raise InvalidField(where, f"{value} is unknown; one of {allowed} is allowed")


def _check_messages(value: Message | list[Message], where: str) -> None:
    if isinstance(value, Message):
        check_message(value, where)
        return
    for index, element in enumerate(value):
        check_message(element, f"{where}[{index}]")


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


@cache
def _templates(method: str) -> tuple[tuple[re.Pattern[str], str], ...]:
    """Returns the method's REST path as an expression over the variable, with the field that the variable sets."""
    full_name = method.strip("/").replace("/", ".")
    descriptor: MethodDescriptor = descriptor_pool.Default().FindMethodByName(full_name)
    rule = descriptor.GetOptions().Extensions[http]
    template = getattr(rule, rule.WhichOneof("pattern"))
    variable = _VARIABLE.search(template)
    if variable is None:
        return ()
    before, after = template[: variable.start()], template[variable.end() :]
    inner = re.escape(variable[2]).replace(r"\*", "[^/]+")
    return ((re.compile(f"{re.escape(before)}({inner}){re.escape(after)}"), variable[1]),)


def _value(message: Message, path: str) -> str:
    value: object = message
    for name in path.split("."):
        value = getattr(value, name)
    return str(value)
