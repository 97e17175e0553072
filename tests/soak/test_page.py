"""docs/soak.md is made from the published result, so that its words and figures are those of the code and the run."""

from __future__ import annotations

import json
from pathlib import Path

from tests.soak import page

DOCS = Path(__file__).parents[2] / "docs"


def test_the_published_page_is_that_of_the_published_result() -> None:
    result = json.loads((DOCS / "soak" / "result.json").read_text(encoding="utf-8"))

    assert (DOCS / "soak.md").read_text(encoding="utf-8") == page.text(result, picture="soak/soak.svg")
