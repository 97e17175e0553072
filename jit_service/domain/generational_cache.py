"""A bounded memory of what was used lately."""

from __future__ import annotations

from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class GenerationalCache(Generic[Key, Value]):
    """The values of the keys that were used latest: of `size` of them surely, of twice as many at most.

    Two generations in place of an order of use, since an order costs more than most of what is remembered here. Any
    thread may use it; two at once may forget a value, and never mix one up.
    """

    __slots__ = ("_old", "_size", "_young")

    def __init__(self, size: int) -> None:
        self._size = size
        self._young: dict[Key, Value] = {}
        self._old: dict[Key, Value] = {}

    def get(self, key: Key) -> Value | None:
        """Returns the value, and keeps it for longer."""
        value = self._young.get(key)
        if value is None:
            value = self._old.get(key)
            if value is not None:
                self.put(key, value)
        return value

    def put(self, key: Key, value: Value) -> None:
        """Remembers the value."""
        if len(self._young) >= self._size:
            self._old, self._young = self._young, {}
        self._young[key] = value

    def __len__(self) -> int:
        return len(self._young) + len(self._old)
