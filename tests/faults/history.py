"""Histories of concurrent operations, and their judge: does an order of instants explain what was seen?

One key is a register that is either on or off: access that is given (on), taken away (off) and asked about. A history
is linearizable when each operation can be given one instant between its beginning and its end, so that every read sees
the last write before it (Herlihy and Wing, 1990). An operation whose outcome is unknown, such as a write whose client
saw a timeout, may have its instant at any time after its beginning, or never.

`time.monotonic` is one clock for all processes of a machine, so histories of several processes can be joined.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from math import inf
from typing import NamedTuple, TypeVar

Value = TypeVar("Value")


class Kind(StrEnum):
    """What an operation does to the register."""

    WRITE = "write"
    READ = "read"


@dataclass(frozen=True, kw_only=True)
class Operation:
    """`value` is what was written or seen. `ended` is infinite where the outcome is unknown. `by`: for people."""

    key: str
    kind: Kind
    value: bool
    began: float
    ended: float
    by: str = ""

    def __str__(self) -> str:
        verb = {Kind.WRITE: "wrote", Kind.READ: "saw"}[self.kind]
        until = "unknown" if self.ended == inf else f"{self.ended:.6f}"
        return f"[{self.began:.6f}, {until}] {self.by} {verb} {'on' if self.value else 'off'}"


@dataclass(frozen=True)
class Violation:
    """No order explains the operations of this key."""

    key: str
    operations: tuple[Operation, ...]

    def __str__(self) -> str:
        return "\n".join([f"{self.key} is not linearizable:", *(f"  {operation}" for operation in self.operations)])


def violations(operations: Iterable[Operation]) -> list[Violation]:
    """Judges each key by itself, which is enough: linearizability is local. All registers begin off."""
    by_key: dict[str, list[Operation]] = {}
    for operation in operations:
        by_key.setdefault(operation.key, []).append(operation)
    return [
        Violation(key, tuple(sorted(history, key=lambda each: each.began)))
        for key, history in by_key.items()
        if not is_linearizable(history)
    ]


def is_linearizable(history: Sequence[Operation]) -> bool:
    """Searches for an order (Wing and Gong, 1993), remembering where it has been (Lowe, 2017)."""
    # A read whose outcome is unknown has seen nothing.
    known = [each for each in history if each.kind is Kind.WRITE or each.ended < inf]
    search = _Search(tuple(sorted(known, key=lambda each: each.began)))
    seen: set[_Place] = set()
    places = [_Place(frozenset(), 0, False)]
    while places:
        place = search.after_reads_that_fit(places.pop())
        if search.is_end(place):
            return True
        if place not in seen:
            seen.add(place)
            places.extend(search.after_each_write(place))
    return False


class _Place(NamedTuple):
    """How far an order has come: what may come next, where the rest begins, and the register's value."""

    may_be_next: frozenset[int]
    rest: int
    value: bool


class _Search:
    """The operations by their beginning, and the first end among each and those after it."""

    def __init__(self, operations: tuple[Operation, ...]) -> None:
        self._operations = operations
        self._first_end = [inf] * (len(operations) + 1)
        for index in reversed(range(len(operations))):
            self._first_end[index] = min(operations[index].ended, self._first_end[index + 1])

    def after_reads_that_fit(self, place: _Place) -> _Place:
        """Takes the reads that may come next and see the value: they change nothing, so to take them is never wrong."""
        while True:
            place = self._widened(place)
            fits = {index for index in place.may_be_next if self._fits(index, place.value)}
            if not fits:
                return place
            place = place._replace(may_be_next=place.may_be_next - fits)

    def after_each_write(self, place: _Place) -> Iterator[_Place]:
        """Yields where each write that may come next leads to."""
        for index in place.may_be_next:
            if self._operations[index].kind is Kind.WRITE:
                yield _Place(place.may_be_next - {index}, place.rest, self._operations[index].value)

    def is_end(self, place: _Place) -> bool:
        """Says whether all is explained but what may never have happened."""
        return self._first_end[place.rest] == inf and all(
            self._operations[index].ended == inf for index in place.may_be_next
        )

    def _fits(self, index: int, value: bool) -> bool:
        return self._operations[index].kind is Kind.READ and self._operations[index].value is value

    def _widened(self, place: _Place) -> _Place:
        """Adds what began before anything that is left had ended."""
        waiting, rest = set(place.may_be_next), place.rest
        first_end = min((self._operations[index].ended for index in waiting), default=inf)
        first_end = min(first_end, self._first_end[rest])
        while rest < len(self._operations) and self._operations[rest].began <= first_end:
            waiting.add(rest)
            rest += 1
        return place._replace(may_be_next=frozenset(waiting), rest=rest)


@dataclass
class Recorder:
    """Takes down what clients do, from any thread."""

    operations: list[Operation] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def write(self, key: str, value: bool, do: Callable[[], Value], *, by: str) -> Value:
        """Does the write. The outcome of one that raises is unknown: it may have happened, or happen yet."""
        began, ended = time.monotonic(), inf
        try:
            result = do()
            ended = time.monotonic()
            return result
        finally:
            self._take(Operation(key=key, kind=Kind.WRITE, value=value, began=began, ended=ended, by=by))

    def read(self, key: str, do: Callable[[], bool], *, by: str) -> bool:
        """Does the read. One that raises has seen nothing."""
        began = time.monotonic()
        value = do()
        self._take(Operation(key=key, kind=Kind.READ, value=value, began=began, ended=time.monotonic(), by=by))
        return value

    def _take(self, operation: Operation) -> None:
        with self._lock:
            self.operations.append(operation)
