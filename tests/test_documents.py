"""What the documents name is there: files, tests, the pages that they link to, and the headings on those pages."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = tuple(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/**/*.md", "envoy/**/*.md", "clients/*/*.md")
    for path in sorted(ROOT.glob(pattern))
)
# These tell of the code as it was when they were made, or of files that were there once.
OF_ANOTHER_TIME = {"CHANGELOG.md", "docs/benchmarks.md", "docs/reference.md", "docs/soak.md"}
# What stands in backticks or bare and begins with a folder of the repository, and where links lead. `tools/call` is an
# action of the Model Context Protocol, not a file.
_PATH = re.compile(r"(?<![\w/.])(?:(?:clients|docs|envoy|examples|jit_service|proto|tests)/[\w/.-]*\w|tools/\w+\.\w+)")
# A source file is named by its path from the root of the repository, so that `x/y.py` is found wherever one reads it.
_SOURCE = re.compile(r"`([\w-]+/[\w/.-]*\.(?:py|proto|yaml))`")
# A name of the code that is said to be in a file.
_WITHIN = re.compile(r"`(\w+)` (?:in|of)\s+`([\w/-]+\.py)`")
_LINK = re.compile(r"\]\(([^)\s]*)\)")
_BLOCK = re.compile(r"^( *)```.*?^\1```", re.MULTILINE | re.DOTALL)
_NESTED = re.compile(r"^( *)(?:[-*]|\d+\.) [^\n]*\n(?:\1  +[^ \n-][^\n]*\n)*(\1 +)- ", re.MULTILINE)
_HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)

# What people read and copy: documents, examples, what the commands say of themselves, and pages of the API.
TEXTS = (
    "*.md", "docs/**/*.md", "envoy/**/*.md", "clients/*/*.md", "examples/**/*.*", "jit_service/**/*.py",
    "clients/python/jitaccess/**/*.py", "proto/**/*.proto", "tools/*.py", "Makefile",
)  # fmt: skip
_BLIND = re.compile(
    r"(?:approve|deny|counter|accept)\s+\"?(?:\$\(|`jit)|jit inbox[^\n]*\| *(?:head|tail)\b|\| *xargs[^|]*approve"
)


def named(text: str) -> set[Path]:
    """Returns the files that the page names in its text."""
    prose = _LINK.sub("", text)
    return {ROOT / path for path in (*_PATH.findall(prose), *_SOURCE.findall(prose))}


def links(page: str, text: str) -> set[tuple[Path, str]]:
    """Returns the file and the anchor, which may be empty, of each link of the page into the repository."""
    targets = (link.partition("#") for link in _LINK.findall(_BLOCK.sub("", text)) if "://" not in link)
    here = ROOT / page
    return {((here.parent / path).resolve() if path else here, anchor) for path, _, anchor in targets}


def anchors(text: str) -> set[str]:
    """Returns what a link can name of the page: its headings as the forge spells them, repeated ones numbered."""
    seen: Counter[str] = Counter()
    found = set()
    for heading in _HEADING.findall(_BLOCK.sub("", text)):
        shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return found


def deep(text: str) -> list[str]:
    """Returns each list within a list that begins deeper than its parent's text can."""
    return [found[0] for found in _NESTED.finditer(_BLOCK.sub("", text)) if len(found[2]) - len(found[1]) > 3]


@cache
def anchors_of(page: Path) -> set[str]:
    return anchors(page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", [page for page in PAGES if page not in OF_ANOTHER_TIME])
def test_what_the_page_names_is_there(page: str) -> None:
    found = named((ROOT / page).read_text(encoding="utf-8"))

    assert not sorted(str(path) for path in found if not path.exists())


@pytest.mark.parametrize("page", [page for page in PAGES if page not in OF_ANOTHER_TIME])
def test_a_name_is_in_the_file_that_the_page_says(page: str) -> None:
    found = _WITHIN.findall((ROOT / page).read_text(encoding="utf-8"))

    assert [f"{name} in {file}" for name, file in found if not _defines(ROOT / file, name)] == []


def _defines(file: Path, name: str) -> bool:
    return re.search(rf"^ *(?:def|class) {name}\b", file.read_text(encoding="utf-8"), re.MULTILINE) is not None


@pytest.mark.parametrize("page", PAGES)
def test_each_link_of_the_page_leads_somewhere(page: str) -> None:
    found = links(page, (ROOT / page).read_text(encoding="utf-8"))

    assert not sorted(str(path) for path, _ in found if not path.exists())
    assert not sorted(f"{path}#{anchor}" for path, anchor in found if anchor and anchor not in anchors_of(path))


@pytest.mark.parametrize("page", PAGES)
def test_a_list_within_a_list_is_two_spaces_in(page: str) -> None:
    """With four, the forge shows a list, and the site, which takes two as a level, a paragraph."""
    assert deep((ROOT / page).read_text(encoding="utf-8")) == []


def test_a_list_that_is_four_spaces_in_would_be_found() -> None:
    assert deep("- a\n  - b\n1. a\n   - b\n") == []
    assert len(deep("- a\n  goes on\n    - b\n")) == 1


def blind(text: str) -> list[str]:
    """Returns each line that decides on whatever grant a list happens to give."""
    return [line.strip() for line in text.splitlines() if _BLIND.search(line)]


def test_no_document_nor_help_decides_on_what_nobody_looked_at() -> None:
    shown = {
        str(path.relative_to(ROOT)): blind(path.read_text(encoding="utf-8"))
        for pattern in TEXTS
        for path in ROOT.glob(pattern)
        if not {"node_modules", "__pycache__"} & {*path.parts} and path != Path(__file__)
    }

    assert {path: lines for path, lines in shown.items() if lines} == {}


def test_a_blind_decision_would_be_found() -> None:
    assert blind("jit approve $(jit inbox -o json | grep -o x | head -1)\njit deny `jit inbox --ids`\n") != []
    assert len(blind('ID=$(jit inbox --ids | head -n 1); jit approve "$ID"')) == 1
    assert blind("jit approve ID\njit inbox --ids | xargs -n1 jit show\n") == []


def test_what_is_not_there_would_be_found() -> None:
    text = (
        "`tests/no_such.py`, `rpc/no_such.py`, docs/no-such.md and [a page](adr/no-such.md#part), "
        "not `tools/call`, https://h/docs/x or [h](https://h)."
    )

    assert {path.relative_to(ROOT).as_posix() for path in named(text)} == {
        "tests/no_such.py",
        "rpc/no_such.py",
        "docs/no-such.md",
    }
    assert _WITHIN.findall("`no_such` in\n`tests/test_documents.py`") == [("no_such", "tests/test_documents.py")]
    assert not _defines(Path(__file__), "no_such")
    assert links("docs/page.md", text) == {(ROOT / "docs" / "adr" / "no-such.md", "part")}


def test_an_anchor_is_spelled_as_the_forge_does() -> None:
    text = "# A `jit` page, twice\n## Check (hot)\n## Check (hot)\n```\n# no heading\n```\n"

    assert anchors(text) == {"a-jit-page-twice", "check-hot", "check-hot-1"}
