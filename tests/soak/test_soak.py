"""`make soak` for some seconds: the whole of it, with one kill -9 of everything, is right, and a liar is found."""

from __future__ import annotations

import json
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from random import Random
from typing import Any

import pytest

from jitaccess import JitClient
from tests.soak import chaos, page
from tests.soak.__main__ import summary, write
from tests.soak.clients import Clients
from tests.soak.run import Plan, soak

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="several workers are for Linux alone")


def test_a_short_run_with_a_kill_violates_nothing(tmp_path: Path, transport: str) -> None:
    plan = Plan(seconds=3, seed=1, transport=transport, faults=((1, chaos.KILL_SERVICE, False),), new=200)
    told: list[str] = []

    result = soak(plan, tmp_path, told.append)

    assert result["passed"], summary(result)
    assert result["counts"]["kills"] == 1
    # Each kind fills caches that the other does not.
    assert {"batch of new questions: OK", "new question: OK"} <= result["outcomes"].keys()
    untried = [each["name"] for each in result["properties"] if not each["trials"]]
    assert untried in ([], ["memory does not grow without bound"]), untried
    assert told
    write(result, tmp_path)
    assert json.loads((tmp_path / "result.json").read_text())["seed"] == 1
    ElementTree.parse(tmp_path / "soak.svg")  # noqa: S314 (our own)
    assert "kill -9 does not test fsync" in page.text([result], pictures=["soak.svg"])


def test_a_client_that_remembers_answers_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The twin: a yes that is given again from memory, as a cache without a barrier would."""
    real = Clients.of

    class Remembering:
        def __init__(self, client: JitClient) -> None:
            self._client = client
            self._known: dict[Any, Any] = {}

        def __getattr__(self, name: str) -> Any:
            return getattr(self._client, name)

        def check(self, *question: str, **more: Any) -> Any:
            answer = self._known.get(question) or self._client.check(*question, **more)
            self._known[question] = answer
            return answer

    kept: dict[int, Remembering] = {}

    def remembering(self: Clients, person: Any, way: str) -> Any:
        client = real(self, person, way)
        return kept.setdefault(id(client), Remembering(client))

    monkeypatch.setattr(Clients, "of", remembering)

    result = soak(Plan(seconds=1.5, seed=1, faults=()), tmp_path, lambda _: None)

    violated = {each["name"] for each in result["properties"] if each["violations"]}
    assert "a check sees what was acknowledged before it began, and no end is undone" in violated


def test_the_same_seed_plans_the_same_faults() -> None:
    first, again, other = (chaos.schedule(Random(seed), seconds=600, pauses=(3, 9)) for seed in (1, 1, 2))

    assert first == again != other
    assert {name for _, name, _ in first} >= {chaos.KILL_SERVICE, chaos.KILL_WORKER}


def test_the_second_half_spares_what_memory_is_followed_of() -> None:
    planned = chaos.schedule(Random(1), seconds=600, pauses=(3, 9))

    late = {(name, spares) for due, name, spares in planned if due >= 300}

    assert late
    assert late <= {(name, True) for name in chaos.SPARING}
