"""docs/invariants.md: each citation of an invariant has its entry, and each entry names files and tests that exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "invariants.md"
# Where invariants are cited. The page itself is not a citation, nor is what these tests say.
FOLDERS = (
    "jit_service",
    "clients/python/jitaccess",
    "clients/typescript/src",
    "proto",
    "envoy",
    "bench",
    "tests",
    "docs",
)
KINDS = {".py", ".ts", ".proto", ".yaml", ".md", ".json"}
PAGES = ("README.md", "ARCHITECTURE.md", "SECURITY.md", "CHANGELOG.md")
_CITATION = re.compile(r"(?<![\w.-])I\d{1,2}b?(?![\w-])")
_ENTRY = re.compile(r"^## (\S+)\n(.+?)\n\nEnforced in (.+?)\. Shown by:\n\n((?:- [^\n]+\n)+)", re.MULTILINE | re.DOTALL)
_QUOTED = re.compile(r"`([^`]+)`")


@dataclass(frozen=True)
class Entry:
    number: str
    sentence: str
    files: tuple[str, ...]
    tests: tuple[str, ...]


def entries(text: str) -> list[Entry]:
    found = _ENTRY.findall(text)
    return [
        Entry(number, sentence, tuple(_QUOTED.findall(files)), tuple(_QUOTED.findall(tests)))
        for number, sentence, files, tests in found
    ]


def cited(text: str) -> set[str]:
    return set(_CITATION.findall(text))


def citing() -> Iterator[Path]:
    inside = (path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.suffix in KINDS)
    yield from (path for path in inside if path not in (PAGE, Path(__file__)) and "node_modules" not in path.parts)
    yield from (ROOT / page for page in PAGES)


ENTRIES = entries(PAGE.read_text(encoding="utf-8"))


def test_each_citation_has_an_entry() -> None:
    known = {entry.number for entry in ENTRIES}

    unknown = {
        f"{path.relative_to(ROOT)}: {number}"
        for path in citing()
        for number in cited(path.read_text(encoding="utf-8")) - known
    }

    assert not unknown


def test_the_page_has_an_entry_under_each_of_its_headings() -> None:
    headings = re.findall(r"^## (.+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)

    assert [entry.number for entry in ENTRIES] == headings


def test_the_numbers_have_no_gap() -> None:
    whole = [entry.number for entry in ENTRIES if not entry.number.endswith("b")]

    assert whole == [f"I{number}" for number in range(1, len(whole) + 1)]


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.number)
def test_an_entry_names_files_and_tests_that_exist(entry: Entry) -> None:
    assert entry.sentence
    assert entry.files
    assert entry.tests
    assert [file for file in entry.files if not (ROOT / file).is_file()] == []
    assert [test for test in entry.tests if not _is_a_test(test)] == []


def _is_a_test(name: str) -> bool:
    path, _, function = name.partition("::")
    file = ROOT / path
    return (
        file.is_file() and re.search(rf"^def {function}\(", file.read_text(encoding="utf-8"), re.MULTILINE) is not None
    )


def test_what_does_not_exist_would_be_found() -> None:
    text = "## I99\nNothing happens.\n\nEnforced in `no/such.py`. Shown by:\n\n- `tests/test_no.py::test_such`\n"

    [entry] = entries(text)

    assert entry == Entry("I99", "Nothing happens.", ("no/such.py",), ("tests/test_no.py::test_such",))
    assert not _is_a_test(entry.tests[0])
    assert cited("after a revoke (I2, I2b), see invariant I98; not AI7, I100 or I-1") == {"I2", "I2b", "I98"}
