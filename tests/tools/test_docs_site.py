"""The site of the documents has each of them, with links that lead within it, and reads Markdown as the forge does."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import docs_site  # noqa: E402

NAVIGATION = re.findall(r"^ +- (?:.+: )?([\w./-]+(?:\.md|/))$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)


def test_the_navigation_has_every_document() -> None:
    documents = [path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "docs").rglob("*.md"))]
    documents += [path for path in docs_site.ELSEWHERE if (ROOT / path).exists()]
    pages = {docs_site.in_site(path) for path in documents}

    folders = [entry for entry in NAVIGATION if entry.endswith("/")]
    listed = {*NAVIGATION, *(page for folder in folders for page in docs_site.pages_of(folder))} - {*folders}

    assert pages - listed == set()
    assert listed - pages == set()


@pytest.mark.parametrize(
    ("page", "link", "shown"),
    [
        ("concepts.md", "adr/0001-x.md#context", "adr/0001-x.md#context"),
        ("adr/0001-x.md", "../concepts.md", "../concepts.md"),
        ("guides/tokens.md", "../../clients/python/README.md#guards", "../clients/python.md#guards"),
        ("clients/python.md", "../../examples/guards", "../source/examples/guards.md"),
        ("start.md", "docs/guides/policies.md", "guides/policies.md"),
        ("start.md", "ARCHITECTURE.md", "architecture.md"),
        ("architecture.md", "docs/adr", "adr/README.md"),
        ("operating.md", "../envoy/envoy.yaml", "source/envoy/envoy.yaml.md"),
        ("benchmarks.md", "../bench/results/rest.svg", "bench/results/rest.svg"),
        ("concepts.md", "#who", "#who"),
        ("concepts.md", "https://cel.dev/x", "https://cel.dev/x"),
    ],
)
def test_a_link_leads_to_the_page_of_the_site(page: str, link: str, shown: str) -> None:
    markdown, _ = docs_site.turned(f"See [it]({link}), and\n```\n[it]({link})\n```", page)

    assert markdown == f"See [it]({shown}), and\n```\n[it]({link})\n```"


def test_a_file_that_is_linked_to_is_shown() -> None:
    _, linked = docs_site.turned("[one](../../examples/guards), [two](../../envoy/tls.yaml)", "guides/x.md")

    assert linked == {"examples/guards", "envoy/tls.yaml"}
    assert docs_site.listing("envoy/tls.yaml").startswith("# envoy/tls.yaml\n\n````yaml\n")
    assert "## orders_http.py\n\n````python\n" in docs_site.listing("examples/guards")


@pytest.mark.parametrize(
    ("markdown", "read"),
    [
        ("Two:\n- a\n- b", "Two:\n\n- a\n- b"),
        ("- a\n  goes on\n- b", "- a\n  goes on\n- b"),
        ("- a\n  - within", "- a\n  - within"),
        ("Two:\n1. a\n2. b", "Two:\n\n1. a\n2. b"),
        ("# Two\n- a", "# Two\n- a"),
        ("Rows:\n| a |\n| - |\n| 1 |", "Rows:\n\n| a |\n| - |\n| 1 |"),
        ("```\ncode\n- no item\n```\n- a", "```\ncode\n- no item\n```\n\n- a"),
        ("````\n```\ntext\n- no item\n````", "````\n```\ntext\n- no item\n````"),
    ],
)
def test_a_list_or_table_may_follow_a_paragraph_at_once(markdown: str, read: str) -> None:
    assert docs_site.separated(markdown) == read
