"""Reads the audit log as it is stored: pieces first, then the rows that are not merged yet.

By the driver alone: a log of ten million records is read by its ten thousand pieces.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection

from jit_service.domain.audit.chain import GENESIS
from jit_service.storage.audit_block import MAX_RECORDS, Block, Mark, read_marks, stored

_ROW: Final = "seq, hash, payload, count"
_PIECE: Final = "seq, hash, payload, count, marks"
# How many are read at once: at first, and at most. Python's driver gives up the interpreter's lock for every row, and
# waits for it beside busy threads. So whoever wants a page of a tail is not to wait for rows beyond it.
_ROWS_AT_ONCE: Final = (16, 256)
_PIECES_AT_ONCE: Final = (1, 8)
FIELD: Final = 2**48
"""A place in `audit_digests` is a field's number times this, and the seq of the piece."""
_EVER: Final = 2**62
_TAIL: Final = 2**20
"""So many records may wait to be merged before the last piece is looked for in all partitions."""
_KEPT: Final = " AND seq > (SELECT coalesce(max(seq), 0) FROM audit_beginning)"
"""What is pruned may stay for minutes, until its partition is dropped."""


class PieceHead(NamedTuple):
    """The last seq and the number of records of a piece, which a search knows before it reads the piece."""

    seq: int
    size: int


