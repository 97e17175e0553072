"""Tells whoever waits for long work how far it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from typing import Final, TypeVar

_PAUSE_SECONDS: Final = 0.5
Progress = TypeVar("Progress")
Result = TypeVar("Result")


def result_of(steps: Generator[object, None, Result]) -> Result:
    """Does all of the work, and returns its result."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: Result = end.value
            return result


def followed(
    steps: Generator[Progress, None, Result], *, gone: Callable[[], bool]
) -> Iterator[tuple[Progress, Result | None]]:
    """Yields how far the work is, at once and then each half second, until `gone`. Only the last has the result.

    A step must take less than a second.
    """
    told_at = float("-inf")
    # Whoever goes away leaves no snapshot open.
    with closing(steps):
        while not gone():
            try:
                at = next(steps)
            except StopIteration as end:
                yield at, end.value
                return
            if time.monotonic() - told_at >= _PAUSE_SECONDS:
                yield at, None
                told_at = time.monotonic()
