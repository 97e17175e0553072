"""Audit records that are stored together: compressed, a line each, with few of their hashes.

A block is a row of the log with the records of one commit, or a piece: the rows of many commits, merged later. The
hashes between are computed again when they are read (docs/adr/0052-keep-checks-in-blocks.md).
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import cached_property
from hashlib import sha256
from itertools import pairwise
from typing import Any, Final, NamedTuple

import zstandard

from jit_service.domain.audit.chain import link

MAX_RECORDS: Final = 2**14
"""No block has more records."""
MARK_EVERY: Final = 64
"""A piece keeps at least one hash for so many records, unless one commit had more."""
_LINE: Final = b"\n"
_LEVEL: Final = 1
# Whoever can write to the database must not fill the service's memory by a row that unpacks without end.
_MAX_BYTES: Final = 64 * 2**20
_PLACE_BYTES: Final = 4
_HASH_BYTES: Final = 32
_mine = threading.local()


class Mark(NamedTuple):
    """The chain's hash at one record of a block; the first record has the number 1."""

    number: int
    hash: bytes


class Block:
    """Records in order. The last has the seq `last` and the hash of the last of the marks."""

    def __init__(self, last: int, body: bytes, payloads: Sequence[Any] | None, count: int, marks: Sequence[Mark]):
        self.last = last
        self.body = body
        # Somebody may have changed it in the store.
        self.count = count if 0 < count <= MAX_RECORDS else 1
        self.marks = marks
        self._payloads = payloads

    @property
    def first(self) -> int:
        """The seq of the first record."""
        return self.last - self.count + 1

    @property
    def hash(self) -> bytes:
        """The hash of the last record."""
        return self.marks[-1].hash

    @cached_property
    def payloads(self) -> Sequence[Any]:
        """The bytes of each record; None for each where there are not as many as the row says."""
        found = self.body.split(_LINE) if self._payloads is None else self._payloads
        return found if len(found) == self.count else (None,) * self.count

    @property
    def is_whole(self) -> bool:
        """Whether the records could be read. What somebody changed in the store may be no bytes."""
        return isinstance(self.payloads[0], bytes)

    def places_of(self, text: bytes) -> Iterator[int]:
        """Yields the place of each record that contains the text, in order; the first record has the place 0."""
        if self.count == 1:
            # Whoever changed it in the store may have put line breaks into it.
            if text in self.body:
                yield 0
            return
        place, line = 0, 0
        while (at := self.body.find(text, line)) >= 0:
            place += self.body.count(_LINE, line, at)
            yield place
            place += 1
            if (end := self.body.find(_LINE, at)) < 0:
                return
            line = end + 1

    def hashes(self, before: bytes) -> Iterator[bytes]:
        """Yields the hash of each record, as it is stored where it is. `before` is that of the record before."""
        stored = dict(self.marks)
        for number, payload in enumerate(self.payloads, start=1):
            before = stored.get(number) or _link(before, self.first + number - 1, payload)
            yield before

    def hash_at(self, seq: int, before: bytes) -> bytes:
        """Returns the hash of the record with the seq, from the nearest one that is stored before it."""
        wanted = seq - self.first + 1
        place = bisect_right(self.marks, wanted, key=lambda mark: mark.number)
        begin, previous = self.marks[place - 1] if place else Mark(0, before)
        for number in range(begin, wanted):
            previous = _link(previous, self.first + number, self.payloads[number])
        return previous

    def first_fault(self, before: bytes, *, done: int = 0) -> tuple[int, str] | None:
        """Returns the seq from which the records are not what was hashed, and what to say of it; None if they are.

        `before` is the hash of the record before the first one, or of the record with the number `done`, after which
        the records are recomputed.
        """
        if not self.is_whole:
            return self.first + done, f"{self._named(done + 1, self.count)} cannot be read"
        first, payloads = self.first, self.payloads
        for begin, end in pairwise((Mark(done, before), *(mark for mark in self.marks if mark.number > done))):
            previous = begin.hash
            # As `link`, without its call: verifying a log of ten million records spends most of its time here.
            for seq, payload in enumerate(payloads[begin.number : end.number], start=first + begin.number):
                previous = sha256(previous + seq.to_bytes(8, "big") + payload).digest()
            if previous != end.hash:
                return first + begin.number, f"{self._named(begin.number + 1, end.number)} is not what was hashed"
        return None

    def _named(self, begin: int, end: int) -> str:
        first = self.first - 1
        return f"record {first + begin}" if begin >= end else f"one of the records {first + begin} to {first + end}"


def stored(last: int, hash_: bytes, payload: Any, count: int | None) -> Block:
    """Returns the block of a row of the log; `count` is None for a row of one record, whose bytes are the payload."""
    marks = (Mark(count or 1, hash_),)
    if count is None:
        return Block(last, payload if isinstance(payload, bytes) else b"", (payload,), 1, marks)
    return Block(last, unpack(payload), None, count, marks)


def pack(payloads: Sequence[bytes]) -> bytes:
    """Returns the records as one compressed text. Raises ValueError for a record with a line break."""
    return pack_body(_LINE.join(payloads), len(payloads))


def pack_body(body: bytes, count: int) -> bytes:
    """As `pack`, for records that are joined by line breaks already."""
    if body.count(_LINE) != count - 1:
        raise ValueError("a record has a line break")
    compressor = getattr(_mine, "compressor", None)
    if compressor is None:
        compressor = _mine.compressor = zstandard.ZstdCompressor(level=_LEVEL)
    packed: bytes = compressor.compress(body)
    return packed


def unpack(packed: object) -> bytes:
    """Returns the records, joined by line breaks; no bytes for what `pack` did not make."""
    decompressor = getattr(_mine, "decompressor", None)
    if decompressor is None:
        decompressor = _mine.decompressor = zstandard.ZstdDecompressor()
    if not isinstance(packed, bytes):
        return b""
    try:
        # Frames of unknown size, which report -1, are none of `pack`.
        if not 0 <= zstandard.frame_content_size(packed) <= _MAX_BYTES:
            return b""
        body: bytes = decompressor.decompress(packed)
    except zstandard.ZstdError:
        return b""
    return body


def join_marks(blocks: Sequence[Block]) -> bytes:
    """Returns the marks of a piece made of the blocks: of the ends of the blocks, as many as MARK_EVERY asks for."""
    kept = b""
    count = last = 0
    for block in blocks:
        count += block.count
        if count - last >= MARK_EVERY or block is blocks[-1]:
            kept += count.to_bytes(_PLACE_BYTES, "big") + block.hash
            last = count
    return kept


def read_marks(stored_marks: bytes, last: Mark) -> list[Mark]:
    """Returns the marks that `join_marks` made. `last` is that of the row, which counts where they say otherwise."""
    size = _PLACE_BYTES + _HASH_BYTES
    marks = [
        Mark(int.from_bytes(stored_marks[at : at + _PLACE_BYTES], "big"), stored_marks[at + _PLACE_BYTES : at + size])
        for at in range(0, len(stored_marks) - size + 1, size)
    ]
    return [*(mark for mark in marks if mark.number < last.number), last]


def _link(previous: bytes, seq: int, payload: Any) -> bytes:
    return link(previous, seq, payload if isinstance(payload, bytes) else b"")
