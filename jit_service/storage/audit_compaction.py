"""Merges rows of the audit log into pieces, which are small, and summarised for searches.

It changes no byte of a record and no hash: it only stores them otherwise. A piece takes its rows' place in one
transaction, so that whoever reads sees either; where two processes merge the same rows, one of them finds them gone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, Final

from jit_service.storage.audit_append import Appended
from jit_service.storage.audit_block import Block, join_marks, pack_body
from jit_service.storage.audit_log import AuditLog
from jit_service.storage.audit_summary import Outline, sealed_text, summarize
from jit_service.storage.sealing import Sealer

PIECE: Final = 1024
"""A piece has at least so many records, and the row that completes it as a whole."""
_MAX_BYTES: Final = 4 * 2**20
_MOST_BYTES: Final = 8 * 2**20


class OwnBlocks:
    """The latest blocks that this process wrote, with their outlines, until they are merged.

    Without it half of what merging costs is to read records whose writer knew what a summary says of them. The latest
    8 MiB are kept: 10,000 records that were written one by one, and six times as many of full blocks. Those of blocks
    that others merge, and of more than can be merged in time, are forgotten.
    """

    def __init__(self) -> None:
        self._kept: dict[int, tuple[bytes, Outline]] = {}
        self._size = 0
        # Those who append add, and who merges forgets.
        self._lock = threading.Lock()

    def add(self, appended: Appended, outline: Outline) -> None:
        """Keeps the outline of what was appended."""
        with self._lock:
            if appended.seq in self._kept:
                # The store went back to an earlier state meanwhile.
                self._drop(appended.seq)
            self._kept[appended.seq] = appended.stored, outline
            self._size += _size(appended.stored, outline)
            while self._size > _MOST_BYTES:
                self._drop(next(iter(self._kept)))

    def outline_of(self, block: Block) -> Outline | None:
        """Returns the outline of the block, if it is stored exactly as it was written."""
        stored, outline = self._kept.get(block.last, (b"", None))
        return outline if outline is not None and block.is_stored_as(stored) else None

    def forget(self, until: int) -> None:
        """Drops the blocks up to the seq."""
        with self._lock:
            for seq in list(self._kept):
                if seq > until:
                    return
                self._drop(seq)

    def _drop(self, seq: int) -> None:
        self._size -= _size(*self._kept.pop(seq))


def _size(stored: bytes, outline: Outline) -> int:
    return len(stored) + sum(map(len, outline.digests))


def next_blocks(log: AuditLog, own: OwnBlocks) -> list[tuple[Block, Outline | None]]:
    """Returns the rows of the next piece, in order, with the outlines that are known; none while there are too few."""
    found: list[tuple[Block, Outline | None]] = []
    size = 0
    merged_until = log.merged_until()
    own.forget(merged_until)
    # No more than are wanted: to unpack rows is much of what merging costs.
    for block in log.rows_with(PIECE, merged_until):
        outline = own.outline_of(block)
        if outline is None and not block.is_whole:
            raise ValueError(f"the record {block.first} is not as it was recorded; verify the log")
        found.append((block, outline))
        size += len(block.body)
        if size >= _MAX_BYTES:
            break
    return found


def merged(
    outlined: Sequence[tuple[Block, Outline | None]], sealer: Sealer, *, rest: Callable[[], None]
) -> tuple[list[Any], dict[int, bytes]]:
    """Returns the columns of the piece and its digests. `rest` is called between its steps."""
    blocks = [block for block, _ in outlined]
    body = b"\n".join(block.body for block in blocks)
    last, count = blocks[-1], sum(block.count for block in blocks)
    rest()
    payload = pack_body(body)
    rest()
    unknown = [record for block, outline in outlined if outline is None for record in block.payloads]
    summary = summarize(unknown, [outline for _, outline in outlined if outline is not None], rest=rest)
    seal = sealer.of_summary(last.last, last.hash, sealed_text(summary))
    values = [last.last, count, summary.first_at, summary.last_at, last.hash, seal, join_marks(blocks), payload]
    return values, summary.digests
