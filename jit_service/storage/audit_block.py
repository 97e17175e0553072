"""Audit records that are stored together: compressed, a line each, with few of their hashes.

A block is a row of the log with the records of one commit, or a piece: the rows of many commits, merged later. The
hashes between are computed again when they are read (docs/adr/0052-keep-checks-in-blocks.md).
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
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
_UNREADABLE: Final = -1
_PLACE_BYTES: Final = 4
_HASH_BYTES: Final = 32
_mine = threading.local()


class Mark(NamedTuple):
    """The chain's hash at one record of a block; the first record has the number 1."""

    number: int
    hash: bytes


class Line(NamedTuple):
    """A record of a block: its place, from 0, and where its bytes begin and end in the body.

    Where they cannot be told apart, because somebody changed the row, the end is negative.
    """

    place: int
    begin: int
    end: int


class Block:
    """Records in order. The last has the seq `last` and the hash of the last of the marks.

    `stored` is what `pack` made, or the one record where `is_packed` is false. It is unpacked when somebody looks into
    it: a reader that has enough, or that only wants a hash, does not pay for it.
    """

    def __init__(self, last: int, stored: Any, count: int, marks: Sequence[Mark], *, is_packed: bool = True):
        self.last = last
        # Somebody may have changed it in the store.
        self.count = count if 0 < count <= MAX_RECORDS else 1
        self.marks = marks
        self._stored = stored
        self._is_packed = is_packed
        # The hashes that were recomputed last: of the records after the one with the number.
        self._recomputed: tuple[int, list[bytes]] = (0, [])

    @property
    def first(self) -> int:
        """The seq of the first record."""
        return self.last - self.count + 1

    @property
    def hash(self) -> bytes:
        """The hash of the last record."""
        return self.marks[-1].hash

    @cached_property
    def body(self) -> bytes:
        """The records, joined by line breaks."""
        if self._is_packed:
            return unpack(self._stored)
        return self._stored if isinstance(self._stored, bytes) else b""

    @cached_property
    def payloads(self) -> Sequence[Any]:
        """The bytes of each record; None for each where there are not as many as the row says."""
        found = self.body.split(_LINE) if self._is_packed else (self._stored,)
        return found if len(found) == self.count else (None,) * self.count

    def is_stored_as(self, stored: bytes) -> bool:
        """Whether the row has exactly these bytes."""
        return bool(self._stored == stored)

    @property
    def is_whole(self) -> bool:
        """Whether the records could be read. What somebody changed in the store may be no bytes."""
        return isinstance(self.payloads[0], bytes)

    def lines(self) -> Iterator[Line]:
        """Yields where each record is, the last one first."""
        if not self._is_packed or not self.is_whole:
            yield from (Line(place, 0, _UNREADABLE) for place in reversed(range(self.count)))
            return
        end = len(self.body)
        for place in reversed(range(self.count)):
            begin = self.body.rfind(_LINE, 0, end) + 1
            yield Line(place, begin, end)
            end = begin - 1

    def lines_with(self, texts: Sequence[bytes]) -> Iterator[Line]:
        """Yields where the records are that contain all of the texts, the last one first.

        The block is not cut into its records: that takes four times as long as to look for the longest text. Nor does
        this tell whether there are as many records as the row says.
        """
        wanted, body = max(texts, key=len), self.body
        if not self._is_packed:
            # Whoever changed it in the store may have put line breaks into it.
            if all(text in body for text in texts):
                yield Line(0, 0, len(body))
            return
        place, known, end = self.count - 1, body.rfind(_LINE) + 1, len(body)
        while (at := body.rfind(wanted, 0, end)) >= 0:
            begin, after = body.rfind(_LINE, 0, at) + 1, body.find(_LINE, at)
            if place == self.count - 1 and begin < len(body) // 2:
                place = _count_lines(body, 0, begin)
            else:
                place -= _count_lines(body, begin, known)
            line = Line(place, begin, after if after >= 0 else len(body))
            if 0 <= place < self.count and all(text in self.record(line) for text in texts):
                yield line
            known, end = begin, max(begin - 1, 0)

    def record(self, line: Line) -> Any:
        """Returns the bytes of the record. What somebody changed in the store may be no bytes."""
        if not self._is_packed:
            return self._stored
        return None if line.end == _UNREADABLE else self.body[line.begin : line.end]

    def hash_of(self, line: Line, before: Callable[[], bytes]) -> bytes:
        """As `hash_at`, of a record whose line is known; `before` is asked only where no mark comes before it.

        All hashes on the way are kept: a page has many records of one commit, the last first, and to recompute each
        from the mark before it would cost the square of the commit.
        """
        number = line.place + 1
        mark = self._mark_before(number)
        begin = mark.number if mark else 0
        if mark and begin == number:
            return mark.hash
        after, hashes = self._recomputed
        if begin != after or number - begin > len(hashes):
            previous = mark.hash if mark else before()
            hashes = list(self._linked(begin, previous, self._up_to(line, number - begin)))
            self._recomputed = begin, hashes
        return hashes[number - begin - 1]

    def hashes(self, before: bytes) -> Iterator[bytes]:
        """Yields the hash of each record, as it is stored where it is. `before` is that of the record before."""
        at_marks = {self.first + mark.number - 1: mark.hash for mark in self.marks}
        payloads = self.payloads if self.is_whole else (b"",) * self.count
        for seq, payload in enumerate(payloads, start=self.first):
            # As `link`, without its call: every record that is exported or followed comes by here.
            before = at_marks.get(seq) or sha256(before + seq.to_bytes(8, "big") + payload).digest()
            yield before

    def hash_at(self, seq: int, before: bytes) -> bytes:
        """Returns the hash of the record with the seq, from the nearest one that is stored before it."""
        wanted = seq - self.first + 1
        begin, previous = self._mark_before(wanted) or Mark(0, before)
        for linked in self._linked(begin, previous, self.payloads[begin:wanted]):
            previous = linked
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

    def _mark_before(self, number: int) -> Mark | None:
        """Returns the last mark up to the record's, None if there is none."""
        place = bisect_right(self.marks, number, key=lambda mark: mark.number)
        return self.marks[place - 1] if place else None

    def _linked(self, begin: int, previous: bytes, payloads: Sequence[Any]) -> Iterator[bytes]:
        """Yields the hash of each of the records, which come after the one with the number and the hash."""
        for seq, payload in enumerate(payloads, start=self.first + begin):
            previous = _link(previous, seq, payload)
            yield previous

    def _up_to(self, line: Line, count: int) -> Sequence[Any]:
        """Returns so many records up to that of the line."""
        if not self._is_packed:
            return self.payloads[:count]
        if line.end == _UNREADABLE:
            return (None,) * count
        found: list[bytes] = []
        begin, end = line.begin, line.end
        while len(found) < count and end >= 0:
            found.append(self.body[begin:end])
            end = begin - 1
            begin = self.body.rfind(_LINE, 0, max(end, 0)) + 1
        return found[::-1]

    def _named(self, begin: int, end: int) -> str:
        first = self.first - 1
        return f"record {first + begin}" if begin >= end else f"one of the records {first + begin} to {first + end}"


def stored(last: int, hash_: bytes, payload: Any, count: int | None) -> Block:
    """Returns the block of a row of the log; `count` is None for a row of one record, whose bytes are the payload."""
    marks = (Mark(count or 1, hash_),)
    return Block(last, payload, count or 1, marks, is_packed=count is not None)


def pack(payloads: Sequence[bytes]) -> bytes:
    """Returns the records as one compressed text. Raises ValueError for a record with a line break."""
    if any(_LINE in payload for payload in payloads):
        raise ValueError("a record has a line break")
    return pack_body(_LINE.join(payloads))


def pack_body(body: bytes) -> bytes:
    """As `pack`, for records that are joined by line breaks already."""
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


def _count_lines(body: bytes, begin: int, end: int) -> int:
    """Returns how many lines end there. `bytes.count` looks at each byte, and takes three times as long."""
    count, find = 0, body.find
    while (begin := find(_LINE, begin, end) + 1) > 0:
        count += 1
    return count
