"""Merges rows of the audit log into pieces, which are small, and summarised for searches.

It changes no byte of a record and no hash: it only stores them otherwise. A piece takes its rows' place in one
transaction, so that whoever reads sees either; where two processes merge the same rows, one of them finds them gone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from jit_service.storage.audit_block import Block, join_marks, pack_body
from jit_service.storage.audit_log import AuditLog
from jit_service.storage.audit_summary import sealed_text, summarize
from jit_service.storage.sealing import Sealer

PIECE: Final = 1024
"""A piece has at least so many records, and the row that completes it as a whole."""
_MAX_BYTES: Final = 4 * 2**20


def next_blocks(log: AuditLog) -> list[Block]:
    """Returns the rows of the next piece, in order; none while there are too few."""
    found: list[Block] = []
    size = 0
    # No more than are wanted: to unpack rows is most of what merging costs.
    for block in log.rows_with(PIECE, log.merged_until()):
        if not block.is_whole:
            raise ValueError(f"the record {block.first} is not as it was recorded; verify the log")
        found.append(block)
        size += len(block.body)
        if size >= _MAX_BYTES:
            break
    return found


def merged(blocks: list[Block], sealer: Sealer, *, rest: Callable[[], None]) -> tuple[list[Any], dict[int, bytes]]:
    """Returns the columns of the piece and its digests. `rest` is called between its steps."""
    body = b"\n".join(block.body for block in blocks)
    last, count = blocks[-1], sum(block.count for block in blocks)
    rest()
    payload = pack_body(body, count)
    rest()
    summary = summarize([record for block in blocks for record in block.payloads], rest=rest)
    seal = sealer.of_summary(last.last, last.hash, sealed_text(summary))
    values = [last.last, count, summary.first_at, summary.last_at, last.hash, seal, join_marks(blocks), payload]
    return values, summary.digests
