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
INSTALLED = Path(sys.executable).parent


def assert_shows_what_happens(page: Path, *, commands: Path) -> None:
    """Plays the page with the `jit` of the directory `commands`."""
    for step in sessions.play(page.read_text(), commands):
        assert step.is_as_written, f"{step.who}$ {step.command}\n--- gives\n{step.played}--- not\n{step.written}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_session_shows_what_happens(page: Path) -> None:
    assert_shows_what_happens(page, commands=prepared.command("jit").parent)


def test_a_session_shows_what_happens_with_the_installed_jit() -> None:
    """One page is enough: tests/test_prepared.py holds the prepared `jit` of the others to what this one does."""
    assert (INSTALLED / "jit").read_text().startswith(f"#!{sys.executable}")

    assert_shows_what_happens(sessions.PAGES / "05-break-glass.md", commands=INSTALLED)


def test_there_are_sessions() -> None:
    assert PAGES
