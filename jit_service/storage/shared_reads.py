"""Reads that many threads need at the same time, each done once for all of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Any, Final, Generic, NamedTuple, TypeVar

from jit_service.storage.snapshot import Snapshot
from jit_service.storage.store import Store

_KEPT_SECONDS: Final = 0.1
"""How old what was read may be for whoever asks for it: threads that are woken together run one after another."""
Found = TypeVar("Found")


class Read(NamedTuple, Generic[Found]):
    """What was read of one state of the store, at `revision`. `began_at` is the monotonic second before it was."""

    began_at: float
    revision: int
    found: Found


class SharedReads:
    """Streams at the same place of the store need the same of it after each commit: one of them reads it for all."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._reads: dict[Hashable, Future[Read[Any]]] = {}

    def read(
        self, key: Hashable, read: Callable[[Snapshot], Found], *, revision: int, not_before: float = 0.0
    ) -> Read[Found]:
        """Returns what `read` returns for a state that is at the revision or later; its fault is raised to all.

        Whoever has the same key must need the same. The state was not read before the monotonic second `not_before`.
        """
        while True:
            leads = False
            with self._lock:
                shared = self._reads.get(key)
                if shared is None or (shared.done() and not _serves(shared, revision, not_before)):
                    leads = True
                    self._reads = {other: each for other, each in self._reads.items() if not _is_over(each)}
                    shared = self._reads[key] = Future()
            if leads:
                self._lead(shared, read)
            found: Read[Found] = shared.result()
            if leads or _suffices(found, revision, not_before):
                return found

    def _lead(self, shared: Future[Read[Found]], read: Callable[[Snapshot], Found]) -> None:
        try:
            began_at = time.monotonic()
            with self._store.snapshot() as snapshot:
                found = Read(began_at, snapshot.revision, read(snapshot))
        except BaseException as fault:
            shared.set_exception(fault)
        else:
            shared.set_result(found)


def _serves(shared: Future[Read[Any]], revision: int, not_before: float) -> bool:
    return not _is_over(shared) and _suffices(shared.result(), revision, not_before)


def _suffices(read: Read[Any], revision: int, not_before: float) -> bool:
    return read.revision >= revision and read.began_at >= not_before


def _is_over(shared: Future[Read[Any]]) -> bool:
    """Whether it is not to be given to anybody else: a fault, or too old."""
    if not shared.done():
        return False
    return shared.exception() is not None or shared.result().began_at < time.monotonic() - _KEPT_SECONDS
