"""What is wrong with a REST request that the transcoder refuses, by the contract's descriptors.

The transcoder stops at the first fault, often without its place and never with the right form. Here every fault has its
JSON path and says how the field is written.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl, unquote

from google.api.annotations_pb2 import http
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor

from jit_service.domain.language.name import harmless
from jit_service.domain.policies.policy import seconds
from jit_service.rpc.authorization import RULES
from jit_service.rpc.strictness import VARIABLE, is_map, method_descriptor
from jitaccess.naming import rfc3339
from jitaccess.naming.duration import parse_span

MAX_FAULTS: Final = 20
"""How many faults of one request are told."""
_MAX_SHOWN: Final = 60
_MAX_DEPTH: Final = 50
_CONTRACT: Final = "/jitaccess.v1."
_WHOLE: Final = re.compile(r"-?[0-9]{1,20}")
_SECONDS: Final = re.compile(r"-?[0-9]{1,12}(\.[0-9]{1,9})?s")
_DURATION, _TIMESTAMP, _MASK, _STRUCT, _VALUE, _LIST = (
    f"google.protobuf.{kind}" for kind in ("Duration", "Timestamp", "FieldMask", "Struct", "Value", "ListValue")
)
_SCALARS: Final = {
    FieldDescriptor.CPPTYPE_STRING: "text",
    FieldDescriptor.CPPTYPE_BOOL: "true or false",
    FieldDescriptor.CPPTYPE_INT32: "a whole number",
    FieldDescriptor.CPPTYPE_INT64: "a whole number",
    FieldDescriptor.CPPTYPE_UINT32: "a whole number",
    FieldDescriptor.CPPTYPE_UINT64: "a whole number",
    FieldDescriptor.CPPTYPE_DOUBLE: "a number",
    FieldDescriptor.CPPTYPE_FLOAT: "a number",
}


class Fault(NamedTuple):
    """One fault: the field's path in JSON names, empty for the whole body, and what it is and has to be."""

    path: str
    text: str


def find_faults(verb: str, target: str, body: bytes) -> list[Fault]:
    """Returns the first 20 faults of a request in its query and its JSON; none where it is not of the contract.

    `target` is the path with its query, as it stands in the request.
    """
    path, _, query = target.partition("?")
    for wanted, pattern, in_path, method in _routes():
        if wanted == verb and pattern.fullmatch(unquote(path)):
            faults = [*_query_faults(method, query, in_path), *_body_faults(method, body, in_path)]
            return faults[:MAX_FAULTS]
    return []


@cache
def _routes() -> tuple[tuple[str, re.Pattern[str], str, MethodDescriptor], ...]:
    """Returns the verb and path of every method of the contract, and the field that stands in the path."""
    found = []
    for name in RULES:
        method = method_descriptor(name) if name.startswith(_CONTRACT) else None
        rule = method.GetOptions().Extensions[http] if method is not None else None
        verb = rule.WhichOneof("pattern") if rule is not None else None
        if method is None or rule is None or verb is None:
            continue
        # Without a variable there is one part; else before it, its name, its own template, and after it.
        before, *variable = VARIABLE.split(getattr(rule, verb))
        pattern = re.escape(before + "".join(variable[1:])).replace(r"\*", "[^/]+")
        found.append((verb.upper(), re.compile(pattern), variable[0] if variable else "", method))
    return tuple(found)


def _query_faults(method: MethodDescriptor, query: str, in_path: str) -> Iterator[Fault]:
    body = method.GetOptions().Extensions[http].body
    for name, value in parse_qsl(query, keep_blank_values=True):
        if body == "*":
            yield Fault(name, "stands in the query; this call takes its fields in the body")
            continue
        parts, message, path = name.split("."), method.input_type, ""
        for position, part in enumerate(parts):
            field = _field(message, part)
            if field is None or (not path and field.name == body):
                yield Fault(name, _unknown(message, without=body if not path else ""))
                break
            path = _join(path, field.json_name)
            if position == len(parts) - 1:
                yield from _value_faults(field, _as_json(field, value), path, 0)
            elif field.message_type is None:
                yield Fault(path, "has no fields")
                break
            else:
                message = field.message_type
        if name == in_path:
            yield Fault(name, "stands in the path, and must not be given again")


