"""The headers of a call: pairs as they came, and a look-up by name in whatever letter case."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any


class Headers(tuple[tuple[str, str], ...]):
    """Pairs of lower-case names and values, in their order; looked up by name it is a case-insensitive mapping.

    A header that was sent several times is one value, joined by `, ` (RFC 9110, 5.3): no program takes one of two
    identities by chance. `get_all` gives each.
    """

    __slots__ = ()

    def __new__(cls, pairs: Iterable[tuple[str, str]] = ()) -> Headers:
        """Returns the headers; their names are kept in lower case."""
        return super().__new__(cls, ((name.lower(), value) for name, value in pairs))

    def get_all(self, name: str) -> tuple[str, ...]:
        """Returns each value of that name, in their order."""
        wanted = name.lower()
        return tuple(value for found, value in self if found == wanted)

    def get(self, name: str, default: str | None = None) -> str | None:
        """Returns the value of that name, several joined by `, `; the default where there is none."""
        values = self.get_all(name)
        return ", ".join(values) if values else default

    def __getitem__(self, key: Any) -> Any:
        """Returns the value of a name, raising KeyError where there is none; of an index or slice, the pairs there."""
        if not isinstance(key, str):
            return super().__getitem__(key)
        values = self.get_all(key)
        if not values:
            raise KeyError(key)
        return ", ".join(values)

    def __contains__(self, key: object) -> bool:
        """Returns whether there is a header of that name, or that pair."""
        return bool(self.get_all(key)) if isinstance(key, str) else super().__contains__(key)

    def keys(self) -> Iterator[str]:
        """Returns each name once."""
        return iter(dict.fromkeys(name for name, _ in self))

    def items(self) -> Iterator[tuple[str, str]]:
        """Returns each name once, with its value."""
        return ((name, self[name]) for name in self.keys())

    def values(self) -> Iterator[str]:
        """Returns the value of each name."""
        return (self[name] for name in self.keys())
