"""The use case of TailAuditEvents: streams every audit record once, in order, from any place on.

It follows the places of the records, since checks append records without moving the revision. The service keeps no
state for a reader. A reader that is slow, or that comes back after a restart, goes on from its place without an effect
on writers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from jit_service.domain.audit.audit_filter import AUDIT_FIELDS
from jit_service.domain.errors import InvalidField
from jit_service.domain.language.filter import Node, parse
from jit_service.feeds.grants import HEARTBEAT_SECONDS
from jit_service.storage import Store
from jit_service.storage.audit_records import StoredRecord
from jit_service.storage.audit_search import meant
from jit_service.storage.head import BEGINNING, Head
from jit_service.storage.head_follower import HeadFollower

_PAGE: Final = 200
_MOST: Final = 1000
# gRPC clients accept 4 MiB. A record's message may be six times as long as what is stored: each number of a context's
# list takes eleven bytes instead of two.
_BATCH_BYTES: Final = 512 * 1024


@dataclass(frozen=True, kw_only=True)
class AuditUpdate:
    """Streamed records, or a heartbeat without any. All up to `seq` is sent; readers resume there."""

    seq: int
    records: tuple[StoredRecord, ...] = ()


def tail(
    store: Store,
    *,
    filter_text: str,
    start_seq: int,
    batch_size: int = 0,
    follower: HeadFollower,
    gone: Callable[[], bool],
    heartbeat_seconds: float = HEARTBEAT_SECONDS,
) -> Iterator[AuditUpdate]:
    """Returns the stream of records after `start_seq` (0: of those to come) that match the filter, until `gone`.

    An update has up to `batch_size` records, at most 1,000 and half a MiB; one for 0. Nothing waits for more of them.
    The first update is a heartbeat. Raises InvalidField, RecordsPruned at once; the stream raises these,
    StoreUnavailable, ServiceStopping.
    """
    if batch_size < 0:
        raise InvalidField("batch_size", f"is {batch_size}; 0 to {_MOST} are allowed")
    node, last = parse(filter_text, AUDIT_FIELDS), _start(store, start_seq)
    size = min(batch_size or 1, _MOST)
    return _updates(store, node, last, size, follower=follower, gone=gone, heartbeat_seconds=heartbeat_seconds)


def _updates(
    store: Store,
    node: Node | None,
    last: int,
    size: int,
    *,
    follower: HeadFollower,
    gone: Callable[[], bool],
    heartbeat_seconds: float,
) -> Iterator[AuditUpdate]:
    yield AuditUpdate(seq=last)
    sent_at, at = time.monotonic(), BEGINNING
    while not gone():
        page, last, head = _news(store, last, at=at, enough=max(size, _PAGE))
        at = Head(revision=0, seq=page[-1].seq, hash=page[-1].hash) if page else head
        for records in _batches(page if node is None else meant(node, page), size):
            yield AuditUpdate(seq=records[-1].seq, records=records)
            sent_at = time.monotonic()
        if time.monotonic() - sent_at >= heartbeat_seconds:
            yield AuditUpdate(seq=last)
            sent_at = time.monotonic()
        if last == head.seq:
            silence = time.monotonic() - sent_at
            follower.wait_for_record(after=last, seconds=max(0.0, heartbeat_seconds - silence), gone=gone)


def _batches(records: list[StoredRecord], size: int) -> Iterator[tuple[StoredRecord, ...]]:
    """Yields the records in order, up to so many at once, and no more bytes than a client accepts."""
    begin, held = 0, 0
    for end, record in enumerate(records):
        length = len(record.payload) if isinstance(record.payload, bytes) else 0
        if end - begin == size or (held and held + length > _BATCH_BYTES):
            yield tuple(records[begin:end])
            begin, held = end, 0
        held += length
    if begin < len(records):
        yield tuple(records[begin:])


def _start(store: Store, start_seq: int) -> int:
    with store.snapshot() as snapshot:
        head, beginning = snapshot.seq, snapshot.log_beginning
    if not 0 <= start_seq <= head:
        raise InvalidField("start_seq", f"is {start_seq}; the log has {head} records")
    if start_seq:
        beginning.demand_kept(start_seq, "start_seq")
    return start_seq or head


def _news(store: Store, last: int, *, at: Head, enough: int) -> tuple[list[StoredRecord], int, Head]:
    """Returns a page of records after the place `last`, the place up to which they are complete, and the log's head.

    The page has `enough` records, if there are as many, and those of whole blocks. Raises InvalidField if the log does
    not contain `at`: a record must not be streamed in the place of another.
    """
    with store.snapshot() as snapshot:
        snapshot.log_beginning.demand_kept(last, "start_seq")
        if snapshot.seq < last or not snapshot.has_been_at(at):
            raise InvalidField(
                "start_seq",
                f"is of another history than the log of {snapshot.seq} records, which was brought back from a backup, "
                "has lost commits or was cut",
            )
        head = snapshot.head
        page = snapshot.audit_records(after=last, until=head.seq, enough=enough) if head.seq > last else []
    # A deleted record leaves a gap here, which only verifying the log reveals.
    return page, page[-1].seq if page else head.seq, head
