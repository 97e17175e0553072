"""docs/soak.md is made from the published results, so that its words and figures are those of the code and the runs."""

from __future__ import annotations

from pathlib import Path

from tests.soak import page

DOCS = Path(__file__).parents[2] / "docs"


def test_the_published_page_is_that_of_the_published_results() -> None:
    assert (DOCS / "soak.md").read_text(encoding="utf-8") == page.published(DOCS)
