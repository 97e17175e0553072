"""A release is of one version, and the changelog says what is in it."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import release  # noqa: E402

CHANGELOG = "# Changelog\n\n## 1.2.0 - 2026-03-02\n\n### Added\n- A thing.\n\n## 1.1.0 - 2026-02-01\n"


def test_a_version_with_its_entry_can_be_released() -> None:
    assert release.problems({"a": "1.2.0", "b": "1.2.0"}, CHANGELOG) == []


def test_versions_that_differ_are_refused() -> None:
    (problem,) = release.problems({"a": "1.2.0", "b": "1.1.0"}, CHANGELOG)

    assert problem == "the versions differ: a has 1.2.0, b has 1.1.0"


@pytest.mark.parametrize(
    "newest",
    ["Unreleased", "1.1.0 - 2026-02-01", "1.2.0", "1x2.0 - 2026-03-02", "1.2.0 - soon", "1.2.0.1 - 2026-03-02"],
)
def test_a_changelog_without_the_versions_entry_first_is_refused(newest: str) -> None:
    (problem,) = release.problems({"a": "1.2.0"}, f"# Changelog\n\n## {newest}\n\n{CHANGELOG}")

    assert problem == f"the newest heading of CHANGELOG.md is {newest!r}, not '1.2.0 - YYYY-MM-DD'"


def test_a_changelog_without_any_entry_is_refused() -> None:
    (problem,) = release.problems({"a": "1.2.0"}, "# Changelog\n")

    assert "is missing" in problem


def test_all_packages_of_the_repository_have_one_version() -> None:
    assert len(set(release.versions(ROOT).values())) == 1


def test_the_changelog_begins_with_what_is_new() -> None:
    """What is not released yet, or the version that the packages have; and it says something."""
    changelog = (ROOT / "CHANGELOG.md").read_text()
    newest = re.search(r"^## (\S+)[^\n]*\n(.*?)(?=^## |\Z)", changelog, re.MULTILINE | re.DOTALL)

    assert newest is not None
    assert newest[1] in ("Unreleased", release.versions(ROOT)["pyproject.toml"])
    assert re.search(r"^- \S", newest[2], re.MULTILINE)


def test_the_client_carries_the_license() -> None:
    """Its distribution is built from its own folder, which sees nothing above it."""
    assert (ROOT / "clients" / "python" / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