class AuditLog:
    """The log in the driver connection's transaction. `sqlite` tells which of the two databases it is of.

    PostgreSQL plans a statement for every partition that its bounds do not exclude (30 µs each), so that all of them
    bound the seq from both sides.
    """

    def __init__(self, driver: Any, *, sqlite: bool) -> None:
        self._driver = driver
        self._sqlite = sqlite
        self._kept = "" if sqlite else _KEPT

    @classmethod
    def of(cls, connection: Connection) -> AuditLog:
        """Returns the log in the transaction of SQLAlchemy's connection."""
        return cls(connection.connection.dbapi_connection, sqlite=connection.dialect.name == "sqlite")

    def merged_until(self) -> int:
        """Returns the seq of the last record that was merged into a piece, pruned or not; 0 if there is none."""
        if not self._sqlite:
            (head,) = self._rows("SELECT seq FROM head")[0]
            near = "SELECT max(seq), (SELECT max(seq) FROM audit_beginning) FROM audit_piece WHERE seq > ? AND seq <= ?"
            last, pruned = self._rows(near, head - _TAIL, head)[0]
            if last is not None:
                return max(int(last), pruned or 0)
        ends = "SELECT max(seq) AS seq FROM audit_piece UNION ALL SELECT max(seq) FROM audit_beginning"
        (last,) = self._rows(f"SELECT coalesce(max(seq), 0) FROM ({ends}) AS ends")[0]  # noqa: S608
        return int(last)

    def oldest_pieces(self, after: int, limit: int) -> list[tuple[int, int]]:
        """Returns seq and last instant, in microseconds since 1970, of up to `limit` pieces after the seq, in order."""
        return [(seq, last_at) for seq, last_at in self._nearest("seq, last_at", after + 1, _EVER, limit=limit)]

    def last_piece(self, first: int, end: int) -> tuple[int, int] | None:
        """Returns seq and last instant, in microseconds since 1970, of the last piece in [first, end)."""
        found = self._nearest("seq, last_at", first, end - 1, limit=1, backwards=True)
        return (found[0][0], found[0][1]) if found else None

    def delete_pieces(self, *, after: int, until: int, fields: Iterable[int]) -> int:
        """Deletes the pieces that end after the one seq and up to the other, with their digests. Returns how many."""
        deleted = self._execute("DELETE FROM audit_piece WHERE seq > ? AND seq <= ?", after, until).rowcount
        for field in fields:
            where, values = self._places(field, after + 1, until)
            self._execute(f"DELETE FROM audit_digests WHERE {where}", *values)  # noqa: S608
        return int(deleted)

    def blocks(self, *, after: int, until: int) -> Iterator[Block]:
        """Yields, in order, the blocks that have records after the one seq and up to the other."""
        for read, (at_once, most) in ((self._pieces, _PIECES_AT_ONCE), (self.rows, _ROWS_AT_ONCE)):
            while after < until and (found := read(after, at_once)):
                at_once = min(2 * at_once, most)
                for block in found:
                    if block.first > until:
                        return
                    after = block.last
                    yield block

    def rows(self, after: int, limit: int) -> list[Block]:
        """Returns up to `limit` of the rows that are not merged, the first after the seq first."""
        found = self._rows(f"SELECT {_ROW} FROM audit_event WHERE seq > ? ORDER BY seq LIMIT ?", after, limit)  # noqa: S608
        return [stored(*row) for row in found]

    def rows_with(self, count: int, after: int) -> list[Block]:
        """Returns the rows after the seq that have the next so many records, in order; none while there are fewer."""
        (last,) = self._rows("SELECT min(seq) FROM audit_event WHERE seq >= ?", after + count)
        if last[0] is None:
            return []
        found = self._rows(f"SELECT {_ROW} FROM audit_event WHERE seq > ? AND seq <= ? ORDER BY seq", after, last[0])  # noqa: S608
        return [stored(*row) for row in found]

    def rows_backwards(self, before: int, limit: int) -> list[Block]:
        """Returns up to `limit` of the rows that are not merged, the one with the record before the seq first."""
        last = self._rows("SELECT seq FROM audit_event WHERE seq >= ? ORDER BY seq LIMIT 1", before - 1)
        until = last[0][0] if last else before
        found = self._rows(f"SELECT {_ROW} FROM audit_event WHERE seq <= ? ORDER BY seq DESC LIMIT ?", until, limit)  # noqa: S608
        return [block for block in (stored(*row) for row in found) if block.first < before]

    def pieces(self, seqs: Sequence[int]) -> dict[int, Block]:
        """Returns the pieces with these last records, at least one, by their seq."""
        found = self._rows(
            f"SELECT {_PIECE} FROM audit_piece WHERE seq >= ? AND seq <= ? AND seq IN ({_listed(seqs)})",  # noqa: S608
            *(min(seqs), max(seqs), *seqs),
        )
        return {row[0]: _piece(*row) for row in found}

    def pieces_between(
        self, low: int, high: int, *, since: int, until: int, backwards: bool, limit: int
    ) -> list[PieceHead]:
        """Returns up to `limit` pieces that have records with a seq from low to high, and instants in [since, until].

        Instants are microseconds since 1970.
        """
        where = "AND seq - count < ? AND last_at >= ? AND first_at <= ?"
        found = self._nearest(
            *("seq, count", low, high + MAX_RECORDS - 1), limit=limit, backwards=backwards,
            where=where, values=(high, since, until),
        )  # fmt: skip
        return [PieceHead(*row) for row in found]

    def digests(self, field: int, low: int, high: int) -> dict[int, bytes]:
        """Returns the digests of the field by the seq of each piece in [low, high]."""
        where, values = self._places(field, low, high)
        found = self._rows(f"SELECT place - {field * FIELD}, digests FROM audit_digests WHERE {where}", *values)  # noqa: S608
        return dict(found)

    def pieces_without(self, field: int, wanted: bytes, low: int, high: int) -> set[int]:
        """Returns the seqs of the pieces in [low, high] whose digests of the field have no such digest.

        The database looks through them: to send them takes longer, and beside busy threads each row of SQLite's would
        wait for the interpreter's lock. Where bytes of two digests are the wanted one, a piece is read in vain.
        """
        where, values = self._places(field, low, high)
        if not self._sqlite:
            sql = f"SELECT place - {field * FIELD} FROM audit_digests WHERE {where} AND position(? IN digests) = 0"  # noqa: S608
            return {seq for (seq,) in self._rows(sql, *values, wanted)}
        seqs = f"group_concat(CASE instr(digests, ?) WHEN 0 THEN place - {field * FIELD} END)"
        ((found,),) = self._rows(f"SELECT {seqs} FROM audit_digests WHERE {where}", wanted, *values)  # noqa: S608
        return set(map(int, found.split(","))) if found else set()

    def block_of(self, seq: int) -> Block | None:
        """Returns the block that has the record with the seq."""
        # The rows first: what is not there any more was merged, and is in a piece by the time of the next statement.
        for block in (*self.rows(seq - 1, 1), *self._pieces(seq - 1, 1)):
            if block.first <= seq:
                return block
        return None

    def first_of_next(self, seq: int) -> int:
        """Returns the first seq of the block that must have the record after the seq: of one that has both, or that."""
        block = self.block_of(seq) if seq else None
        return seq + 1 if block is None or block.last == seq else block.first

    def hash_at(self, seq: int) -> bytes | None:
        """Returns the hash of the record with the seq, None if there is none."""
        if (ending := self._hash_of_end(seq)) is not None:
            return ending
        block = self.block_of(seq)
        if block is None:
            return None
        before = self._hash_of_end(block.first - 1)
        return None if before is None else block.hash_at(seq, before)

    def hash_before(self, block: Block) -> bytes:
        """Returns the hash of the record before the block's first; that of no record, where it is missing."""
        return self.hash_at(block.first - 1) or GENESIS

    def put_piece(self, blocks: Sequence[Block], values: Sequence[Any], digests: dict[int, bytes]) -> bool:
        """Replaces the rows by a piece of their records. Returns False, and changes nothing, if they are not there.

        `values` are those of the piece's columns in their order. The caller commits.
        """
        seq = blocks[-1].last
        if self.merged_until() != blocks[0].first - 1:
            return False
        deleted = self._execute("DELETE FROM audit_event WHERE seq >= ? AND seq <= ?", blocks[0].last, seq).rowcount
        if deleted != len(blocks):
            return False
        columns = "seq, count, first_at, last_at, hash, seal, marks, payload"
        self._execute(f"INSERT INTO audit_piece ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", *values)  # noqa: S608
        for field, found in digests.items():
            self._execute("INSERT INTO audit_digests (place, digests) VALUES (?, ?)", field * FIELD + seq, found)
        return True

    def seals(self, after: int, until: int, limit: int) -> list[tuple[int, int, int, bytes, bytes]]:
        """Returns seq, first and last instant, hash and seal of up to `limit` pieces that end after the one seq.

        In order, and up to the one that ends with the other seq.
        """
        found = self._nearest("seq, first_at, last_at, hash, seal", after + 1, until, limit=limit)
        return [(seq, first, last, bytes(hash_), bytes(seal)) for seq, first, last, hash_, seal in found]

    def _pieces(self, after: int, limit: int) -> list[Block]:
        found = self._nearest(_PIECE, after + 1, _EVER, limit=limit)
        return [_piece(*row) for row in found]

    def _nearest(
        self, columns: str, low: int, high: int, *,
        limit: int, backwards: bool = False, where: str = "", values: Sequence[Any] = (),
    ) -> list[tuple[Any, ...]]:  # fmt: skip
        """Returns the columns of up to `limit` pieces with a seq from low to high, beginning from one end.

        On PostgreSQL they are first looked for near that end, where all of them are unless `where` excludes many.
        """
        order, near = "DESC" if backwards else "ASC", limit * MAX_RECORDS
        nearby = (max(low, high - near), high) if backwards else (low, min(high, low + near))
        found: list[tuple[Any, ...]] = []
        for bounds in [(low, high)] if self._sqlite else dict.fromkeys((nearby, (low, high))):
            found = self._rows(
                f"""SELECT {columns} FROM audit_piece WHERE seq >= ? AND seq <= ?{self._kept} {where}
                ORDER BY seq {order} LIMIT ?""",  # noqa: S608
                *(*bounds, *values, limit),
            )
            if len(found) == limit:
                break
        return found

    def _places(self, field: int, low: int, high: int) -> tuple[str, list[int]]:
        """Returns the condition for the digests of the field of the pieces in [low, high], and its values."""
        base = field * FIELD
        if self._sqlite:
            return "place >= ? AND place <= ?", [base + low, base + high]
        # By the first PostgreSQL finds the row, by the second the partition.
        return f"place >= ? AND place <= ? AND (place & {FIELD - 1}) BETWEEN ? AND ?", [
            base + low,
            base + high,
            low,
            high,
        ]

    def _hash_of_end(self, seq: int) -> bytes | None:
        """Returns the hash of the record with the seq where it ends a row or piece, or where the log was pruned."""
        if seq == 0:
            return GENESIS
        for table, kept in (("audit_event", ""), ("audit_piece", self._kept), ("audit_beginning", "")):
            if found := self._rows(f"SELECT hash FROM {table} WHERE seq = ?{kept}", seq):  # noqa: S608
                return bytes(found[0][0])
        return None

    def _rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = self._execute(sql, *values).fetchall()
        return found

    def _execute(self, sql: str, *values: Any) -> Any:
        if self._sqlite:
            return self._driver.execute(sql, values)
        return self._driver.execute(sql.replace("?", "%s"), values, binary=True)


def _piece(seq: int, hash_: bytes, payload: Any, count: int, marks: bytes) -> Block:
    return Block(seq, payload, count, read_marks(marks, Mark(count, hash_)))


def _listed(values: Sequence[Any]) -> str:
    return ", ".join("?" * len(values))