def _as_json(field: FieldDescriptor, value: str) -> Any:
    """Returns the text of a query parameter as the JSON that would say the same."""
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return {"true": True, "false": False}.get(value, value)
    return value


def _body_faults(method: MethodDescriptor, body: bytes, in_path: str) -> Iterator[Fault]:
    told = method.GetOptions().Extensions[http].body
    if not body:
        return
    if not told:
        yield Fault("", "this call takes no body; its fields stand in the query")
        return
    try:
        document = json.loads(body)
    except RecursionError:
        yield Fault("", "the body is nested too deep")
        return
    except UnicodeDecodeError:
        yield Fault("", "the body is not JSON: it is not UTF-8")
        return
    except ValueError as fault:
        yield Fault("", f"the body is not JSON: {fault}")
        return
    if told != "*":
        yield from _value_faults(method.input_type.fields_by_name[told], document, told, 0)
        return
    if isinstance(document, dict) and in_path in document:
        yield Fault(in_path, "stands in the path, and must not be given again")
    yield from _message_faults(method.input_type, document, "", 0)


def _value_faults(field: FieldDescriptor, value: Any, path: str, depth: int) -> Iterator[Fault]:
    """Yields what is wrong with the value of a field, which may be a list or a map."""
    if value is None:
        return
    if is_map(field):
        yield from _map_faults(field, value, path, depth)
    elif not field.is_repeated:
        yield from _single_faults(field, value, path, depth)
    elif isinstance(value, list):
        for index, element in enumerate(value):
            if element is not None:
                yield from _single_faults(field, element, f"{path}[{index}]", depth)
    else:
        # One element may stand for a list of it, as in a query.
        faults = list(_single_faults(field, value, path, depth))
        if faults:
            yield Fault(path, f"is {_shown(value)}; it must be a list, each element {_form(field)}")


def _map_faults(field: FieldDescriptor, value: Any, path: str, depth: int) -> Iterator[Fault]:
    if field.message_type is None:
        raise AssertionError(f"{field.full_name} is no map")
    element = field.message_type.fields_by_name["value"]
    if not isinstance(value, dict):
        yield Fault(path, f"is {_shown(value)}; it must be an object, each value {_form(element)}")
        return
    for key, held in value.items():
        if held is not None:
            yield from _single_faults(element, held, f"{path}.{harmless(key, _MAX_SHOWN)}", depth)


def _single_faults(field: FieldDescriptor, value: Any, path: str, depth: int) -> Iterator[Fault]:
    message = field.message_type
    if message is not None and message.file.package != "google.protobuf":
        yield from _message_faults(message, value, path, depth + 1)
    elif not _is_of(field, value):
        is_duration = message is not None and message.full_name == _DURATION
        form = (_duration_form(value) if is_duration else "") or _form(field)
        yield Fault(path, f"is {_shown(value)}; it must be {form}")


def _message_faults(message: Descriptor, value: Any, path: str, depth: int) -> Iterator[Fault]:
    if value is None or depth > _MAX_DEPTH:
        return
    if not isinstance(value, dict):
        whole = "" if path else "the body "
        yield Fault(path, f"{whole}is {_shown(value)}; it must be {_object_form(message)}")
        return
    for key, held in value.items():
        where = _join(path, harmless(key, _MAX_SHOWN))
        field = _field(message, key)
        if field is None:
            yield Fault(where, _unknown(message))
        else:
            yield from _value_faults(field, held, _join(path, field.json_name), depth)


