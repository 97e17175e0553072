"""What SQLAlchemy has compiled for one test's database serves the next test's, which has the same tables."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import sqlalchemy
from sqlalchemy import Engine
from sqlalchemy.util import LRUCache

from jit_service.storage import engine as engines
from jit_service.storage import postgresql

_COMPILED: Final[LRUCache[Any, Any]] = LRUCache(2_000)


class _Cache:
    """An engine's cache of compiled statements, whose keys begin with its dialect. The server stands in for that."""

    def __init__(self, server: object) -> None:
        self._server = server

    def get(self, key: tuple[Any, ...]) -> Any:
        return _COMPILED.get((self._server, *key[1:]))

    def __setitem__(self, key: tuple[Any, ...], compiled: Any) -> None:
        _COMPILED[(self._server, *key[1:])] = compiled


def share() -> None:
    """Has all engines that this process makes from now on keep their compiled statements in one place.

    A seventh of the tests' time went into compiling the same few hundred statements again for each database.
    """
    engines.create_engine = postgresql.create_engine = _create_engine  # type: ignore[attr-defined]


@contextmanager
def none() -> Iterator[None]:
    """Has nothing compiled before or within: for a test that changes what a clause compiles to."""
    _COMPILED.clear()
    try:
        yield
    finally:
        _COMPILED.clear()


def _create_engine(*url: Any, **options: Any) -> Engine:
    engine = sqlalchemy.create_engine(*url, **options)
    # What is compiled for one server may not be right for one of another version.
    server = engine.name if engine.name == "sqlite" else engine.url.set(database=None)
    engine._compiled_cache = _Cache(server)  # type: ignore[assignment]
    return engine
