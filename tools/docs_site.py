"""MkDocs hooks: the site of docs/ also has the documents outside docs/, and shows Markdown as the forge does.

Each document stands once in the repository. The site takes it from there, and its links are turned so that they lead to
the site's page. A file that is not a document is shown as a page of its own.
"""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path, PurePosixPath
from typing import Any

ROOT = Path(__file__).parent.parent
MERMAID_IN_SITE = "assets/mermaid.min.js"
# Documents outside docs/, and where the site has them.
ELSEWHERE = {
    "README.md": "start.md",
    "ARCHITECTURE.md": "architecture.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
    "clients/python/README.md": "clients/python.md",
    "clients/typescript/README.md": "clients/typescript.md",
    "envoy/README.md": "envoy/edge.md",
    "envoy/examples/protect/README.md": "envoy/protect.md",
}
SHOWN = {".py": "python", ".yaml": "yaml", ".proto": "protobuf", ".ts": "typescript"}
_OF_ANOTHER_HOST = re.compile(r'<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)="(?:https?:)?//[^"]*"')
IMAGES = {".svg", ".png"}
_FENCE = re.compile(r" *(`{3,})")
_LINK = re.compile(r"(?<=\]\()([^)\s#]+)(#[^)\s]*)?(?=\))")
_TYPED = re.compile(r'<span class="go">([a-z]+\$) (.*?)</span>')
_ITEM = re.compile(r" *(?:[-*+]|\d+[.)]) ")


# Where things are


def in_repository(page: str) -> str:
    """Returns the path in the repository of a page of the site."""
    return next((path for path, shown in ELSEWHERE.items() if shown == page), f"docs/{page}")


def in_site(path: str) -> str | None:
    """Returns where the site has a file of the repository, or None if it does not have it."""
    if path in ELSEWHERE:
        return ELSEWHERE[path]
    if path.startswith("docs/"):
        inside = path.removeprefix("docs/")
        return f"{inside}/README.md" if (ROOT / path).is_dir() else inside
    target = ROOT / path
    if target.suffix in IMAGES:
        return path
    return f"source/{path}.md" if target.suffix in SHOWN or target.is_dir() else None


def pages_of(folder: str) -> list[str]:
    """Returns the pages of a folder of docs/, its introduction first."""
    pages = sorted((ROOT / "docs" / folder).glob("*.md"), key=lambda path: (path.name != "README.md", path.name))
    return [f"{folder}{page.name}" for page in pages]


def listing(path: str) -> str:
    """Returns the Markdown that shows a file, or all sources of a folder."""
    target = ROOT / path
    if target.is_dir():
        files = [file for file in sorted(target.iterdir()) if file.suffix in SHOWN]
        parts = [f"## {file.name}\n\n{_fenced(file)}" for file in files]
    else:
        parts = [_fenced(target)]
    return "\n".join([f"# {path}\n", *parts])


def _fenced(file: Path) -> str:
    return f"````{SHOWN[file.suffix]}\n{file.read_text(encoding='utf-8').rstrip()}\n````\n"


# What Markdown says


def prose(lines: list[str]) -> list[bool]:
    """Returns for each line whether it is outside fenced code."""
    outside, opened = [], ""
    for line in lines:
        fence = _FENCE.match(line)
        outside.append(not opened and not fence)
        if fence and not opened:
            opened = fence[1]
        elif fence and len(fence[1]) >= len(opened):
            opened = ""
    return outside


def turned(markdown: str, page: str) -> tuple[str, set[str]]:
    """Returns the page's Markdown with links that lead within the site, and the files of the repository it leads to."""
    here, found = in_repository(page), set()

    def turn(link: re.Match[str]) -> str:
        if "://" in link[1] or link[1].startswith("mailto:"):
            return link[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(here), link[1]))
        target = in_site(path)
        if target is None:
            return link[0]
        found.add(path)
        return posixpath.relpath(target, posixpath.dirname(page) or ".") + (link[2] or "")

    lines = markdown.split("\n")
    shown = [_LINK.sub(turn, line) if outside else line for line, outside in zip(lines, prose(lines), strict=True)]
    return "\n".join(shown), found


def separated(markdown: str) -> str:
    """Returns the Markdown with a blank line before each list and table that follows a paragraph at once.

    CommonMark lets them interrupt a paragraph, but Python-Markdown makes them a part of it.
    """
    lines = markdown.split("\n")
    made: list[str] = []
    in_list = False
    for line, outside in zip(lines, prose(lines), strict=True):
        before = made[-1] if made else ""
        item, row = bool(_ITEM.match(line)), line.lstrip().startswith("|")
        in_paragraph = bool(before.strip()) and not before.startswith("#")
        starts_list = item and not in_list
        starts_table = row and not before.lstrip().startswith("|")
        if outside and in_paragraph and (starts_list or starts_table):
            made.append("")
        in_list = outside and (item or (in_list and bool(line.strip()) and not row))
        made.append(line)
    return "\n".join(made)


# What MkDocs calls


def on_config(config: Any) -> Any:
    """Lists the pages of the folders that the navigation names, and takes two spaces as one level of a list."""
    from markdown.extensions import Extension

    class TwoSpaces(Extension):
        def extendMarkdown(self, md: Any) -> None:
            md.tab_length = 2
            md.build_parser()  # Its parts keep the length that they were made with.

    # It goes before all other extensions, or their additions to the parser would be lost.
    config.markdown_extensions.insert(0, TwoSpaces())
    config.nav = _with_folders(config.nav)
    return config


def _with_folders(entry: Any) -> Any:
    if isinstance(entry, list):
        return [_with_folders(inner) for inner in entry]
    if isinstance(entry, dict):
        return {title: _with_folders(inner) for title, inner in entry.items()}
    return pages_of(entry) if entry.endswith("/") else entry


def on_files(files: Any, config: Any) -> Any:
    """Adds the documents that lie elsewhere, what they and the others lead to, and Mermaid."""
    from mkdocs.structure.files import File

    for path, page in ELSEWHERE.items():
        if (ROOT / path).exists():
            files.append(File.generated(config, page, abs_src_path=str(ROOT / path)))
    linked: set[str] = set()
    for file in files.documentation_pages():
        linked |= turned(file.content_string, file.src_uri)[1]
    for path in sorted(linked):
        target = in_site(path)
        if target is None or files.get_file_from_path(target) or not (ROOT / path).exists():
            continue
        made = (
            {"abs_src_path": str(ROOT / path)} if PurePosixPath(path).suffix in IMAGES else {"content": listing(path)}
        )
        files.append(File.generated(config, target, **made))
    files.append(File.generated(config, MERMAID_IN_SITE, abs_src_path=str(ROOT / os.environ["MERMAID"])))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turns links, and separates lists and tables from paragraphs."""
    return separated(turned(markdown, page.file.src_uri)[0])


def on_page_content(html: str, page: Any, **_: Any) -> str:
    """Marks the commands of a session, and loads Mermaid on pages with a diagram.

    The theme would ask another host for Mermaid.
    """
    html = _TYPED.sub(r'<span class="gp">\1</span> <strong>\2</strong>', html)
    if '<pre class="mermaid">' not in html:
        return html
    script = posixpath.relpath(MERMAID_IN_SITE, page.url or ".")
    return f'{html}\n<script src="{script}"></script>'


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """Refuses a page that would load anything from another host."""
    from mkdocs.exceptions import PluginError

    if found := _OF_ANOTHER_HOST.search(output):
        raise PluginError(f"{page.file.src_uri} asks another host: {found[0]}")
    return output
