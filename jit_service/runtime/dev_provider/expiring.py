"""What the provider keeps in memory for a while, by a secret name that cannot be guessed."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final, Generic, TypeVar

_MAX_KEPT: Final = 1000
T = TypeVar("T")


class Expiring(Generic[T]):
    """Values that are over a `lifetime` after they were put in. Of more than 1,000 the oldest goes first."""

    def __init__(self, lifetime: timedelta, clock: Callable[[], datetime]) -> None:
        self._lifetime = lifetime
        self._clock = clock
        self._kept: OrderedDict[str, tuple[datetime, T]] = OrderedDict()

    def add(self, value: T) -> str:
        """Keeps the value. Returns its name, of 256 random bits."""
        name = secrets.token_urlsafe(32)
        self.put(name, value)
        return name

    def put(self, name: str, value: T) -> None:
        """Keeps the value under a name of the caller's; its lifetime begins now."""
        self._kept.pop(name, None)
        self._kept[name] = (self._clock() + self._lifetime, value)
        while len(self._kept) > _MAX_KEPT:
            self._kept.popitem(last=False)

    def get(self, name: str) -> T | None:
        """Returns the value, None where there is none or it is over."""
        found = self._kept.get(name)
        if found is None:
            return None
        if self._clock() >= found[0]:
            del self._kept[name]
            return None
        return found[1]

    def update(self, name: str, value: T) -> None:
        """Puts another value in the place of the one that is there, until that one would be over."""
        ends_at, _ = self._kept[name]
        self._kept[name] = (ends_at, value)

    def remove(self, name: str) -> None:
        """Forgets the value, if there is one."""
        self._kept.pop(name, None)

    def remove_where(self, applies: Callable[[T], bool]) -> None:
        """Forgets the values that the function applies to."""
        for name in [name for name, (_, value) in self._kept.items() if applies(value)]:
            del self._kept[name]
