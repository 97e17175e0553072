"""Exports audit events as lines of JSON, in one of several formats."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Final

from google.api.httpbody_pb2 import HttpBody
from google.protobuf.json_format import MessageToDict

from jit_service.domain.audit.event import RecordedEvent
from jit_service.domain.errors import InvalidField
from jit_service.domain.language.name import harmless
from jit_service.rpc.audit_formats.cloudevents import cloud_event
from jit_service.rpc.audit_formats.ocsf import ocsf_event
from jit_service.rpc.services.audit_messages import audit_message

NDJSON: Final = "application/x-ndjson"
_CHUNK_BYTES: Final = 256 << 10
Encode = Callable[[RecordedEvent], bytes]


def encoder(name: str, *, source: str) -> Encode:
    """Returns the function that encodes an event in the format; the default is `jitaccess`. Raises InvalidField."""
    formats: dict[str, Encode] = {
        "jitaccess": audit_event,
        "cloudevents": partial(cloud_event, source=source),
        "ocsf": ocsf_event,
    }
    if name and name not in formats:
        raise InvalidField("format", f"is {harmless(name, 100)!a}; it must be one of {', '.join(formats)}")
    return formats[name or "jitaccess"]


def audit_event(recorded: RecordedEvent) -> bytes:
    """Returns the AuditEvent message in proto3 JSON."""
    return json.dumps(MessageToDict(audit_message(recorded)), separators=(",", ":")).encode()


def bodies(pages: Iterable[Iterable[RecordedEvent]], encode: Encode) -> Iterator[HttpBody]:
    """Yields the events as parts of one body, each of whole lines.

    The first part, and the part of a page without events, is empty. It shows the content type, and that the export
    goes on.
    """
    yield _body(b"")
    for page in pages:
        part = b""
        for recorded in page:
            part += encode(recorded) + b"\n"
            if len(part) >= _CHUNK_BYTES:
                yield _body(part)
                part = b""
        yield _body(part)


def _body(data: bytes) -> HttpBody:
    return HttpBody(content_type=NDJSON, data=data)
