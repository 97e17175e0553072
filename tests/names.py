"""The names of docs/names.md, with what becomes of each."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Final, NamedTuple

PAGE: Final = Path(__file__).parent.parent / "docs" / "names.md"
_ROW: Final = re.compile(r"\| (?P<kind>[a-z ]+) \| `(?P<name>\".*\")` \| (?P<outcome>.+) \|")
_MANY: Final = re.compile(r"\[(.+)…×([0-9]+)\]")
_OTHERWISE: Final = re.compile(r"accepted as `(.+)`")


class Example(NamedTuple):
    """A name of one kind; it becomes `canonical`, or is refused with a message that has `fault` in it."""

    kind: str
    name: str
    canonical: str
    fault: str

    def __str__(self) -> str:
        return f"{self.kind}-{self.name[:40]!a}"


def examples() -> list[Example]:
    """Returns all of them, in their order."""
    rows = filter(None, map(_ROW.fullmatch, PAGE.read_text(encoding="utf-8").splitlines()))
    return [_example(row["kind"], _text(row["name"]), row["outcome"]) for row in rows]


def _example(kind: str, name: str, outcome: str) -> Example:
    if outcome == "accepted":
        return Example(kind, name, name, "")
    if otherwise := _OTHERWISE.fullmatch(outcome):
        return Example(kind, name, _text(otherwise[1]), "")
    verdict, fault = outcome.split(": ", 1)
    assert verdict == "refused", outcome
    return Example(kind, name, "", fault)


def _text(quoted: str) -> str:
    text: str = json.loads(quoted)
    return _MANY.sub(lambda found: found[1] * int(found[2]), text)
