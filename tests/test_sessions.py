"""The terminal sessions in the docs, played again: what they show is what happens."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests import prepared

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tools"))
import sessions  # noqa: E402  # type: ignore[import-not-found]

PAGES = sorted(sessions.PAGES.glob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_session_shows_what_happens(page: Path) -> None:
    for step in sessions.play(page.read_text(), prepared.command("jit").parent):
        assert step.is_as_written, f"{step.who}$ {step.command}\n--- gives\n{step.played}--- not\n{step.written}"


def test_there_are_sessions() -> None:
    assert PAGES
