"""What SECURITY.md and the pages of docs/ name is there: files, tests, and pages that they lead to."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Generated pages tell of the code as it was when they were made.
GENERATED = {"benchmarks.md", "reference.md", "soak.md"}
PAGES = (
    "SECURITY.md",
    *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")) if path.name not in GENERATED),
    *(f"docs/adr/{path.name}" for path in sorted((ROOT / "docs" / "adr").glob("*.md"))),
)
# What stands in backticks or bare and begins with a folder of the repository, and where links lead. `tools/call` is an
# action of the Model Context Protocol, not a file.
_PATH = re.compile(r"(?<![\w/.])(?:(?:clients|docs|envoy|examples|jit_service|proto|tests)/[\w/.-]*\w|tools/\w+\.\w+)")
# A source file is named by its path from the root of the repository, so that `x/y.py` is found wherever one reads it.
_SOURCE = re.compile(r"`([\w-]+/[\w/.-]*\.(?:py|proto|yaml))`")
_LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


def named(page: str, text: str) -> set[Path]:
    """Returns the files that the page names, from its text or by its links."""
    links = (link for link in _LINK.findall(text) if "://" not in link)
    beside = {(ROOT / page).parent / link for link in links}
    prose = _LINK.sub("", text)
    return beside | {ROOT / path for path in (*_PATH.findall(prose), *_SOURCE.findall(prose))}


@pytest.mark.parametrize("page", PAGES)
def test_what_the_page_names_is_there(page: str) -> None:
    found = named(page, (ROOT / page).read_text(encoding="utf-8"))

    assert not sorted(str(path) for path in found if not path.exists())


def test_what_is_not_there_would_be_found() -> None:
    text = (
        "`tests/no_such.py`, `rpc/no_such.py`, docs/no-such.md and [a page](adr/no-such.md#part), "
        "not `tools/call`, https://h/docs/x or [h](https://h)."
    )

    assert {path.relative_to(ROOT).as_posix() for path in named("docs/page.md", text)} == {
        "tests/no_such.py",
        "rpc/no_such.py",
        "docs/no-such.md",
        "docs/adr/no-such.md",
    }
