"""Use case of exporting the audit log: whole or in part, in order, at the reader's pace.

It is read by the places of the records, page by page, each in a snapshot of its own: records do not change, so no
transaction need stay open for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from jit_service.domain.audit.audit_filter import AUDIT_FIELDS
from jit_service.domain.errors import InvalidField
from jit_service.domain.language.filter import Node, parse
from jit_service.storage import Store
from jit_service.storage.audit_records import StoredRecord
from jit_service.storage.audit_search import meant

# Two pieces of the log: in each page the snapshot costs as much as 100 records.
_PAGE: Final = 2048


def export(
    store: Store, *, filter_text: str, start_seq: int, end_seq: int, gone: Callable[[], bool]
) -> Iterator[list[StoredRecord]]:
    """Returns what the filter means of the records after `start_seq` up to `end_seq`, page by page, until `gone`.

    With 0 from the first one that is still there, and up to the last one that there is now. A page in which there is
    nothing of it is empty. Raises InvalidField, before anything is read, and RecordsPruned, also later.
    """
    node = parse(filter_text, AUDIT_FIELDS)
    return _pages(store, node, *_bounds(store, start_seq, end_seq), gone)


def _pages(
    store: Store, node: Node | None, last: int, until: int, gone: Callable[[], bool]
) -> Iterator[list[StoredRecord]]:
    while last < until and not gone():
        with store.snapshot() as snapshot:
            snapshot.log_beginning.demand_kept(last, "start_seq")
            page = snapshot.audit_records(after=last, until=until, enough=_PAGE)
        # What somebody deleted, only verifying the log tells.
        last = page[-1].seq if page else until
        yield page if node is None else meant(node, page)


def _bounds(store: Store, start_seq: int, end_seq: int) -> tuple[int, int]:
    """Returns the seqs after which and up to which to export."""
    with store.snapshot() as snapshot:
        head, beginning = snapshot.seq, snapshot.log_beginning
    if not 0 <= start_seq <= head:
        raise InvalidField("start_seq", f"is {start_seq}; the log has {head} records")
    if end_seq and not start_seq <= end_seq <= head:
        raise InvalidField("end_seq", f"is {end_seq}; it must be from {start_seq} to {head}, where the log ends")
    start_seq = start_seq or beginning.seq
    beginning.demand_kept(start_seq, "start_seq")
    if end_seq:
        beginning.demand_kept(end_seq, "end_seq")
    return start_seq, end_seq or head
