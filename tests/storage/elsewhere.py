"""Checks that are made in another process. It imports no more than they need, which takes most of its time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from threading import Barrier

from jit_service.check import questions
from jit_service.storage import Store
from tests import checking
from tests.storage.people import GATEWAY

_line: Barrier


def asking_for(store: Store, subject: str) -> Callable[[], object]:
    question = questions.question(GATEWAY, subject=subject, action="read", resource="database/orders/eu")
    return lambda: checking.check(store, GATEWAY, question).decision.allowed


def stand_at(line: Barrier) -> None:
    """Has this process begin with the others at this line."""
    global _line
    _line = line


def count_allowed(url: str, subject: str, times: int, now: datetime) -> int:
    """Returns how many of so many checks were allowed."""
    store = Store(url, clock=lambda: now)
    check = asking_for(store, subject)
    _line.wait()
    return [check() for _ in range(times)].count(True)
