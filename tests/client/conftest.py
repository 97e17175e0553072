"""A recording service, a bare environment, and both clients behind one face."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from jitaccess import AsyncJitClient, JitClient, Retry
from tests.client.service import Service, serving

Ask = Callable[..., Any]
_ITERATED = ("list_", "search", "export_", "stream_")
_ENDLESS = ("watch_", "tail_")


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keeps the developer's own address and token out."""
    for name in ("JIT_ADDRESS", "JIT_TOKEN", "JIT_TOKEN_FILE", "JIT_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))


@pytest.fixture
def service() -> Iterator[Service]:
    with serving(Service()) as running:
        yield running


@pytest.fixture(params=["sync", "async"])
def ask(request: pytest.FixtureRequest, service: Service) -> Ask:
    """Makes one call by name with either client, and returns its answer.

    A list's answer is a list, a watch's and a tail's too: the first `events` of them, 1 unless told.
    """
    both = {"sync": _ask_sync, "async": _ask_async}

    def ask(method: str, *args: Any, options: dict[str, Any] | None = None, **kwargs: Any) -> Any:
        given = {"address": service.address, "token": "t", "retry": Retry(first_delay=0)} | (options or {})
        return both[request.param](given, method, args, kwargs)

    return ask


def _ask_sync(options: dict[str, Any], method: str, args: Any, kwargs: Any) -> Any:
    events = kwargs.pop("events", 1)
    with JitClient(**options) as client:
        answer = getattr(client, method)(*args, **kwargs)
        if method.startswith(_ENDLESS):
            return _and_closed(answer, list(islice(answer, events)))
        return list(answer) if method.startswith(_ITERATED) else answer


def _ask_async(options: dict[str, Any], method: str, args: Any, kwargs: Any) -> Any:
    events = kwargs.pop("events", 1)

    async def main() -> Any:
        async with AsyncJitClient(**options) as client:
            answer = getattr(client, method)(*args, **kwargs)
            if method.startswith(_ENDLESS):
                found = [await anext(answer) for _ in range(events)]
                await answer.aclose()
                return found
            return [item async for item in answer] if method.startswith(_ITERATED) else await answer

    return asyncio.run(main())


def _and_closed(stream: Any, found: list[Any]) -> list[Any]:
    stream.close()
    return found
