"""The architecture decision records: the index lists each one, and an amendment is named on both sides."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "docs" / "adr"
RECORDS = sorted(FOLDER.glob("[0-9]*.md"))
_ROW = re.compile(r"^\| (\d+) \| \[(.+)\]\((.+\.md)\) \| (.+) \|$", re.MULTILINE)
_HEAD = re.compile(r"# (?P<number>\d+)\. (?P<title>.+)\n\nStatus: (?P<status>.+)\n\n## ")
_STATUS = re.compile(r"(?:proposed|accepted|superseded by ADR \d+)(?:; (?:amends|amended by) ADR [\d, and]+)*")
# What the record of the other side has to say.
_COUNTERPART = {"amends": "amended by", "amended by": "amends"}


@dataclass(frozen=True)
class Record:
    number: int
    title: str
    file: str
    status: str

    def named(self, relation: str) -> set[int]:
        """Returns the records that the status names after these words."""
        found = re.search(rf"\b{relation} ADR ([\d, and]+)", self.status)
        return {int(number) for number in re.findall(r"\d+", found[1])} if found else set()


def read(path: Path) -> Record:
    head = _HEAD.match(path.read_text(encoding="utf-8"))
    assert head, f"{path.name} begins otherwise than with its title and its status"
    return Record(int(head["number"]), head["title"], path.name, head["status"])


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_each_record_begins_with_its_number_title_and_status(path: Path) -> None:
    record = read(path)

    assert path.name.startswith(f"{record.number:04d}-")
    assert _STATUS.fullmatch(record.status), record.status


def test_the_numbers_have_no_gap() -> None:
    assert [read(path).number for path in RECORDS] == list(range(1, len(RECORDS) + 1))


def test_the_index_lists_each_record_with_its_title_and_status() -> None:
    index = (FOLDER / "README.md").read_text(encoding="utf-8")

    listed = [Record(int(number), title, file, status) for number, title, file, status in _ROW.findall(index)]

    assert listed == [read(path) for path in RECORDS]


@pytest.mark.parametrize("relation", _COUNTERPART)
def test_an_amendment_is_named_by_both_records(relation: str) -> None:
    records = {record.number: record for record in map(read, RECORDS)}

    one_sided = {
        (record.number, other)
        for record in records.values()
        for other in record.named(relation)
        if record.number not in records[other].named(_COUNTERPART[relation])
    }

    assert not one_sided
