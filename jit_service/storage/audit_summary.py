"""What a piece of the audit log says of its records, so that a search reads only pieces that may have what it wants.

For each field it has a digest of three bytes of each distinct value. A digest that is missing proves that no record has
the value; one that is there may be of another value. So a search loses nothing, and reads few pieces in vain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple
from zlib import crc32

import msgspec

from jit_service.domain.audit.event import EventType
from jit_service.storage.columns import EPOCH, MICROSECOND

# Stored numbers: they keep their meaning for ever.
FIELDS: Final = {
    "event_type": 1,
    "principal": 2,
    "subject": 3,
    "resources": 4,
    "actions": 5,
    "decision": 6,
    "reason": 7,
    "grant": 8,
    "policy": 9,
    "method": 10,
    "source_address": 11,
    "subject_source_ip": 12,
    "trace_id": 13,
    "request_id": 14,
}
"""The fields of the filter that pieces are summarised by, with the numbers that they are stored under."""
DIGEST_BYTES: Final = 3
_AT_ONCE: Final = 128


class _Origin(msgspec.Struct, frozen=True):
    method: str = ""
    source_address: str = ""
    trace_id: str = ""
    request_id: str = ""


class _Record(msgspec.Struct, frozen=True):
    type: str = EventType.UNREADABLE
    at: datetime = EPOCH
    origin: _Origin = _Origin()
    principal: str = ""
    subject: str = ""
    resources: tuple[str, ...] = ()
    actions: tuple[str, ...] = ()
    decision: str = ""
    reason: str = ""
    grant: str = ""
    policy: str = ""
    subject_source_ip: str = ""


class Outline(NamedTuple):
    """What the records of a block add to a summary, as whoever wrote them knows it without reading them.

    The instants are the first and the last of the records. `digests` has for each record the digest of its value in
    each of FIELDS, in their order: of records that have one value in each field.
    """

    first_at: datetime
    last_at: datetime
    digests: Sequence[bytes]


_RECORD: Final = msgspec.json.Decoder(_Record)
_RECORDS: Final = msgspec.json.Decoder(list[_Record])
_UNREADABLE: Final = _Record()


class Summary(NamedTuple):
    """The first and last instant of the records, in microseconds since 1970, and the digests by field number."""

    first_at: int
    last_at: int
    digests: dict[int, bytes]


def summarize(
    payloads: Sequence[bytes], outlines: Sequence[Outline] = (), *, rest: Callable[[], None] = lambda: None
) -> Summary:
    """Returns the summary of the records and of those that are outlined, together at least one.

    A record that is no event any more counts as an unreadable one. `rest` is called now and then.
    """
    instants = [instant for outline in outlines for instant in (outline.first_at, outline.last_at)]
    outlined = {digests for outline in outlines for digests in outline.digests}
    found = _columns(outlined, tuple(FIELDS.values())) if outlined else {number: set() for number in FIELDS.values()}
    rest()
    if payloads:
        read_instants, values = _values(payloads, rest)
        instants += read_instants
        for field, texts in values.items():
            found[FIELDS[field]] |= _digests(texts)
    digests = {number: b"".join(sorted(found[number])) for number in FIELDS.values()}
    return Summary(microseconds(min(instants)), microseconds(max(instants)), digests)


def _columns(rows: set[bytes], numbers: Sequence[int]) -> dict[int, set[bytes]]:
    """Returns the distinct digests of each field. By halves, since most fields have few values."""
    if len(numbers) == 1:
        return {numbers[0]: rows}
    half = len(numbers) // 2
    place = half * DIGEST_BYTES
    left, right = {row[:place] for row in rows}, {row[place:] for row in rows}
    return _columns(left, numbers[:half]) | _columns(right, numbers[half:])


def _values(payloads: Sequence[bytes], rest: Callable[[], None]) -> tuple[list[datetime], dict[str, set[str]]]:
    """Reads the records. Returns their instants, and the distinct values of each field."""
    records: list[_Record] = []
    for at in range(0, len(payloads), _AT_ONCE):
        records += _read(payloads[at : at + _AT_ONCE])
        rest()
    origins = [record.origin for record in records]
    values = {
        "event_type": {record.type for record in records},
        "principal": {record.principal for record in records},
        "subject": {record.subject for record in records},
        "resources": {value for record in records for value in record.resources},
        "actions": {value for record in records for value in record.actions},
        "decision": {record.decision for record in records},
        "reason": {record.reason for record in records},
        "grant": {record.grant for record in records},
        "policy": {record.policy for record in records},
        "method": {origin.method for origin in origins},
        "source_address": {origin.source_address for origin in origins},
        "subject_source_ip": {record.subject_source_ip for record in records},
        "trace_id": {origin.trace_id for origin in origins},
        "request_id": {origin.request_id for origin in origins},
    }
    return [record.at for record in records], values


def sealed_text(summary: Summary) -> str:
    """Returns the summary as it is sealed: a text that only an equal one has."""
    digests = ",".join(f"{field}:{found.hex()}" for field, found in sorted(summary.digests.items()))
    return f"{summary.first_at},{summary.last_at},{digests}"


def digest(value: str) -> bytes:
    """Returns the digest of a value: not a secret, and no proof; it only tells which pieces to read."""
    return crc32(value.encode("utf-8", "surrogatepass")).to_bytes(4, "big")[:DIGEST_BYTES]


def _digests(values: Iterable[str]) -> set[bytes]:
    return set(map(digest, values))


def microseconds(instant: datetime) -> int:
    """Returns the instant as the store has it."""
    return (instant - EPOCH) // MICROSECOND


def _read(payloads: Sequence[bytes]) -> list[_Record]:
    try:
        return _RECORDS.decode(b"[" + b",".join(payloads) + b"]")
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return list(_each(payloads))


def _each(payloads: Iterable[Any]) -> Iterable[_Record]:
    for payload in payloads:
        try:
            yield _RECORD.decode(payload)
        except (msgspec.MsgspecError, UnicodeDecodeError, TypeError):
            yield _UNREADABLE
