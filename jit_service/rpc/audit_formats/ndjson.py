"""Exports audit events as lines of JSON, in one of several formats."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from google.api.httpbody_pb2 import HttpBody
from google.protobuf.json_format import MessageToDict

from jit_service.domain.audit.event import RecordedEvent
from jit_service.domain.errors import InvalidField
from jit_service.domain.language.name import harmless
from jit_service.rpc.audit_formats.cloudevents import cloud_event
from jit_service.rpc.audit_formats.ocsf import ocsf_event
from jit_service.rpc.audit_formats.plain_record import plain_json
from jit_service.rpc.services.audit_messages import audit_message
from jit_service.storage.audit_records import StoredRecord

NDJSON: Final = "application/x-ndjson"
_CHUNK_BYTES: Final = 256 << 10
Encode = Callable[[StoredRecord], bytes]


def encoder(name: str, *, source: str) -> Encode:
    """Returns the function that encodes an event in the format; the default is `jitaccess`. Raises InvalidField."""
    formats: dict[str, Encode] = {
        "jitaccess": audit_event,
        "cloudevents": lambda record: cloud_event(record.recorded, source=source),
        "ocsf": lambda record: ocsf_event(record.recorded),
    }
    if name and name not in formats:
        raise InvalidField("format", f"is {harmless(name, 100)!a}; it must be one of {', '.join(formats)}")
    return formats[name or "jitaccess"]


def audit_event(record: StoredRecord) -> bytes:
    """Returns the AuditEvent message in proto3 JSON."""
    plain = plain_json(*record) if isinstance(record.payload, bytes) else None
    return message_json(record.recorded) if plain is None else plain


def message_json(recorded: RecordedEvent) -> bytes:
    """Returns the AuditEvent message in proto3 JSON, of any record."""
    return json.dumps(MessageToDict(audit_message(recorded)), separators=(",", ":")).encode()


def bodies(pages: Iterable[Iterable[StoredRecord]], encode: Encode) -> Iterator[HttpBody]:
    """Yields the events as parts of one body, each of whole lines.

    The first part, and the part of a page without events, is empty. It shows the content type, and that the export
    goes on.
    """
    yield _body([])
    for page in pages:
        lines: list[bytes] = []
        size = 0
        for record in page:
            lines.append(encode(record))
            size += len(lines[-1])
            if size >= _CHUNK_BYTES:
                yield _body(lines)
                lines, size = [], 0
        yield _body(lines)


def _body(lines: list[bytes]) -> HttpBody:
    # The empty text at the end is for the line break of the last line.
    return HttpBody(content_type=NDJSON, data=b"\n".join([*lines, b""]) if lines else b"")