def _is_of(field: FieldDescriptor, value: Any) -> bool:
    """Returns whether the value has the form of a scalar, an enum or one of protobuf's own messages."""
    if field.enum_type is not None:
        names = {known.upper() for known in field.enum_type.values_by_name}
        return isinstance(value, int) if not isinstance(value, str) else value.upper() in names
    if field.message_type is not None:
        return _is_of_message(field.message_type.full_name, value)
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_STRING if field.type == FieldDescriptor.TYPE_BYTES:
            return isinstance(value, str) and _is_base64(value)
        case FieldDescriptor.CPPTYPE_STRING:
            return isinstance(value, str)
        case FieldDescriptor.CPPTYPE_BOOL:
            return isinstance(value, bool)
        case FieldDescriptor.CPPTYPE_DOUBLE | FieldDescriptor.CPPTYPE_FLOAT:
            return isinstance(value, int | float) and not isinstance(value, bool)
        case _:
            return _is_whole(field, value)


def _is_of_message(kind: str, value: Any) -> bool:
    if kind == _DURATION:
        return isinstance(value, str) and _SECONDS.fullmatch(value) is not None
    if kind == _TIMESTAMP:
        return isinstance(value, str) and rfc3339.parse(value) is not None
    if kind == _MASK:
        return isinstance(value, str)
    if kind == _STRUCT:
        return isinstance(value, dict)
    return kind != _LIST or isinstance(value, list)


def _is_whole(field: FieldDescriptor, value: Any) -> bool:
    if isinstance(value, bool):
        return False
    if isinstance(value, float):
        if not value.is_integer():
            return False
    elif not isinstance(value, int) and not (isinstance(value, str) and _WHOLE.fullmatch(value)):
        return False
    number = int(value)
    bits = 32 if field.cpp_type in (FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_UINT32) else 64
    if field.cpp_type in (FieldDescriptor.CPPTYPE_UINT32, FieldDescriptor.CPPTYPE_UINT64):
        return 0 <= number < 1 << bits
    most = 1 << (bits - 1)
    return -most <= number < most


def _is_base64(value: str) -> bool:
    try:
        base64.b64decode(value.replace("-", "+").replace("_", "/") + "=" * (-len(value) % 4), validate=True)
    except (binascii.Error, ValueError):
        return False
    return True


def _duration_form(value: object) -> str:
    """Returns how the duration that people write as 10m is written in the contract's JSON; empty where it is none."""
    try:
        span = parse_span(value) if isinstance(value, str) else None
    except ValueError:
        return ""
    return "" if span is None else f'in seconds, "{seconds(span)}"'


def _form(field: FieldDescriptor) -> str:
    """Returns how one value of the field is written, to follow "it must be"."""
    if field.enum_type is not None:
        return f"one of {', '.join(known.name for known in field.enum_type.values if known.number)}"
    if field.message_type is None:
        return "base64" if field.type == FieldDescriptor.TYPE_BYTES else _SCALARS[field.cpp_type]
    return {
        _DURATION: 'seconds with an s, such as "3600s"',
        _TIMESTAMP: 'an instant such as "2026-01-31T12:00:00Z"',
        _MASK: 'field names with commas, such as "displayName,maxDuration"',
        _STRUCT: "an object",
        _LIST: "a list",
        _VALUE: "any JSON",
    }.get(field.message_type.full_name) or _object_form(field.message_type)


def _object_form(message: Descriptor) -> str:
    members = ", ".join(f'"{field.json_name}": ...' for field in message.fields[:4])
    return f"an object such as {{{members}{', ...' if len(message.fields) > 4 else ''}}}"


def _unknown(message: Descriptor, without: str = "") -> str:
    allowed = sorted(field.json_name for field in message.fields if field.name != without)
    return f"{message.name} has no such field; it has {', '.join(allowed)}"


def _field(message: Descriptor, name: str) -> FieldDescriptor | None:
    found: FieldDescriptor | None = message.fields_by_name.get(name) or message.fields_by_camelcase_name.get(name)
    return found


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _shown(value: Any) -> str:
    """Returns the value as JSON, cut where it is long."""
    return harmless(json.dumps(value), _MAX_SHOWN)
