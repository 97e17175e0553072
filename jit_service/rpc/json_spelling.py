"""Faults of fields as a caller over REST reads and writes them: by the JSON names of the request's message.

Envoy transcodes JSON to the message, so whoever called over REST never saw the proto's names. gRPC callers did.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Final

from google.protobuf.descriptor import Descriptor

from jit_service.domain.audit.audit_filter import AUDIT_FIELDS
from jit_service.domain.errors import InvalidField
from jit_service.domain.language.field_name import json_name
from jit_service.rpc.strictness import is_map, method_descriptor
from jit_service.storage import query

# A word of a sentence: neither within quotes nor part of a name, a path or a pattern.
_QUOTED_OR_WORD: Final = re.compile(r"""'[^']*'|"[^"]*"|`[^`]*`|(?<![^\s(])[a-z]+(?:_[a-z0-9]+)+(?=[\s,;:.)]|$)""")
_OF_FILTERS: Final = frozenset(query.GRANT_FIELDS) | frozenset(AUDIT_FIELDS)


def in_json_names(error: InvalidField, method: str) -> InvalidField:
    """Returns the faults of a request to the method with JSON names in their paths and texts.

    A condition's text has names of its own, so what is said of one stays as it is.
    """
    request = method_descriptor(method).input_type
    first, *others = [_in_json_names(fault, request) for fault in error.each]
    return InvalidField(first.field, first.fault, more=others)


def _in_json_names(fault: InvalidField, request: Descriptor) -> InvalidField:
    text = fault.fault
    if not fault.field.endswith("condition"):
        known = _fields_below(request) | _OF_FILTERS
        text = _QUOTED_OR_WORD.sub(lambda found: json_name(found[0]) if found[0] in known else found[0], text)
    return InvalidField(_path(fault.field, request), text)


def _path(path: str, request: Descriptor) -> str:
    """Returns the path in JSON names as far as it is one of fields; the keys of a map are the caller's own."""
    written: list[str] = []
    message: Descriptor | None = request
    parts = path.split(".")
    for position, part in enumerate(parts):
        name, bracket, index = part.partition("[")
        field = message.fields_by_name.get(name) if message is not None else None
        if field is None:
            return ".".join([*written, *parts[position:]])
        written.append(field.json_name + bracket + index)
        message = None if is_map(field) else field.message_type
    return ".".join(written)


@cache
def _fields_below(request: Descriptor) -> frozenset[str]:
    """Returns the names of all fields of the message and of those in it."""
    names: set[str] = set()
    waiting, seen = [request], {request.full_name}
    while waiting:
        for field in waiting.pop().fields:
            names.add(field.name)
            if field.message_type is not None and field.message_type.full_name not in seen:
                seen.add(field.message_type.full_name)
                waiting.append(field.message_type)
    return frozenset(names)
