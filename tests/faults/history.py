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
from typing import TypeVar

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
    every = tuple(sorted(known, key=lambda each: each.began))
    seen: set[tuple[frozenset[int], bool]] = set()
    ways: list[tuple[frozenset[int], bool]] = [(frozenset(range(len(every))), False)]
    while ways:
        left, value = ways.pop()
        left = _without_reads_that_fit(every, left, value)
        if all(every[index].ended == inf for index in left):
            return True
        if (left, value) in seen:
            continue
        seen.add((left, value))
        ways.extend(
            (left - {index}, every[index].value)
            for index in _possible_next(every, left)
            if every[index].kind is Kind.WRITE
        )
    return False


def _without_reads_that_fit(every: Sequence[Operation], left: frozenset[int], value: bool) -> frozenset[int]:
    """Takes every read that may come next and sees the value: it changes nothing, so to take it is never wrong."""
    while True:
        fits = {
            index
            for index in _possible_next(every, left)
            if every[index].kind is Kind.READ and every[index].value is value
        }
        if not fits:
            return left
        left -= fits


def _possible_next(every: Sequence[Operation], left: frozenset[int]) -> Iterator[int]:
    """Yields what began before anything that is left had ended."""
    first_end = min((every[index].ended for index in left), default=inf)
    return (index for index in left if every[index].began <= first_end)


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
