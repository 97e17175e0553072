"""Whatever is sent to REST, the answer is one that the document has, and never INTERNAL (I26)."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.conftest import Clock
from tests.openapi.fuzzing import SHORT, document, fuzz, long
from tests.world import World, running_world

SECONDS = int(os.environ.get("FUZZ_SECONDS", "0"))


@pytest.mark.timeout(300 + 2 * SECONDS)
def test_no_answer_is_internal_or_undocumented(tmp_path: Path, transport: str) -> None:
    directory = Path(os.environ.get("FUZZ_DIRECTORY", tmp_path)).absolute()
    directory.mkdir(parents=True, exist_ok=True)
    home = tmp_path / "w"
    home.mkdir()

    with running_world(home, Clock(), f"sqlite:///{home / 'jit.db'}", transport=transport) as world:
        fuzzed = fuzz(world, document(world), directory, long(SECONDS) if SECONDS else SHORT)

    assert fuzzed.passed, fuzzed.text
    tested = re.search(r"Selected: (\d+)/(\d+)\n +Tested: (\d+)", fuzzed.text)
    assert tested is not None
    assert tested[1] == tested[3]
    assert int(tested[2]) - int(tested[1]) == 5, "the streams alone are left out"


def test_an_answer_that_the_document_has_not_is_found(world: World, tmp_path: Path) -> None:
    """The vulnerable twin: a document that has forgotten what an operation answers."""
    served = document(world)
    operation = served["paths"]["/v1/grants/{grant}"]["get"]
    operation["responses"] = {"503": operation["responses"]["503"]}

    fuzzed = fuzz(world, served, tmp_path, (*SHORT, "--include-path", "/v1/grants/{grant}"))

    assert not fuzzed.passed
    assert "Undocumented status code" in fuzzed.text
