"""The protected API, over the world at hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache

import pytest

from tests.protected import Gate, running_gate
from tests.world import World


@pytest.fixture(scope="session")
def gates(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[World], Gate]]:
    with ExitStack() as stack:

        @cache
        def gate(world: World) -> Gate:
            service = world.settings.data_dir / "s.sock"
            return stack.enter_context(running_gate(service, tmp_path_factory.mktemp("g")))

        yield gate


@pytest.fixture
def gate(world: World, gates: Callable[[World], Gate]) -> Gate:
    """The protected API over the world at hand."""
    found = gates(world)
    found.api.seen.clear()
    found.api.over.clear()
    return found
