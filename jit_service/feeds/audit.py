"""Use case of tailing the audit log: every record as it is committed, in order, once each, from any place on.

It follows the places of the records, since checks append some without moving the revision. Nothing is kept for who
tails: one that is slow, or comes back after a restart, reads on from its place, and no writer notices.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from jit_service.domain.audit.audit_filter import matches
from jit_service.domain.audit.event import RecordedEvent
from jit_service.domain.errors import InvalidField
from jit_service.domain.language.filter import Node, parse
from jit_service.feeds.grants import HEARTBEAT_SECONDS
from jit_service.storage import Store, query
from jit_service.storage.head import BEGINNING, Head
from jit_service.storage.head_follower import HeadFollower

_PAGE: Final = 200


@dataclass(frozen=True, kw_only=True)
class AuditUpdate:
    """A record, or with none a sign of life. Everything up to `seq` has been told, and tailing goes on after it."""

    seq: int
    recorded: RecordedEvent | None = None


def tail(
    store: Store,
    *,
    filter_text: str,
    start_seq: int,
    follower: HeadFollower,
    gone: Callable[[], bool],
    heartbeat_seconds: float = HEARTBEAT_SECONDS,
) -> Iterator[AuditUpdate]:
    """Returns what the filter means of the records after `start_seq`, with 0 of those to come, until `gone`.

    The first is a sign of life. Raises InvalidField before anything is told; then StoreUnavailable, ServiceStopping.
    """
    node, last = parse(filter_text, query.AUDIT_FIELDS), _start(store, start_seq)
    return _told(store, node, last, follower=follower, gone=gone, heartbeat_seconds=heartbeat_seconds)


def _told(
    store: Store,
    node: Node | None,
    last: int,
    *,
    follower: HeadFollower,
    gone: Callable[[], bool],
    heartbeat_seconds: float,
) -> Iterator[AuditUpdate]:
    yield AuditUpdate(seq=last)
    told_at, at = time.monotonic(), BEGINNING
    while not gone():
        page, last, head = _news(store, last, at=at)
        at = Head(revision=0, seq=page[-1].seq, hash=page[-1].hash) if page else head
        for recorded in page:
            if matches(node, recorded):
                yield AuditUpdate(seq=recorded.seq, recorded=recorded)
                told_at = time.monotonic()
        if time.monotonic() - told_at >= heartbeat_seconds:
            yield AuditUpdate(seq=last)
            told_at = time.monotonic()
        if last == head.seq:
            silence = time.monotonic() - told_at
            follower.wait_for_record(after=last, seconds=max(0.0, heartbeat_seconds - silence), gone=gone)


def _start(store: Store, start_seq: int) -> int:
    head = store.head().seq
    if not 0 <= start_seq <= head:
        raise InvalidField("start_seq", f"is {start_seq}; the log has {head} records")
    return start_seq or head


def _news(store: Store, last: int, *, at: Head) -> tuple[list[RecordedEvent], int, Head]:
    """Returns a page of records after the place, up to which place that is all, and where the log ends.

    Raises InvalidField where the log does not follow on `at`: not even what took the place of another is told twice.
    """
    with store.snapshot() as snapshot:
        if snapshot.seq < last or not snapshot.has_been_at(at):
            raise InvalidField(
                "start_seq",
                f"is of another history than the log of {snapshot.seq} records, which was brought back from a backup, "
                "has lost commits or was cut",
            )
        head = snapshot.head
        page = snapshot.audit_records(after=last, until=head.seq, limit=_PAGE) if head.seq > last else []
    # What somebody deleted, only verifying the log tells.
    return page, page[-1].seq if page else head.seq, head
