"""Batches the same work of several threads: one thread runs it for all that wait (flat combining).

The first thread leads. It runs a batch of all items that others have submitted meanwhile, so that no item waits for a
run of its own (Hendler, Incze, Shavit and Tzafrir 2010; RocksDB's write groups are the same).
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar

from jit_service.domain.errors import StoreUnavailable, Unavailable
from jit_service.storage.engine import WAIT_SECONDS

# As PostgreSQL's commit_delay and commit_siblings: after a batch of at least 8 items, the leader waits for as many
# again, 0.5 ms at a time and at most 4 times. Fewer, larger batches answer everybody sooner.
_CROWD: Final = 8
_CROWD_SECONDS: Final = 0.0005
_CROWD_DELAYS: Final = 4
Item = TypeVar("Item")
Answer = TypeVar("Answer")


class _Entry(Generic[Item, Answer]):
    """One thread's item. `turn` is released when its thread must go on: the item is settled, or the thread leads."""

    __slots__ = ("answer", "fault", "is_settled", "item", "leads", "turn")

    def __init__(self, item: Item) -> None:
        self.item = item
        self.turn = threading.Lock()
        self.turn.acquire()
        self.leads = False
        self.is_settled = False
        self.answer: Answer | None = None
        self.fault: BaseException | None = None


class Batcher(Generic[Item, Answer]):
    """Runs submitted items in batches.

    `run` answers the items of a batch in their order. It runs in one thread at a time. Each batch has a total `weight`
    of at most `most`, or one item. `sleep` takes seconds.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Item]], Sequence[Answer]],
        *,
        most: int,
        weight: Callable[[Item], int] = lambda _: 1,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._run = run
        self._most = most
        self._weight = weight
        self._sleep = sleep
        # Guards the entries and the choice of the leader.
        self._mutex = threading.Lock()
        self._entries: deque[_Entry[Item, Answer]] = deque()
        self._is_led = False
        self._expected = 0

    def __len__(self) -> int:
        return len(self._entries)

    def submit(self, item: Item) -> Answer:
        """Returns the item's answer. Raises StoreUnavailable if `run` does, or if no turn comes in time."""
        entry: _Entry[Item, Answer] = _Entry(item)
        with self._mutex:
            self._entries.append(entry)
            entry.leads, self._is_led = not self._is_led, True
        if not entry.leads and not entry.turn.acquire(timeout=2 * WAIT_SECONDS) and self._gave_up(entry):
            raise StoreUnavailable("the store is busy: no turn in time")
        if entry.leads:
            self._lead(entry)
        if isinstance(entry.fault, Unavailable):
            raise type(entry.fault)(str(entry.fault)) from entry.fault
        if entry.fault is not None:
            raise RuntimeError("the batch failed") from entry.fault
        return entry.answer  # type: ignore[return-value]

    def _gave_up(self, entry: _Entry[Item, Answer]) -> bool:
        """Withdraws the entry. Returns False if its turn has come in this very moment."""
        with self._mutex:
            if entry.leads or entry.is_settled:
                return False
            if entry in self._entries:
                self._entries.remove(entry)
            return True

    def _lead(self, entry: _Entry[Item, Answer]) -> None:
        """Runs a batch of the entries that wait, then makes the next thread the leader."""
        try:
            self._wait_for_crowd()
            self._settle(self._taken(), entry)
        finally:
            with self._mutex:
                self._is_led = bool(self._entries)
                if self._is_led:
                    self._entries[0].leads = True
                    self._entries[0].turn.release()

    def _wait_for_crowd(self) -> None:
        for _ in range(_CROWD_DELAYS):
            if len(self) >= self._expected:
                return
            self._sleep(_CROWD_SECONDS)

    def _taken(self) -> list[_Entry[Item, Answer]]:
        """Takes the next batch from the queue; the leader's own entry comes first."""
        with self._mutex:
            group = [self._entries.popleft()]
            weight = self._weight(group[0].item)
            while self._entries and (weight := weight + self._weight(self._entries[0].item)) <= self._most:
                group.append(self._entries.popleft())
            return group

    def _settle(self, group: Sequence[_Entry[Item, Answer]], leader: _Entry[Item, Answer]) -> None:
        answers, fault = self._answered([entry.item for entry in group])
        with self._mutex:
            for entry, answer in zip(group, answers, strict=True):
                entry.answer, entry.fault, entry.is_settled = answer, fault, True
                if entry is not leader:
                    entry.turn.release()
            # Threads that are answered now are likely to submit again at once.
            self._expected = len(group) + len(self._entries) if len(group) >= _CROWD else 0
        if fault is not None and not isinstance(fault, Exception):
            raise fault

    def _answered(self, items: Sequence[Item]) -> tuple[Sequence[Answer | None], BaseException | None]:
        try:
            answers = self._run(items)
            if len(answers) != len(items):
                raise AssertionError(f"{len(answers)} answers for {len(items)}")
        except BaseException as fault:
            return [None] * len(items), fault
        return answers, None
