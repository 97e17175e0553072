"""For the tests of a program that uses this client: an in-memory service, and a clock that the test moves.

    pytest_plugins = ["jitaccess.testing"]   # in the conftest.py of your tests' root

    def test_access_ends_with_its_time(jit: MemoryService, jit_clock: Clock) -> None:
        grant = jit.grant("user:alice@example.com", "database/orders/eu", "read", duration=timedelta(hours=1))
        assert jit.client.check("user:alice@example.com", "read", "database/orders/eu")
        jit_clock.advance(timedelta(hours=1))
        assert not jit.client.check("user:alice@example.com", "read", "database/orders/eu")

It answers checks as the service does, without conditions, limits, or grants that were passed on, and for names of plain
ASCII; what it does not offer, it says. Who may ask and approve is the test's own word. A test of this repository puts
the same questions to it and to the service.
"""

from __future__ import annotations

import pytest

from jitaccess.testing.facts import Clock, MemoryGrant
from jitaccess.testing.memory import MemoryService

__all__ = ["Clock", "MemoryGrant", "MemoryService", "jit", "jit_clock"]


@pytest.fixture
def jit_clock() -> Clock:
    """The clock of `jit`."""
    return Clock()


@pytest.fixture
def jit(jit_clock: Clock) -> MemoryService:
    """An in-memory service of this test alone."""
    return MemoryService(jit_clock)
